"""The README's example runs as it is written."""

from __future__ import annotations

import re
from pathlib import Path

import keras
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]


def test_the_example_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    block = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert block is not None
    code = block.group(1)
    assert len(code.strip().splitlines()) <= 15
    monkeypatch.chdir(tmp_path)
    model = keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(8, activation="relu"),
            keras.layers.Dense(3, activation="softmax"),
        ]
    )
    model.save("model.keras")
    random = np.random.default_rng(0)
    np.savez("test.npz", x=random.random((20, 6)), y=random.integers(0, 3, 20))
    names: dict[str, object] = {}
    exec(compile(code, "README.md", "exec"), names)
    smaller = keras.saving.load_model("small.keras")
    assert smaller.layers[0].units == 4
    lower, upper = names["lower"], names["upper"]
    assert isinstance(lower, list)
    assert isinstance(upper, list)
    assert len(lower) == len(upper) == 3
    assert "4 units" in capsys.readouterr().out
    assert "FGSM" in Path("report.html").read_text(encoding="utf-8")
