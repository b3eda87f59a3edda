"""Stopping training that has gone wrong, at the step where it did."""

import torch

from deftx.store.errors import NotFiniteError

EXPLODED = 10.0
"""So many times the loss of the first step (of 1, if that is larger) is no training any more."""


class LossGuard:
    """Watches the loss of each step.

    It looks at `every` losses at a time: reading one waits for the device. Design choice.

    Attributes:
        first: the loss of the first step of all; None before it.
    """

    def __init__(self, every: int) -> None:
        self._every = every
        self._waiting: list[tuple[int, torch.Tensor]] = []
        self._mean = float("nan")
        self.first: float | None = None

    def note(self, step: int, loss: torch.Tensor) -> None:
        """Remember the loss of a step, counted from 1. Raises as `check` does."""
        self._waiting.append((step, loss))
        if len(self._waiting) >= self._every:
            self.check()

    def check(self) -> None:
        """Look at what has not been looked at. Raises NotFiniteError, with the step, if a loss
        is not finite or has exploded."""
        if not self._waiting:
            return
        steps, losses = zip(*self._waiting, strict=True)
        self._waiting = []
        values = torch.stack(losses).float().tolist()
        if self.first is None:
            self.first = values[0]
        for step, value in zip(steps, values, strict=True):
            if not value <= EXPLODED * max(self.first, 1.0):  # true for NaN too
                raise NotFiniteError(
                    f"step {step}: the loss is {value:.4g}; it was {self.first:.4g} in the first "
                    "step. Lower the learning rate"
                )
        self._mean = sum(values) / len(values)

    def recent(self) -> float:
        """The mean of the losses last looked at, which are the newest after this."""
        self.check()
        return self._mean
