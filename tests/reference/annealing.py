"""Random draws, and the selection rules that walk a pool of candidates.

A pair is (nominee, delegate); a pool is a list of pairs in the order in which they are tried.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from reference.activation import Array

Pair = tuple[int, int]

_MASK_32 = (1 << 32) - 1
_MASK_64 = (1 << 64) - 1
_MASK_128 = (1 << 128) - 1


def _rotate_right(word: int, by: int, bits: int) -> int:
    return ((word >> by) | (word << (bits - by))) & ((1 << bits) - 1) if by else word


class Pcg64:
    """PCG XSL RR 128/64, seeded from 64 bits by a PCG32 that fills 256 bits."""

    def __init__(self, seed: int) -> None:
        words = []
        state = seed & _MASK_64
        for _ in range(8):
            state = (state * 0x5851F42D4C957F2D + 0xA17654E46FBE17F3) & _MASK_64
            shifted = (((state >> 18) ^ state) >> 27) & _MASK_32
            words.append(_rotate_right(shifted, state >> 59, 32))
        filled = sum(word << (32 * place) for place, word in enumerate(words))
        self._increment = (filled >> 128) | 1
        self._state = ((filled & _MASK_128) + self._increment) & _MASK_128
        self._step()

    def _step(self) -> None:
        multiplier = 0x2360ED051FC65DA44385DF649FCCF645
        self._state = (self._state * multiplier + self._increment) & _MASK_128

    def next_word(self) -> int:
        """Return the next 64 random bits."""
        self._step()
        word = ((self._state >> 64) ^ self._state) & _MASK_64
        return _rotate_right(word, self._state >> 122, 64)

    def uniform(self) -> float:
        """Return the next draw from [0, 1), a multiple of 2^-53."""
        return (self.next_word() >> 11) / 9007199254740992.0


def interquartile_range(values: Array) -> float:
    """Return the third less the first quartile, interpolated between order statistics."""
    ordered = np.sort(values)

    def quantile(share: float) -> float:
        place = share * (len(ordered) - 1)
        below = math.floor(place)
        above = min(below + 1, len(ordered) - 1)
        return float(ordered[below] + (place - below) * (ordered[above] - ordered[below]))

    return quantile(0.75) - quantile(0.25)


@dataclass
class Walk:
    """State of one visit: who is used, who was accepted, the energy to beat."""

    count: int
    temperature: float
    last_energy: float | None
    draw: Callable[[], float]
    used: set[int] = field(default_factory=set)
    accepted: list[Pair] = field(default_factory=list)

    def free(self, pair: Pair) -> bool:
        """Tell whether neither unit of the pair is used."""
        return not (set(pair) & self.used)

    @property
    def done(self) -> bool:
        """Whether the visit has what it came for."""
        return len(self.accepted) >= self.count

    def accept(self, pair: Pair, energy: float) -> None:
        """Take the pair; its energy is the one to beat from now on."""
        self.accepted.append(pair)
        self.used |= set(pair)
        self.last_energy = energy

    def passes(self, energy: float, scale: float) -> bool:
        """Apply the rule of acceptance; draw only where the rule needs it."""
        if self.last_energy is None or energy <= self.last_energy:
            return True
        heat = self.temperature * scale
        if heat == 0.0:
            return True
        return self.draw() < math.exp(-(energy - self.last_energy) / heat)

    def anneal(
        self, pool: Sequence[Pair], energies: Sequence[float], scale: float, rewalks: int
    ) -> list[int]:
        """Walk one pool (steps 3 to 5); return the places of the accepted, in their order."""
        taken: list[int] = []
        waiting = list(range(len(pool)))
        for _ in range(1 + rewalks):
            rejected = []
            for place in waiting:
                if self.done:
                    break
                if not self.free(pool[place]):
                    continue
                if self.passes(energies[place], scale):
                    self.accept(pool[place], energies[place])
                    taken.append(place)
                else:
                    rejected.append(place)
            waiting = rejected
        for place in sorted(waiting, key=lambda place: (energies[place], place)):
            if not self.done and self.free(pool[place]):
                self.accept(pool[place], energies[place])
                taken.append(place)
        return taken


def candidates(
    saliency: Array, live: Iterable[int], used: set[int], delegates: Iterable[int]
) -> list[Pair]:
    """Pair every free nominee with its cheapest free delegate, cheapest pair first."""
    free = sorted(set(live) - used)
    able = sorted(set(delegates) & set(free))
    cheapest = []
    for nominee in free:
        offers = [(saliency[nominee, j], j) for j in able if j != nominee]
        if offers:
            price, delegate = min(offers)
            cheapest.append((price, nominee, delegate))
    return [(nominee, delegate) for _, nominee, delegate in sorted(cheapest)]


def pool_size(pool: int, count: int) -> int:
    """Return how many candidates are scored; `pool = 1` is the paper's own k."""
    return count if pool == 1 else max(8, pool * count)


def greedy(
    saliency: Array,
    live: Iterable[int],
    delegates: Iterable[int],
    count: int,
    pool: int,
    norms: Callable[[list[Pair]], Sequence[float]],
) -> list[Pair]:
    """Of the cheapest candidates take those that move the outputs least, and widen as needed."""
    accepted: list[Pair] = []
    used: set[int] = set()
    while len(accepted) < count:
        chosen = candidates(saliency, live, used, delegates)[: pool * count]
        if not chosen:
            break
        ranked = sorted(zip(norms(chosen), range(len(chosen)), strict=True))
        for _, place in ranked:
            if len(accepted) < count and not (set(chosen[place]) & used):
                accepted.append(chosen[place])
                used |= set(chosen[place])
    return accepted


def one_shot(
    saliency: Array, live: Iterable[int], delegates: Iterable[int], count: int
) -> list[Pair]:
    """Go through all pairs by the original saliency; a delegate may later be a nominee."""
    units = sorted(live)
    able = set(delegates)
    order = sorted((saliency[i, j], i, j) for i in units for j in units if i != j and j in able)
    gone: set[int] = set()
    accepted: list[Pair] = []
    for _, nominee, delegate in order:
        if len(accepted) < count and nominee not in gone and delegate not in gone:
            accepted.append((nominee, delegate))
            gone.add(nominee)
    return accepted
