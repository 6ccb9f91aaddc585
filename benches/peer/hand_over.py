"""Hand a model to the public implementation: its layers as JSON, its weights as .npz.

Runs in this project's environment. Keras 2, which the other side needs, cannot read files of
Keras 3, so that it rebuilds the network from these two; 100 inputs and this side's outputs go with
them, for it to check that it has the same network.

    python benches/peer/hand_over.py mnist [creditcard ...] [--out build/peer]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

ROOT = Path(__file__).resolve().parents[2]
MODELS = ROOT / "benches" / "models"
CHECKS = 100

# What the other side needs to know of each kind of layer.
SETTINGS: dict[str, tuple[str, ...]] = {
    "Flatten": (),
    "Dense": ("units", "activation"),
    "Conv2D": ("filters", "kernel_size", "strides", "padding", "activation"),
    "MaxPooling2D": ("pool_size", "strides", "padding"),
}


def layers_of(model: keras.Model) -> list[dict[str, Any]]:
    """Describe the layers of a Sequential model in order.

    Raises
    ------
    ValueError
        The model is not Sequential, or has a layer of another kind.
    """
    if not isinstance(model, keras.Sequential):
        raise ValueError(f"{model.name}: only Sequential models can be handed over")
    layers = []
    for layer in model.layers:
        kind = type(layer).__name__
        if kind not in SETTINGS:
            raise ValueError(f"{model.name}: layer {layer.name}: a {kind} cannot be handed over")
        config = layer.get_config()
        layers.append(
            {"kind": kind, "name": layer.name}
            | {setting: config[setting] for setting in SETTINGS[kind]}
        )
    return layers


def arrays_of(model: keras.Model, lower: Any, upper: Any) -> dict[str, Any]:
    """Return all weights, named `<layer>/<index>`, and inputs from the box with their outputs."""
    random = np.random.default_rng(0)
    inputs = random.uniform(lower, upper, (CHECKS, *model.input_shape[1:]))
    # Noise all over the box saturates the head, which would hide differences: some is fainter.
    strength = np.linspace(0.0, 1.0, CHECKS).reshape(-1, *[1] * (inputs.ndim - 1))
    inputs = (np.clip(0.0, lower, upper) * (1 - strength) + inputs * strength).astype(np.float32)
    weights = {
        f"{layer.name}/{index}": weight
        for layer in model.layers
        for index, weight in enumerate(layer.get_weights())
    }
    outputs = keras.ops.convert_to_numpy(model(inputs))
    return weights | {"check/inputs": inputs, "check/outputs": outputs}


def hand_over(name: str, folder: Path) -> None:
    """Write ``<name>.json`` and ``<name>.npz`` into a folder."""
    path = MODELS / f"{name}.keras"
    model = keras.saving.load_model(path, compile=False)
    with np.load(MODELS / f"{name}_box.npz") as box:
        arrays = arrays_of(model, box["lower"], box["upper"])
    description = {
        "kind": "nnprune-peer-model",
        "name": name,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "input_shape": model.input_shape[1:],
        "parameters": model.count_params(),
        "layers": layers_of(model),
    }
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / f"{name}.npz", **arrays)
    (folder / f"{name}.json").write_text(json.dumps(description, indent=2) + "\n")


def main() -> None:
    """Hand over the models named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("models", nargs="+", metavar="MODEL", help="its name in benches/models")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "peer")
    options = parser.parse_args()
    for name in options.models:
        hand_over(name, options.out)
        print(options.out / f"{name}.json")


if __name__ == "__main__":
    main()
