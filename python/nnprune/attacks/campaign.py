"""One attack on one model over a stream of batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nnprune.attacks.gradient_sign import Attacker, RandomStarts
from nnprune.attacks.options import FGSM, PGD, Attack
from nnprune.gradients import to_numpy

if TYPE_CHECKING:
    from nnprune.attacks.toolbox import Toolbox
    from nnprune.keras_io.logits import LogitsModel

__all__ = ["Campaign", "starts_of"]

# A tensor of the backend.
Tensor = Any
Mask = NDArray[np.bool_]


def starts_of(attack: Attack) -> RandomStarts | None:
    """Make the random starting points of an attack; None if it has none of ours."""
    if isinstance(attack, PGD) and attack.random_start:
        return RandomStarts(attack.seed, attack.restarts)
    return None


class Campaign:
    """One attack on one model.

    Parameters
    ----------
    attack : Attack
        The attack and its options.
    attacker : Attacker
        The model under attack, within its box.
    logits : LogitsModel
        The same model.
    """

    def __init__(self, attack: Attack, attacker: Attacker, logits: LogitsModel) -> None:
        self._attack = attack
        self._attacker = attacker
        self._logits = logits
        self._x: Tensor = None
        self._y: Tensor = None
        self._starts: Sequence[NDArray[np.float32]] = ()
        self._batch = -1
        self._tools: Toolbox | None = None
        self._direction: tuple[Tensor, Tensor] | None = None

    def begin(self, x: Tensor, y: Tensor, starts: Sequence[NDArray[np.float32]]) -> None:
        """Take the next batch.

        Parameters
        ----------
        x : float32 tensor, shape (samples, *input_shape)
            Inputs.
        y : int32 tensor, shape (samples,)
            Labels.
        starts : sequence of float32 array, shape (samples, *input_shape)
            For every restart its random points; empty to start at `x`.
        """
        self._x, self._y, self._starts = x, self._attacker.labels(y), starts
        self._direction = None
        self._batch += 1

    def adversarial(self, epsilon: float) -> Iterator[tuple[Tensor, Mask]]:
        """Give the batch's adversarial inputs, for every restart, and who had no gradient.

        A sample is robust if it withstands all of them.
        """
        attack = self._attack
        if isinstance(attack, FGSM):
            if self._direction is None:  # one gradient for all epsilons
                self._direction = self._attacker.direction(self._x, self._y)
            sign, zero = self._direction
            moved = self._attacker.move(self._x, sign, epsilon, paper_code=attack.paper_code)
            yield moved, to_numpy(zero)
        elif isinstance(attack, PGD):
            for start in self._starts or (None,):
                moved, zero = self._attacker.pgd(
                    self._x,
                    self._y,
                    epsilon,
                    steps=attack.steps,
                    step_size=attack.step_size,
                    start=start,
                )
                yield moved, to_numpy(zero)
        else:
            found = self._toolbox(epsilon)  # with all its restarts
            yield found, np.zeros(len(found), np.bool_)

    def _toolbox(self, epsilon: float) -> NDArray[np.float32]:
        """Let the Adversarial Robustness Toolbox attack the batch."""
        from nnprune.attacks.toolbox import Toolbox

        if self._tools is None:
            self._tools = Toolbox(self._logits, *self._attacker.box)
        attack: Any = self._attack
        seed = [attack.seed, self._batch]
        x, y = to_numpy(self._x), to_numpy(self._y)
        return self._tools.adversarial(attack, x, y, epsilon, seed=seed)
