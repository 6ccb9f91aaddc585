"""How pairs are chosen: the strategies and their parameters.

The options only carry values; the compiled core is the one judge of what is in range, and
`prune` asks it before any work is done.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

__all__ = [
    "Annealing",
    "Elimination",
    "Greedy",
    "Method",
    "OneShot",
    "method_named",
    "method_to_dict",
]


@dataclass(frozen=True, kw_only=True)
class Annealing:
    """Simulated annealing led by the energy of a pair's impact: the paper's method.

    Meng et al., arXiv 2204.00783, Algorithm 1 and equations 5 to 9; what it leaves open is
    settled in `docs/method.md`.

    Attributes
    ----------
    alpha : float, default 0.75
        Weight of the impact's size against its evenness, in [0, 1].
    similarity : float, default 0.9
        From which similarity on two outputs' impacts count as alike (phi), in [0, 1].
    density : {"inclusive", "printed"}, default "inclusive"
        Whether an output counts among those similar to itself; "printed" is eq. 6 to the letter.
    normalization : {"scaled", "none"}, default "scaled"
        The size term: of the pair's own impact relative to a typical one, or the logistic
        function of the whole impact as printed, which saturates at 1.
    impact : {"interval", "distance", "moment"}, default "interval"
        What is taken for the change of a unit's value when its pair is merged: its interval over
        all inputs, the distance of the incoming weights, or its root mean square over inputs
        drawn evenly from the box.
    pool : int, default 4
        Candidates scored per unit to remove; 1 is the paper's line 6.
    rewalks : int, default 1
        Further walks over rejected candidates before the best of them are taken.
    restart : {"never", "visit"}, default "never"
        When the last accepted energy is forgotten; "visit" is the paper's line 5.
    """

    name: ClassVar[str] = "annealing"

    alpha: float = 0.75
    similarity: float = 0.9
    density: Literal["inclusive", "printed"] = "inclusive"
    normalization: Literal["scaled", "none"] = "scaled"
    impact: Literal["interval", "distance", "moment"] = "interval"
    pool: int = 4
    rewalks: int = 1
    restart: Literal["never", "visit"] = "never"


@dataclass(frozen=True, kw_only=True)
class Greedy:
    """The pairs of least impact among the least salient ones.

    Attributes
    ----------
    impact : {"interval", "distance", "moment"}, default "interval"
        What is taken for the change of a unit's value when its pair is merged: its interval over
        all inputs, the distance of the incoming weights, or its root mean square over inputs
        drawn evenly from the box.
    pool : int, default 4
        Candidates scored per unit to remove.
    """

    name: ClassVar[str] = "greedy"

    impact: Literal["interval", "distance", "moment"] = "interval"
    pool: int = 4


@dataclass(frozen=True, kw_only=True)
class OneShot:
    """The original saliency order, all at once (Srinivas and Babu, 2015): the baseline."""

    name: ClassVar[str] = "one_shot"


@dataclass(frozen=True, kw_only=True)
class Elimination:
    """The optimal brain surgeon's backward order, for least squares only.

    Unit after unit goes whose removal costs the refitted next layers least (Hassibi and Stork,
    1993), by the original's statistics: of two sizes the smaller keeps a part of the larger's.
    """

    name: ClassVar[str] = "elimination"


Method = Annealing | Greedy | OneShot | Elimination


def method_named(name: str) -> type[Method]:
    """Return the strategy that the command line calls `name`.

    Raises
    ------
    KeyError
        There is none.
    """
    return {
        "annealing": Annealing,
        "greedy": Greedy,
        "one-shot": OneShot,
        "elimination": Elimination,
    }[name]


def method_to_dict(method: Method) -> dict[str, Any]:
    """Return the strategy's name and parameters, as the core reads them and as JSON has them."""
    return {"name": method.name, **asdict(method)}
