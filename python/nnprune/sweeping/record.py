"""What a sweep keeps of one pruning, as a frozen record and as a line of JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from nnprune.metrics.classification import Proportion
from nnprune.options import Method, method_to_dict
from nnprune.result import finite
from nnprune.sweeping.grid import GridPoint, method_from_dict, method_label
from nnprune.trace import RobustInstances

__all__ = ["Cell", "cell_from_dict"]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One pruning of a sweep, or its original: what it was, and what came of it.

    Attributes
    ----------
    cell : str
        SHA-256 over model, samples, all options and this cell's place in the grid.
    target : float
        Fraction of each layer's units to remove; 0 for the original.
    seed : int or None
        Seed of the random stream; None for the original.
    method : Annealing, Greedy, OneShot or None
        How pairs were chosen; None for the original.
    status : {"done", "failed"}
        Whether there are figures; those of a failed cell are None.
    error : str or None
        Why it failed, in one line.
    seconds : float
        Wall-clock time of pruning and measuring.
    engine_seconds : float or None
        CPU time of the engine.
    parameters, macs : int or None
        Numbers in all weights; multiply-accumulates of one evaluation.
    keras_bytes : int or None
        Size of the model's `.keras` file; None where the format cannot hold it.
    accuracy : Proportion or None
        Samples classified correctly; None without samples.
    agreement : Proportion or None
        Samples classified as by the original; None for the original itself.
    robust : tuple of RobustInstances
        Samples classified correctly both before and after an attack, for each of its epsilons.
    impact_width : float or None
        The widest interval of a logit's change over the whole input box; None where it has no
        bound.
    stopped_by : str or None
        Why the pruning ended.
    kernel_path : str or None
        Which matrix kernels the processor ran.
    weights_sha256 : str or None
        Fingerprint of all weights.
    model : str or None
        Name of the model's file, where models are kept.
    """

    cell: str
    target: float
    seed: int | None
    method: Method | None
    status: Literal["done", "failed"]
    error: str | None = None
    seconds: float
    engine_seconds: float | None = None
    parameters: int | None = None
    macs: int | None = None
    keras_bytes: int | None = None
    accuracy: Proportion | None = None
    agreement: Proportion | None = None
    robust: tuple[RobustInstances, ...] = ()
    impact_width: float | None = None
    stopped_by: str | None = None
    kernel_path: str | None = None
    weights_sha256: str | None = None
    model: str | None = None

    @property
    def done(self) -> bool:
        """Whether there are figures."""
        return self.status == "done"

    @property
    def label(self) -> str:
        """The method's name, with parameters that are not the usual ones, or "original"."""
        return method_label(self.method)

    @property
    def point(self) -> GridPoint:
        """Its place in the grid."""
        return GridPoint(target=self.target, seed=self.seed, method=self.method)

    @property
    def least_robust(self) -> Proportion | None:
        """Robust instances under the attack and epsilon that leave the fewest; None without."""
        return min((one.instances for one in self.robust), key=lambda one: one.value, default=None)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values; numbers that JSON does not have become None."""
        method = None if self.method is None else method_to_dict(self.method)
        plain: dict[str, Any] = finite({**asdict(self), "method": method})
        return plain


def cell_from_dict(values: Mapping[str, Any]) -> Cell:
    """Make the record that `Cell.to_dict` has described.

    Raises
    ------
    KeyError, TypeError, ValueError
        It is none.
    """
    if set(values) != {field.name for field in fields(Cell)}:
        raise ValueError("not the fields of a cell")
    if values["status"] not in ("done", "failed") or not isinstance(values["cell"], str):
        raise ValueError("no cell has such a status or identifier")
    method = values["method"]
    return Cell(
        **{
            **values,
            "method": None if method is None else method_from_dict(method),
            "accuracy": _proportion(values["accuracy"]),
            "agreement": _proportion(values["agreement"]),
            "robust": tuple(
                RobustInstances(**{**one, "instances": Proportion(**one["instances"])})
                for one in values["robust"]
            ),
        }
    )


def _proportion(values: Mapping[str, Any] | None) -> Proportion | None:
    return None if values is None else Proportion(**values)
