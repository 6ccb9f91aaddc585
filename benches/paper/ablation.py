"""What each ingredient is worth: one option changed at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import nnprune
from nnprune.options import method_to_dict

from paper.results import Cells
from paper.settings import TARGET, PaperModel, Settings
from paper.workbench import Workbench, open_workbench

__all__ = ["SHARES", "VARIANTS", "Variant", "measure_ablation", "measure_variants"]

SHARES = (0.5, 0.8)
"""Where the variants are compared."""


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One way to prune.

    Attributes
    ----------
    group : str
        The ingredient.
    title : str
        What is different from the default.
    method : Annealing, Greedy or OneShot
        How pairs are chosen.
    step : Fraction or None
        Pace; None for the model's own.
    bias : str or None
        How biases enter the saliency; None for the method's own.
    """

    group: str
    title: str
    method: nnprune.options.Method
    step: Fraction | None = None
    bias: str | None = None

    @property
    def seeded(self) -> bool:
        """Whether it depends on the seed."""
        return isinstance(self.method, nnprune.Annealing)


def _annealing(group: str, title: str, *, bias: str | None = None, **options: Any) -> Variant:
    return Variant(group=group, title=title, method=nnprune.Annealing(**options), bias=bias)


def _paced(denominator: int) -> Variant:
    step = Fraction(1, denominator)
    return Variant(group="step", title=f"step {step}", method=nnprune.Annealing(), step=step)


VARIANTS: Mapping[str, Variant] = {
    "default": _annealing("default", "annealing, scaled energy (the default)"),
    "one_shot": Variant(
        group="order",
        title="one-shot: the original saliency order",
        method=nnprune.OneShot(),
        bias="relative",
    ),
    "saliency": Variant(
        group="order", title="saliency order alone, kept up to date", method=nnprune.Greedy(pool=1)
    ),
    "greedy": Variant(group="order", title="greedy: least impact", method=nnprune.Greedy()),
    "letter": _annealing(
        "energy",
        "the paper to the letter: bias term, energy, density, pool and restart as printed",
        bias="relative",
        normalization="none",
        density="printed",
        pool=1,
        restart="visit",
    ),
    "printed": _annealing(
        "energy",
        "bias term and energy as printed, pool 1",
        bias="relative",
        normalization="none",
        pool=1,
    ),
    "unscaled": _annealing("energy", "energy as printed", normalization="none"),
    "density": _annealing("energy", "density as printed", density="printed"),
    "restart": _annealing("energy", "energy forgotten at every visit", restart="visit"),
    **{f"step_{n}": _paced(n) for n in (4, 8, 16, 32, 64)},
    **{
        f"alpha_{alpha:g}": _annealing("alpha", f"alpha {alpha:g}", alpha=alpha)
        for alpha in (0.0, 0.25, 0.5, 1.0)
    },
    **{
        f"phi_{phi:g}": _annealing("phi", f"phi {phi:g}", similarity=phi)
        for phi in (0.5, 0.8, 0.95, 1.0)
    },
    **{f"pool_{n}": _annealing("pool", f"pool {n}", pool=n) for n in (1, 2, 8, 16)},
    **{f"rewalks_{n}": _annealing("re-walks", f"re-walks {n}", rewalks=n) for n in (0, 2, 4)},
}
"""The default first, then one change at a time."""


def measure_ablation(model: PaperModel, settings: Settings, cells: Cells) -> None:
    """Measure every variant on one model of the papers."""
    if model.name in settings.ablation_models:
        measure_variants(model, settings, cells, open_workbench(model, settings))


def measure_variants(model: PaperModel, settings: Settings, cells: Cells, bench: Workbench) -> None:
    """Measure every variant at 50 and 80 %, one seed at a time, all variants before the next."""
    for seed in range(settings.ablation_seeds):
        for name, variant in VARIANTS.items():
            if seed and not variant.seeded:
                continue
            step = variant.step or model.step
            given = bench.given | {
                "method": method_to_dict(variant.method),
                "bias": variant.bias,
                "step": str(step),
                "shares": SHARES,
            }
            cells.measure(
                f"{model.name}/{name}/{seed}",
                given,
                lambda variant=variant, step=step, seed=seed: _at_shares(  # type: ignore[misc]
                    bench, variant, step, seed
                ),
            )


def _at_shares(bench: Workbench, variant: Variant, step: Fraction, seed: int) -> dict[str, Any]:
    """Prune once, to 80 %, and measure on the way."""
    result = bench.prune(variant.method, step=step, target=TARGET, seed=seed, bias=variant.bias)
    found = {}
    for share in SHARES:
        bench.replay(result.merges, bench.removed(share))
        found[f"{share:g}"] = bench.measure()
    return found
