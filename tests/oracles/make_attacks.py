"""Attack the demo's digits model with three published libraries and record what they make.

Writes `attacks.npz` beside this file; `README.md` says what is in it. Needs an environment of its
own, for two of the libraries are no longer maintained:

    pip install "keras>=3.15.1" "tensorflow>=2.21" "adversarial-robustness-toolbox>=1.20,<2" \
        multiprocess gitpython
    pip install --no-deps cleverhans==4.0.0 foolbox==3.3.4 eagerpy==0.30.0

Nothing of nnprune is imported. The tests read only the file written.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["CUDA_VISIBLE_DEVICES"] = ""  # the processor's arithmetic, as in the tests

import foolbox  # type: ignore[import-not-found]
import keras
import numpy as np
import tensorflow as tf
from art.attacks.evasion import (
    AutoProjectedGradientDescent,
    FastGradientMethod,
    ProjectedGradientDescent,
    SquareAttack,
)
from art.estimators.classification import TensorFlowV2Classifier
from cleverhans.tf2.attacks.fast_gradient_method import (  # type: ignore[import-not-found]
    fast_gradient_method,
)
from cleverhans.tf2.attacks.projected_gradient_descent import (  # type: ignore[import-not-found]
    projected_gradient_descent,
)
from numpy.typing import NDArray

# Removed in NumPy 2; eagerpy, and so foolbox, still calls it.
np.find_common_type = lambda arrays, _scalars: np.result_type(*arrays)  # type: ignore[attr-defined]

HERE = Path(__file__).resolve().parent
FILES = HERE.parents[1] / "python" / "nnprune" / "demo_files"
PACKAGES = (
    "adversarial-robustness-toolbox",
    "cleverhans",
    "eagerpy",
    "foolbox",
    "keras",
    "numpy",
    "tensorflow",
)

STORED = 96  # images whose adversarial inputs are kept
EPSILONS = (0.05, 0.1)
EPSILON, STEPS, STEP_SIZE = 0.1, 7, 0.025
SEEDS = range(5)
AUTO_PGD_STEPS = 50
ITERATIONS = 500  # of Square

Floats = NDArray[np.float32]
Labels = NDArray[np.int64]
# (x, y, epsilon) -> adversarial inputs
Attack = Callable[[Floats, Labels, float], Floats]


def logits_of(model: keras.Model, dtype: str) -> keras.Model:
    """Return a copy of the dense layers that computes in `dtype`, without the softmax."""
    dense = [layer for layer in model.layers if isinstance(layer, keras.layers.Dense)]
    copies = [
        keras.layers.Dense(
            layer.units,
            activation="linear" if layer is dense[-1] else layer.activation,
            dtype=dtype,
        )
        for layer in dense
    ]
    logits = keras.Sequential([keras.Input(model.input_shape[1:]), *copies])
    for copy, layer in zip(copies, dense, strict=True):
        copy.set_weights(layer.get_weights())
    return logits


def classifier(
    model: Any, shape: tuple[int, ...], classes: int, dtype: str
) -> TensorFlowV2Classifier:
    """Wrap a model that gives logits for the Adversarial Robustness Toolbox."""
    return TensorFlowV2Classifier(
        model=model,
        nb_classes=classes,
        input_shape=shape,
        loss_object=keras.losses.SparseCategoricalCrossentropy(from_logits=True, dtype=dtype),
        clip_values=(0.0, 1.0),
    )


def one_step(model: keras.Model) -> dict[str, Attack]:
    """Return the FGSM of every library."""
    (features,), (classes,) = model.input_shape[1:], model.output_shape[1:]
    wrapped = classifier(model, (features,), classes, model.outputs[0].dtype)
    bounded = foolbox.TensorFlowModel(model, bounds=(0, 1), device="/CPU:0")

    def cleverhans_fgsm(x: Floats, y: Labels, epsilon: float) -> Floats:
        return np.asarray(
            fast_gradient_method(
                model, tf.constant(x), epsilon, np.inf, clip_min=0.0, clip_max=1.0, y=y
            )
        )

    def foolbox_fgsm(x: Floats, y: Labels, epsilon: float) -> Floats:
        attack = foolbox.attacks.LinfFastGradientAttack()
        return np.asarray(attack.run(bounded, tf.constant(x), tf.constant(y), epsilon=epsilon))

    def art_fgsm(x: Floats, y: Labels, epsilon: float) -> Floats:
        attack = FastGradientMethod(wrapped, eps=epsilon, eps_step=epsilon, batch_size=len(x))
        return np.asarray(attack.generate(x, y))

    return {"cleverhans": cleverhans_fgsm, "foolbox": foolbox_fgsm, "art": art_fgsm}


def many_steps(model: keras.Model, *, random_start: bool) -> dict[str, Attack]:
    """Return the PGD of every library."""
    (features,), (classes,) = model.input_shape[1:], model.output_shape[1:]
    wrapped = classifier(model, (features,), classes, model.outputs[0].dtype)
    bounded = foolbox.TensorFlowModel(model, bounds=(0, 1), device="/CPU:0")

    def cleverhans_pgd(x: Floats, y: Labels, epsilon: float) -> Floats:
        return np.asarray(
            projected_gradient_descent(
                model,
                tf.constant(x),
                epsilon,
                STEP_SIZE,
                STEPS,
                np.inf,
                clip_min=0.0,
                clip_max=1.0,
                y=y,
                rand_init=random_start,
            )
        )

    def foolbox_pgd(x: Floats, y: Labels, epsilon: float) -> Floats:
        attack = foolbox.attacks.LinfProjectedGradientDescentAttack(
            abs_stepsize=STEP_SIZE, steps=STEPS, random_start=random_start
        )
        return np.asarray(attack.run(bounded, tf.constant(x), tf.constant(y), epsilon=epsilon))

    def art_pgd(x: Floats, y: Labels, epsilon: float) -> Floats:
        attack = ProjectedGradientDescent(
            wrapped,
            eps=epsilon,
            eps_step=STEP_SIZE,
            max_iter=STEPS,
            num_random_init=int(random_start),
            batch_size=len(x),
            verbose=False,
        )
        return np.asarray(attack.generate(x, y))

    return {"cleverhans": cleverhans_pgd, "foolbox": foolbox_pgd, "art": art_pgd}


def stronger(model: keras.Model) -> dict[str, Attack]:
    """Return the attacks that only the Adversarial Robustness Toolbox has."""
    (features,), (classes,) = model.input_shape[1:], model.output_shape[1:]
    wrapped = classifier(model, (features,), classes, model.outputs[0].dtype)
    side = round(features**0.5)

    def on_images(images: Any, *, training: bool) -> Any:
        return model(tf.reshape(images, (-1, features)), training=training)

    def auto_pgd(loss: str) -> Attack:
        def attack(x: Floats, y: Labels, epsilon: float) -> Floats:
            method = AutoProjectedGradientDescent(
                wrapped,
                eps=epsilon,
                eps_step=2 * epsilon,
                max_iter=AUTO_PGD_STEPS,
                nb_random_init=1,
                batch_size=len(x),
                loss_type=loss,
                verbose=False,
            )
            return np.asarray(method.generate(x, y))

        return attack

    def square(x: Floats, y: Labels, epsilon: float) -> Floats:
        images = classifier(on_images, (side, side, 1), classes, model.outputs[0].dtype)
        method = SquareAttack(
            images,
            eps=epsilon,
            max_iter=ITERATIONS,
            nb_restarts=1,
            batch_size=len(x),
            verbose=False,
        )
        return np.asarray(method.generate(x.reshape(-1, side, side, 1), y)).reshape(x.shape)

    return {
        "auto_pgd_ce": auto_pgd("cross_entropy"),
        "auto_pgd_dlr": auto_pgd("difference_logits_ratio"),
        "square": square,
    }


def robust(model: keras.Model, attack: Attack, x: Floats, y: Labels) -> int:
    """Count the samples that are classified correctly before and after an attack."""
    correct = np.argmax(model(x), axis=1) == y
    attacked = attack(x, y, EPSILON)
    return int(np.sum(correct & (np.argmax(model(attacked), axis=1) == y)))


def counts(model: keras.Model, attack: Attack, x: Floats, y: Labels) -> list[int]:
    """Count the robust samples for every seed."""
    found = []
    for seed in SEEDS:
        keras.utils.set_random_seed(seed)  # of Python, NumPy and TensorFlow
        found.append(robust(model, attack, x, y))
    return found


def step_of_zero_gradient(attacks: dict[str, Attack]) -> dict[str, float]:
    """Measure how far every library moves a feature that the loss does not depend on.

    The attacks must be on `model_that_ignores_a_feature`.
    """
    x, y = np.full((1, 2), 0.5, np.float32), np.zeros(1, np.int64)
    return {name: float(attack(x, y, EPSILON)[0, 0] - 0.5) for name, attack in attacks.items()}


def model_that_ignores_a_feature() -> keras.Model:
    """Return a linear model of two features of which the first has weight zero."""
    dense = keras.layers.Dense(2)
    model = keras.Sequential([keras.Input((2,)), dense])
    dense.set_weights([np.array([[0.0, 0.0], [1.0, -1.0]]), np.zeros(2)])
    return model


def record(
    model: keras.Model, x: Floats, y: Labels, arrays: dict[str, Any], facts: dict[str, Any]
) -> None:
    """Add what the libraries make of one model: adversarial inputs, differences, robust counts."""
    dtype = model.outputs[0].dtype
    few, labels = x[:STORED], y[:STORED]
    difference: dict[str, dict[str, float]] = {}
    fgsm, pgd = one_step(model), many_steps(model, random_start=False)
    runs = [(f"fgsm_{epsilon}", fgsm, epsilon) for epsilon in EPSILONS] + [("pgd", pgd, EPSILON)]
    for name, attacks, epsilon in runs:
        made = {library: attack(few, labels, epsilon) for library, attack in attacks.items()}
        first = made["cleverhans"]
        difference[name] = {
            library: float(np.max(np.abs(inputs - first))) for library, inputs in made.items()
        }
        if max(difference[name].values()) != 0.0:  # keeping one of them would hide something
            raise SystemExit(f"{name}, {dtype}: the libraries differ: {difference[name]}")
        arrays[f"{name}_{dtype}"] = first
    starting = many_steps(model, random_start=True)
    facts[dtype] = {
        "correct": int(np.sum(np.argmax(model(x), axis=1) == y)),
        "largest_difference": difference,
        "fgsm_robust": {name: robust(model, attack, x, y) for name, attack in fgsm.items()},
        "pgd_robust": {name: robust(model, attack, x, y) for name, attack in pgd.items()},
        "pgd_robust_random_start": {
            name: counts(model, attack, x, y) for name, attack in starting.items()
        },
    }


def main() -> None:
    """Run the attacks, check what must agree, write the file and print a summary."""
    model = keras.saving.load_model(FILES / "digits.keras", compile=False)
    with np.load(FILES / "digits.npz") as data:
        x = data["x_test"].astype(np.float32) / 16
        y = data["y_test"].astype(np.int64)
    single, double = (logits_of(model, dtype) for dtype in ("float32", "float64"))
    arrays: dict[str, Any] = {
        "labels": y[:STORED].astype(np.uint8),
        "logits": np.asarray(double(x[:STORED])),
    }
    facts: dict[str, Any] = {
        "versions": {name: metadata.version(name) for name in PACKAGES},
        "model_sha256": hashlib.sha256((FILES / "digits.keras").read_bytes()).hexdigest(),
        "samples": len(x),
        "epsilon": EPSILON,
        "steps": STEPS,
        "step_size": STEP_SIZE,
        "seeds": list(SEEDS),
        "auto_pgd_steps": AUTO_PGD_STEPS,
        "square_iterations": ITERATIONS,
        "step_of_zero_gradient": step_of_zero_gradient(one_step(model_that_ignores_a_feature())),
    }
    for variant in (single, double):
        record(variant, x, y, arrays, facts)
    facts["stronger_robust"] = {
        name: counts(single, attack, x, y) for name, attack in stronger(single).items()
    }
    text = json.dumps(facts, indent=1)
    print(text)
    np.savez_compressed(HERE / "attacks.npz", facts=np.array(text), **arrays)


if __name__ == "__main__":
    main()
