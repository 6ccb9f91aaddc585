"""What is run: the papers' models, and how much of everything in a quick and in a full run."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

__all__ = ["EPSILONS", "FULL", "MODELS", "QUICK", "TARGET", "PaperModel", "Settings", "model_named"]

TARGET = 0.8
"""The largest share of units removed in the main paper's experiments."""

EPSILONS = (0.01, 0.05)
"""The strengths of FGSM in the main paper's experiments."""


@dataclass(frozen=True, kw_only=True)
class PaperModel:
    """A model of the experiments.

    Attributes
    ----------
    name : str
        Its file in `benches/models`, without the suffix.
    number : int or None
        Its number in the main paper (Meng et al., table I); None if it is not in it.
    title : str
        What it is called on the page.
    layers : str
        Its architecture.
    step : Fraction
        Share of a layer's units removed in an epoch: the slowest pace of table II.
    paper_seconds : float or None
        Seconds for 80 % at that pace in the main paper.
    """

    name: str
    number: int | None
    title: str
    layers: str
    step: Fraction
    paper_seconds: float | None


_SLOW, _SLOWEST = Fraction(1, 32), Fraction(1, 64)

# In the order in which they are run: what is cut off by the time limit is the dearest.
MODELS = (
    PaperModel(
        name="creditcard",
        number=1,
        title="Credit card fraud",
        layers="29-64-64-1",
        step=_SLOW,
        paper_seconds=30.5,
    ),
    PaperModel(
        name="lenet300",
        number=None,
        title="Fashion-MNIST (LeNet-300-100)",
        layers="784-300-100-10",
        step=_SLOWEST,
        paper_seconds=None,
    ),
    PaperModel(
        name="mnist",
        number=3,
        title="MNIST",
        layers="784-128-128-64-10",
        step=_SLOWEST,
        paper_seconds=435.4,
    ),
    PaperModel(
        name="kdd",
        number=2,
        title="KDD Cup '99",
        layers="120-512-256-128-64-23",
        step=_SLOW,
        paper_seconds=76.7,
    ),
    PaperModel(
        name="cifar10",
        number=4,
        title="CIFAR-10 (JPEG)",
        layers="5 convolutions, 256-512-128-10",
        step=_SLOWEST,
        paper_seconds=265.3,
    ),
)


def model_named(name: str) -> PaperModel:
    """Return the model of that name.

    Raises
    ------
    KeyError
        There is none.
    """
    return {model.name: model for model in MODELS}[name]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How much is run.

    Attributes
    ----------
    name : {"quick", "full"}
        Names the folder of the results, and the rows of the page.
    minutes : float
        When it is over no further measurement is begun.
    seeds : int
        Annealing runs of a model.
    samples, convolutional_samples : int
        Test samples that curves are measured on, at most, from the first on (only KDD has more
        than the full run takes). The second is for the convolutional model, where one sample costs
        a hundred times as much.
    every, convolutional_every : float
        Distance of a curve's points, as a share of the units.
    whole_test_targets : tuple of float
        Where the convolutional model is measured on its whole test set, for one seed.
    timing_repeats, process_repeats : int
        Timed runs in one process, and of the whole command.
    ablation_models : tuple of str
        Models of the ablation.
    ablation_seeds : int
        Annealing runs of each of its variants.
    peer_models : tuple of str
        Models that the public implementation is run on.
    peer_repeats : int
        Pairs of runs of the public implementation and of ours.
    peer_targets : tuple of float
        Shares of units that these remove.
    peer_limit_seconds, peer_repeat_limit_seconds : float
        CPU time after which the first run of the public implementation, and each after it, is
        stopped: on KDD it needs a quarter of an hour to 50 %.
    pictures : int
        Test images of each data set in the demonstration.
    """

    name: str
    minutes: float
    seeds: int
    samples: int
    convolutional_samples: int
    every: float
    convolutional_every: float
    whole_test_targets: tuple[float, ...]
    timing_repeats: int
    process_repeats: int
    ablation_models: tuple[str, ...]
    ablation_seeds: int
    peer_models: tuple[str, ...]
    peer_repeats: int
    peer_targets: tuple[float, ...]
    peer_limit_seconds: float
    peer_repeat_limit_seconds: float
    pictures: int


FULL = Settings(
    name="full",
    minutes=120,
    seeds=10,
    samples=10_000,
    convolutional_samples=500,
    every=0.05,
    convolutional_every=0.1,
    whole_test_targets=(0.5, 0.7, 0.8),
    timing_repeats=10,
    process_repeats=3,
    ablation_models=("creditcard", "lenet300", "mnist", "kdd"),
    ablation_seeds=10,
    peer_models=("creditcard", "mnist", "kdd"),
    peer_repeats=3,
    peer_targets=(0.25, 0.5, 0.75),
    peer_limit_seconds=1100,
    peer_repeat_limit_seconds=520,
    pictures=4,
)

QUICK = Settings(
    name="quick",
    minutes=10,
    seeds=3,
    samples=2000,
    convolutional_samples=100,
    every=0.1,
    convolutional_every=0.1,
    whole_test_targets=(),
    timing_repeats=3,
    process_repeats=1,
    ablation_models=("creditcard", "mnist"),
    ablation_seeds=3,
    peer_models=("creditcard", "mnist", "kdd"),
    peer_repeats=1,
    peer_targets=(0.25, 0.5),
    peer_limit_seconds=100,
    peer_repeat_limit_seconds=100,
    pictures=3,
)
