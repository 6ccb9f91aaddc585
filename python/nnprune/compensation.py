"""How what is lost with removed units is made up for: the rules and their parameters.

The options only carry values; `prune` has them judged before any work is done.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

from nnprune.errors import ConfigError
from nnprune.synthetic.sources import DEFAULT, Source, source_named, source_to_dict

__all__ = [
    "Compensation",
    "LeastSquares",
    "Moments",
    "Polish",
    "Scaled",
    "Sum",
    "compensation_of",
    "compensation_to_dict",
    "polish_of",
    "polish_to_dict",
    "require_count",
    "require_number",
    "source_of",
    "statistics_of",
]


@dataclass(frozen=True, kw_only=True)
class Sum:
    """The delegate's outgoing weights become the sum of both units': the paper's rule."""

    name: ClassVar[str] = "sum"


@dataclass(frozen=True, kw_only=True)
class Scaled:
    """The most similar kept unit takes the removed one's outgoing weights, times a ratio of norms.

    Neuron Merging (Kim et al., NeurIPS 2020), with a BatchNormalization between folded into the
    incoming weights first; `docs/method.md` has the formula. The method decides which units stay.

    Attributes
    ----------
    threshold : float, default 0.45
        A unit whose incoming weights' cosine with those of all kept ones is less just goes, in
        [-1, 1].
    """

    name: ClassVar[str] = "scaled"

    threshold: float = 0.45


@dataclass(frozen=True, kw_only=True)
class Moments:
    """No inputs at all: means and covariances of units as if all were Gaussian, from the input box.

    For networks of dense layers. A BatchNormalization gives its units the mean and variance that it
    has stored (Nagel et al., ICCV 2019), which is what makes these moments worth having;
    activations have exact means and variances, and covariances by the series of Wright, Nakahira
    and Moura (AISTATS 2024).

    Attributes
    ----------
    correlation : float, default 0
        Pixels over which the correlation of an image's elements falls to 1/e, in [0, 1000]; 0 for
        none.
    """

    name: ClassVar[str] = "moments"

    correlation: float = 0.0


@dataclass(frozen=True, kw_only=True)
class LeastSquares:
    """Every removed unit re-expressed by all that are kept, folded into the next layers' weights.

    Attributes
    ----------
    source : str, Moments or a source of `nnprune.synthetic`, optional
        Where the inputs come from that the fit is made on, or "moments" for a fit without any; not
        read with `representative_inputs`.
    samples : int, default 4000
        Number of these inputs. To find them by gradient costs as much as eleven passes through the
        network for each: for models of more than some ten million multiplications fewer, or
        another source, take far less time.
    ridge : float, default 1e-2
        Added to the diagonals of the systems, relative to their mean, in [0, 1000]; raised tenfold
        where a system is singular.
    selection_ridge : float, default 1e-3
        The same where the units to keep are selected.
    towards : {"zero", "unchanged"}, default "zero"
        What the ridge draws to: no weight at all, or the kept units' weights as they were.
    loop : {"closed", "open"}, default "closed"
        Whether later layers are fitted on what the pruned layers before them give, or on what the
        original's gave.
    moves : int, optional
        With the method `Annealing`: moves of every chain and layer. By default 2,000, but without
        a limit where `search_seconds` is given.
    search_seconds : float, default 0
        With the method `Annealing`: how long the search for kept units may take for each size and
        seed; 0 for no limit. A search that time has ended is not the same from one run to the
        next: the result says how many moves it made.
    chains : int, default 4
        With the method `Annealing`: independent chains of every layer, of which the best counts.
    heat : float, default 1
        With the method `Annealing`: temperature at the start, relative to the spread of the moves'
        energies.
    """

    name: ClassVar[str] = "least_squares"

    source: str | Moments | Source = DEFAULT
    samples: int = 4000
    ridge: float = 1e-2
    selection_ridge: float = 1e-3
    towards: Literal["zero", "unchanged"] = "zero"
    loop: Literal["closed", "open"] = "closed"
    moves: int | None = None
    search_seconds: float = 0.0
    chains: int = 4
    heat: float = 1.0

    @property
    def searches(self) -> bool:
        """Whether a search is asked for."""
        return self.moves is not None or self.search_seconds != 0


Compensation = Sum | Scaled | LeastSquares


@dataclass(frozen=True, kw_only=True)
class Polish:
    """A short training of the smaller model to give the original's logits on synthetic inputs.

    Hinton, Vinyals and Dean (arXiv 1503.02531) with the inputs of a data-free source: half of
    every batch as it is, half moved against the smaller model's logits (FGSM), so that robustness
    is matched, too. Of all epochs the best on held-out inputs counts.

    Attributes
    ----------
    epochs : int, default 8
        Passes over the inputs.
    source : str or a source of `nnprune.synthetic`, optional
        Where the inputs come from; by default a mixture that `docs/method.md` describes, or with
        `representative_inputs` what is made of these.
    samples : int, default 16000
        Number of inputs, a tenth of which is held out.
    epsilon : float, default 0.05
        FGSM's step in the input's own units, as in `nnprune.FGSM`; 0 for clean inputs only.
    learning_rate : float, default 3e-3
        Adam's at the start (Kingma and Ba, arXiv 1412.6980); it falls linearly to 0.
    batch_size : int, default 128
        Inputs in a batch, clean and moved ones together.
    seconds : float, optional
        Ends the training early. It is not the same from one run to the next, then.
    """

    epochs: int = 8
    source: str | Source | None = None
    samples: int = 16_000
    epsilon: float = 0.05
    learning_rate: float = 3e-3
    batch_size: int = 128
    seconds: float | None = None


_BY_NAME: dict[str, type[Sum | Scaled | LeastSquares]] = {
    kind.name: kind for kind in (Sum, Scaled, LeastSquares)
}


def compensation_of(given: object) -> Compensation:
    """Return the rule that a name or an instance stands for, checked.

    Raises
    ------
    ConfigError
        It is none, or a parameter is out of range; the message names it.
    """
    if isinstance(given, str):
        if given.replace("-", "_") not in _BY_NAME:
            raise ConfigError(
                f"compensation: expected {_one_of(*_BY_NAME)}, or nnprune.Sum(), Scaled() or "
                f"LeastSquares(), got {given!r}"
            )
        return _BY_NAME[given.replace("-", "_")]()
    if not isinstance(given, Sum | Scaled | LeastSquares):
        raise ConfigError(
            f"compensation: expected {_one_of(*_BY_NAME)}, or nnprune.Sum(), Scaled() or "
            f"LeastSquares(), got {given!r}"
        )
    if isinstance(given, Scaled):
        require_number("threshold", given.threshold, "a cosine in [-1, 1]", -1.0, 1.0)
    if isinstance(given, LeastSquares):
        _check_least_squares(given)
    return given


def polish_of(given: object) -> Polish | None:
    """Return the polish asked for, checked; True is one with the usual parameters.

    Raises
    ------
    ConfigError
        It is none, or a parameter is out of range; the message names it.
    """
    if given is None or given is False:
        return None
    if given is True:
        return Polish()
    if not isinstance(given, Polish):
        raise ConfigError(f"polish: expected nnprune.Polish() or None, got {given!r}")
    for option, least in {"epochs": 1, "samples": 20, "batch_size": 2}.items():
        require_count(f"polish: {option}", getattr(given, option), least=least, most=10**7)
    if given.source is not None:
        source_of(given.source)
    require_number("polish: epsilon", given.epsilon, "a number in [0, 1e9]", 0.0, 1e9)
    rate = given.learning_rate
    require_number("polish: learning_rate", rate, "a number in [1e-9, 1]", 1e-9, 1.0)
    if given.seconds is not None:
        require_number("polish: seconds", given.seconds, "a number in (0, 1e9]", 1e-9, 1e9)
    return given


def source_of(given: object) -> Source:
    """Return the source that a name or an instance stands for.

    Raises
    ------
    ConfigError
        It is none.
    """
    if isinstance(given, str):
        return source_named(given)
    if not isinstance(given, Source):
        raise ConfigError(
            f"source: expected a name or one of nnprune.synthetic.sources, got {given!r}"
        )
    return given


def statistics_of(given: object) -> Moments | Source:
    """Return what least squares is fitted on: moments, or a source of inputs.

    Raises
    ------
    ConfigError
        It is none, or a parameter is out of range.
    """
    if given == Moments.name:
        return Moments()
    if isinstance(given, Moments):
        pixels = "a number of pixels in [0, 1000]"
        require_number("moments: correlation", given.correlation, pixels, 0.0, 1000.0)
        return given
    return source_of(given)


def compensation_to_dict(compensation: Compensation) -> dict[str, Any]:
    """Return the rule's name and parameters, as JSON has them."""
    plain = {"name": compensation.name, **asdict(compensation)}
    if isinstance(compensation, LeastSquares):
        source = statistics_of(compensation.source)
        plain["source"] = (
            {"name": source.name, **asdict(source)}
            if isinstance(source, Moments)
            else source_to_dict(source)
        )
    return plain


def polish_to_dict(polish: Polish) -> dict[str, Any]:
    """Return the polish's parameters, as JSON has them."""
    source = None if polish.source is None else source_to_dict(source_of(polish.source))
    return {**asdict(polish), "source": source}


def require_count(name: str, value: object, *, least: int, most: int = 10**9) -> None:
    """Make sure that an option is a whole number in range.

    Raises
    ------
    ConfigError
        It is not.
    """
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole or not least <= value <= most:  # type: ignore[operator]
        raise ConfigError(f"{name}: expected an integer from {least} to {most}, got {value!r}")


def require_number(name: str, value: object, expected: str, least: float, most: float) -> None:
    """Make sure that an option is a number in range.

    Raises
    ------
    ConfigError
        It is not; the message says what was `expected`.
    """
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not least <= value <= most:  # type: ignore[operator]
        raise ConfigError(f"{name}: expected {expected}, got {value!r}")


def _check_least_squares(given: LeastSquares) -> None:
    statistics_of(given.source)
    require_count("samples", given.samples, least=2, most=10**7)
    for option in ("ridge", "selection_ridge"):
        value = getattr(given, option)
        require_number(option, value, "a number in [0, 1000]", 0.0, 1000.0)
    require_number("heat", given.heat, "a number in [0, 1e6]", 0.0, 1e6)
    expected = "a number of seconds in [0, 1e9]"
    require_number("search_seconds", given.search_seconds, expected, 0.0, 1e9)
    require_count("chains", given.chains, least=1, most=1_000_000)
    if given.moves is not None:
        require_count("moves", given.moves, least=1)
    for option, choices in {"towards": ("zero", "unchanged"), "loop": ("closed", "open")}.items():
        if getattr(given, option) not in choices:
            raise ConfigError(
                f"{option}: expected {_one_of(*choices)}, got {getattr(given, option)!r}"
            )


def _one_of(*names: str) -> str:
    *first, last = (f"'{name}'" for name in names)
    return f"{', '.join(first)} or {last}"
