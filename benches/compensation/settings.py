"""What is run: the models, the ratios, and how much in a quick and in a full run."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

__all__ = ["EPSILONS", "FULL", "MODELS", "QUANTITIES", "QUICK", "BenchModel", "Settings"]

EPSILONS = (0.01, 0.05)
"""The strengths of FGSM in the main paper's experiments."""

QUANTITIES = {
    "accuracy": "accuracy",
    "balanced": "mean recall of the classes",
    "recall": "share of the frauds found",
    "robust 0.01": "robust at epsilon .01",
    "robust 0.05": "robust at epsilon .05",
}
"""What is measured, and what the page calls it."""


@dataclass(frozen=True, kw_only=True)
class BenchModel:
    """A model of the table.

    Attributes
    ----------
    name : str
        Its file in `benches/models`, without the suffix.
    title : str
        What it is called on the page.
    layers : str
        Its architecture.
    step : Fraction
        Share of a layer's units that the paper's method removes in an epoch.
    ratios : tuple of float
        Shares of units removed.
    shown : tuple of str
        What the table shows of each, of `QUANTITIES`; the robust instances at one epsilon.
    """

    name: str
    title: str
    layers: str
    step: Fraction = Fraction(1, 64)
    ratios: tuple[float, ...] = (0.5, 0.7, 0.8)
    shown: tuple[str, ...] = ("accuracy", "robust 0.05")


MODELS = (
    BenchModel(name="mnist", title="MNIST", layers="784-128-128-64-10"),
    BenchModel(
        name="lenet300",
        title="Fashion-MNIST, LeNet-300-100",
        layers="784-300-100-10",
        ratios=(0.5, 0.6, 0.7, 0.8),
    ),
    BenchModel(
        name="fashion_batchnorm",
        title="Fashion-MNIST with BatchNormalization",
        layers="784-128-96-64-10",
    ),
    BenchModel(
        name="creditcard",
        title="Credit card fraud",
        layers="29-64-64-1",
        step=Fraction(1, 32),
        shown=("accuracy", "balanced", "recall", "robust 0.05"),
    ),
    BenchModel(
        name="kdd",
        title="KDD Cup '99",
        layers="120-512-256-128-64-23",
        step=Fraction(1, 32),
        shown=("accuracy", "balanced", "robust 0.05"),
    ),
    BenchModel(
        name="cifar10",
        title="CIFAR-10 (JPEG), the head",
        layers="256-512-128-10 behind 5 convolutions",
        shown=("accuracy", "robust 0.01"),  # at 0.05 the original itself is right for 3 %
    ),
)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How much is run.

    Attributes
    ----------
    name : {"quick", "full"}
        Names the file of the results.
    runs : int
        Seeds of a method that draws.
    samples : int
        Test samples, from the first on.
    attacked_convolutional : int
        How many of them are attacked through the convolutions, where one costs a hundred times as
        much.
    judged, judged_convolutional : int
        Synthetic inputs of the judge; for a convolutional model, where they are dear.
    representative, bound : int
        Unlabelled training inputs of "ours with samples" and of the upper bound.
    """

    name: str
    runs: int
    samples: int
    attacked_convolutional: int
    judged: int = 4000
    judged_convolutional: int = 1000
    representative: int = 128
    bound: int = 8000


FULL = Settings(name="full", runs=10, samples=20_000, attacked_convolutional=200)
QUICK = Settings(name="quick", runs=2, samples=2000, attacked_convolutional=50)
