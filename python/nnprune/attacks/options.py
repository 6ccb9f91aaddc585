"""Which attacks to run, and how strong: frozen options, checked when they are made."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from fractions import Fraction
from typing import Any, ClassVar, Literal

from nnprune.errors import ConfigError

__all__ = ["FGSM", "PGD", "Attack", "AutoPGD", "Square", "attack_named", "attack_to_dict"]

_LARGEST_COUNT = 1_000_000


@dataclass(frozen=True)
class FGSM:
    """Fast gradient sign method: one step of size epsilon along the gradient's sign.

    Goodfellow, Shlens and Szegedy, arXiv 1412.6572; the main paper's attack (arXiv 2204.00783,
    eq. 1). One gradient serves all epsilons.

    Attributes
    ----------
    epsilons : float or sequence of float
        Largest change of an input feature, in the input's own units.
    paper_code : bool, default False
        Do as the paper's code does: a zero gradient counts as positive, and the result is clipped
        to [-1, 1] instead of the input box.

    Raises
    ------
    ConfigError
        An epsilon is negative or not finite.
    """

    kind: ClassVar[Literal["fgsm"]] = "fgsm"

    epsilons: tuple[float, ...]
    paper_code: bool = False

    def __init__(self, epsilons: float | Sequence[float], *, paper_code: bool = False) -> None:
        _set(self, epsilons=_epsilons(epsilons), paper_code=bool(paper_code))

    @property
    def label(self) -> str:
        """The name that figures carry."""
        return "FGSM (paper's code)" if self.paper_code else "FGSM"


@dataclass(frozen=True)
class PGD:
    """Projected gradient descent: FGSM steps, each taken back into the epsilon ball and the box.

    Madry et al., arXiv 1706.06083. With several restarts a sample is robust only if it withstands
    all of them.

    Attributes
    ----------
    epsilons : float or sequence of float
        Largest change of an input feature, in the input's own units.
    steps : int, default 7
        Gradient steps.
    step_size : float, optional
        Length of a step; by default a quarter of epsilon (2/255 for 8/255, as in the source), and
        with fewer than seven steps so much more that they lead as far together.
    random_start : bool, default True
        Start at a random point of the epsilon ball, not at the sample.
    restarts : int, default 1
        Runs from different random points.
    seed : int, default 0
        Seed of the random points; a sample's points do not depend on the batch size.

    Raises
    ------
    ConfigError
        An epsilon or the step size is out of range, or a number of steps or restarts below 1.
    """

    kind: ClassVar[Literal["pgd"]] = "pgd"

    epsilons: tuple[float, ...]
    steps: int = 7
    step_size: float | None = None
    random_start: bool = True
    restarts: int = 1
    seed: int = 0

    def __init__(
        self,
        epsilons: float | Sequence[float],
        *,
        steps: int = 7,
        step_size: float | None = None,
        random_start: bool = True,
        restarts: int = 1,
        seed: int = 0,
    ) -> None:
        if restarts != 1 and not random_start:
            raise ConfigError(
                "pgd: restarts without random_start would all be the same; use restarts=1"
            )
        _set(
            self,
            epsilons=_epsilons(epsilons),
            steps=_count("pgd: steps", steps),
            step_size=None if step_size is None else _positive("pgd: step_size", step_size),
            random_start=bool(random_start),
            restarts=_count("pgd: restarts", restarts),
            seed=_seed("pgd", seed),
        )

    @property
    def label(self) -> str:
        """The name that figures carry: PGD with its steps, and restarts if there are several."""
        return f"PGD-{self.steps}" + (f" x{self.restarts}" if self.restarts > 1 else "")


@dataclass(frozen=True)
class AutoPGD:
    """PGD that finds its step size by itself, through the Adversarial Robustness Toolbox.

    Croce and Hein, arXiv 2003.01690. Needs the extra `attacks` and the TensorFlow backend.

    Attributes
    ----------
    epsilons : float or sequence of float
        Largest change of an input feature, in the input's own units.
    loss : {"ce", "dlr"}, default "ce"
        Cross entropy, or the difference of logits ratio (three classes or more).
    steps : int, default 50
        Gradient steps.
    restarts : int, default 1
        Runs from different random points.
    seed : int, default 0
        Seed of the random points.
    """

    kind: ClassVar[Literal["auto_pgd"]] = "auto_pgd"

    epsilons: tuple[float, ...]
    loss: Literal["ce", "dlr"] = "ce"
    steps: int = 50
    restarts: int = 1
    seed: int = 0

    def __init__(
        self,
        epsilons: float | Sequence[float],
        *,
        loss: Literal["ce", "dlr"] = "ce",
        steps: int = 50,
        restarts: int = 1,
        seed: int = 0,
    ) -> None:
        if loss not in ("ce", "dlr"):
            raise ConfigError(f"auto_pgd: loss: expected 'ce' or 'dlr', got {loss!r}")
        _set(
            self,
            epsilons=_epsilons(epsilons),
            loss=loss,
            steps=_count("auto_pgd: steps", steps),
            restarts=_count("auto_pgd: restarts", restarts),
            seed=_seed("auto_pgd", seed),
        )

    @property
    def label(self) -> str:
        """The name that figures carry."""
        return f"AutoPGD-{self.steps} ({self.loss})"


@dataclass(frozen=True)
class Square:
    """Random search by squares, without gradients, through the Adversarial Robustness Toolbox.

    Andriushchenko et al., arXiv 1912.00049. Needs the extra `attacks` and the TensorFlow backend.
    Where it finds more than gradient attacks do, the model hides its gradients.

    Attributes
    ----------
    epsilons : float or sequence of float
        Largest change of an input feature, in the input's own units.
    queries : int, default 500
        Evaluations of the model a sample.
    restarts : int, default 1
        Runs from different random points.
    seed : int, default 0
        Seed of the search.
    """

    kind: ClassVar[Literal["square"]] = "square"

    epsilons: tuple[float, ...]
    queries: int = 500
    restarts: int = 1
    seed: int = 0

    def __init__(
        self,
        epsilons: float | Sequence[float],
        *,
        queries: int = 500,
        restarts: int = 1,
        seed: int = 0,
    ) -> None:
        _set(
            self,
            epsilons=_epsilons(epsilons),
            queries=_count("square: queries", queries),
            restarts=_count("square: restarts", restarts),
            seed=_seed("square", seed),
        )

    @property
    def label(self) -> str:
        """The name that figures carry."""
        return f"Square-{self.queries}"


Attack = FGSM | PGD | AutoPGD | Square

_KINDS: dict[str, type[Attack]] = {kind.kind: kind for kind in (FGSM, PGD, AutoPGD, Square)}


def attack_named(text: str) -> Attack:
    """Read an attack as the command line writes it: `fgsm:0.01,0.05`, `pgd:8/255,steps=20`.

    Parameters
    ----------
    text : str
        The kind, a colon, epsilons and `name=value` pairs separated by commas.

    Raises
    ------
    ConfigError
        The kind or an option is not known, or a value is out of range.
    """
    name, _, rest = text.partition(":")
    kind = _KINDS.get(name.strip().lower().replace("-", "_"))
    if kind is None:
        raise ConfigError(
            f"attack: expected {', '.join(_KINDS)} and epsilons, as in fgsm:0.01,0.05; got '{text}'"
        )
    words = [word.strip() for word in rest.split(",") if word.strip()]
    epsilons = [_number(text, word) for word in words if "=" not in word]
    if not epsilons:
        raise ConfigError(f"attack: '{text}' names no epsilon; write {kind.kind}:0.01,0.05")
    known = {field.name: str(field.type) for field in fields(kind)}
    options = {}
    for word in words:
        option, equals, value = (part.strip() for part in word.partition("="))
        if not equals:
            continue
        if option not in known or option == "epsilons":
            raise ConfigError(
                f"attack: '{text}': unknown option '{option}'; known: "
                f"{', '.join(set(known) - {'epsilons'})}"
            )
        options[option] = _value(text, known[option], value)
    return kind(epsilons, **options)


def attack_to_dict(attack: Attack) -> dict[str, Any]:
    """Return the options besides the epsilons, as JSON has them."""
    return {name: value for name, value in asdict(attack).items() if name != "epsilons"}


def _value(text: str, kind: str, word: str) -> Any:
    if kind == "bool":
        if word.lower() not in ("true", "false"):
            raise ConfigError(f"attack: '{text}': expected true or false, got '{word}'")
        return word.lower() == "true"
    if kind == "int":
        try:
            return int(word)
        except ValueError:
            raise ConfigError(f"attack: '{text}': expected an integer, got '{word}'") from None
    return _number(text, word) if kind.startswith("float") else word


def _number(text: str, word: str) -> float:
    try:
        # Not all by Fraction: it would write 1e-999999999 out.
        return float(Fraction(word)) if "/" in word else float(word)
    except (ValueError, ZeroDivisionError, OverflowError):
        raise ConfigError(
            f"attack: '{text}': expected a number such as 0.05 or 8/255, got '{word}'"
        ) from None


def _set(options: Any, **values: Any) -> None:
    for name, value in values.items():
        object.__setattr__(options, name, value)  # the class is frozen


def _epsilons(given: float | Sequence[float]) -> tuple[float, ...]:
    """Check epsilons; sorted, each once."""
    try:
        numbers = [given] if isinstance(given, int | float) else list(given)
        epsilons = sorted({float(number) for number in numbers})
    except (TypeError, ValueError):
        raise ConfigError(f"epsilons: expected numbers, got {given!r}") from None
    if not epsilons:
        raise ConfigError("epsilons: expected at least one")
    for epsilon in epsilons:
        if not (math.isfinite(epsilon) and epsilon >= 0.0):
            raise ConfigError(f"epsilons: must be finite and not negative, got {epsilon}")
    return tuple(epsilons)


def _count(name: str, value: int) -> int:
    number = _integer(name, value)
    if not 1 <= number <= _LARGEST_COUNT:
        raise ConfigError(f"{name}: expected an integer from 1 to {_LARGEST_COUNT}, got {value!r}")
    return number


def _seed(name: str, value: int) -> int:
    number = _integer(f"{name}: seed", value)
    if not 0 <= number < 2**64:
        raise ConfigError(f"{name}: seed: expected an integer from 0 to 2**64 - 1, got {value!r}")
    return number


def _integer(name: str, value: Any) -> int:
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise ConfigError(f"{name}: expected an integer, got {value!r}")
    return int(value)


def _positive(name: str, value: float) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise ConfigError(f"{name}: expected a number, got {value!r}") from None
    if not (math.isfinite(number) and number > 0.0):
        raise ConfigError(f"{name}: must be finite and above 0, got {value!r}")
    return number
