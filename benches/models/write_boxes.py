"""Write the box of legitimate inputs of each of the papers' models: ``<model>_box.npz``.

Each holds ``lower`` and ``upper`` of the input's shape, as `nnprune.prune(..., input_bounds=...)`
and ``nnprune prune --input-bounds`` take them. Reads no data and no model.
"""

from pathlib import Path

import datasets
import numpy as np

HERE = Path(__file__).resolve().parent
IMAGES = {"mnist": (28, 28), "cifar10": (32, 32, 3), "lenet300": (28, 28)}
TABLES = {"creditcard": "creditcard", "kdd": "kddcup99"}


def main() -> None:
    """Write the five files."""
    boxes = {
        name: (np.zeros(shape, np.float32), np.ones(shape, np.float32))
        for name, shape in IMAGES.items()
    } | {name: datasets.table_box(table) for name, table in TABLES.items()}
    for name, (lower, upper) in boxes.items():
        path = HERE / f"{name}_box.npz"
        np.savez_compressed(path, lower=lower, upper=upper)
        print(f"{path.name:<20}{lower.shape!s:<16}[{lower.min():g}, {upper.max():g}]")


if __name__ == "__main__":
    main()
