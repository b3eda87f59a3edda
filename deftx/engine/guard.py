"""What watches over a training: the state that it ends with, and losses that go wrong."""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from deftx.engine.objective import Objective
from deftx.engine.settings import Training
from deftx.store.errors import InputError, NotFiniteError

log = logging.getLogger(__name__)

EXPLODED = 10.0
"""So many times the loss of the first step (of 1, if that is larger) is no training any more."""


class Best:
    """The values of what trains at the best validation so far; ties keep the earlier one.

    `name` is that of the validation value; `loss` is best if low, any other if high.

    Attributes:
        kept: name → values at the best validation; empty before the first one.
        facts: `best`, `best_step` and `history`, as plain values.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._sign = -1.0 if name == "loss" else 1.0
        self.kept: dict[str, torch.Tensor] = {}
        self.facts: dict[str, Any] = {"best": None, "best_step": None, "history": []}

    def note(
        self, step: int, last: int, found: Mapping[str, float], values: Mapping[str, torch.Tensor]
    ) -> None:
        """Remember what validation `found` after a step, and the `values` of what trains if they
        are the best. Raises NotFiniteError if the validation value that chooses is not finite."""
        value = found[self._name]
        self.facts["history"].append({"step": step, self._name: value})
        log.info("step %d of %d: validation %s %.4f", step, last, self._name, value)
        if not math.isfinite(value):
            raise NotFiniteError(f"step {step}: validation {self._name} is {value}")
        best = self.facts["best"]
        better = best is None or self._sign * value > self._sign * best
        if better:
            self.facts["best"], self.facts["best_step"] = value, step
        self._keep(step, values, better)

    def _keep(self, step: int, values: Mapping[str, torch.Tensor], better: bool) -> None:
        if better:
            self.kept = {name: tensor.detach().clone() for name, tensor in values.items()}

    @torch.no_grad()
    def restore(self, values: Mapping[str, torch.Tensor]) -> None:
        """Put the kept values back, if there are any."""
        for name, kept in self.kept.items():
            values[name].copy_(kept)

    def outcome(self, validate: Callable[[], Mapping[str, float]]) -> dict[str, Any]:
        """What happened: `best_step`, `best` and `history`. Call this after `restore`: `validate`
        measures the restored values, if that is not done yet."""
        facts = self.facts
        return {
            "best_step": facts["best_step"],
            "best": {self._name: facts["best"]},
            "history": facts["history"],
        }


class LastMean(Best):
    """The mean of the values at the validations after `steps`, in place of the best ones.

    The steps are known beforehand, so one copy of the values is enough, as for the best ones:
    m_n = m_(n-1) + (x_n - m_(n-1)) / n, in the values' own float32. A value that never moved keeps
    its bits, and any other is rounded once for each state. Design choice.

    Source of the mean: Vaswani et al. 2017, section 6.1; Izmailov et al. 2018 (SWA).
    """

    def __init__(self, name: str, steps: Sequence[int]) -> None:
        super().__init__(name)
        self._steps = steps

    @torch.no_grad()
    def _keep(self, step: int, values: Mapping[str, torch.Tensor], better: bool) -> None:
        if step not in self._steps:
            return
        share = 1 / (1 + self._steps.index(step))
        for name, tensor in values.items():
            if share < 1:
                self.kept[name].lerp_(tensor, share)
            else:
                self.kept[name] = tensor.detach().clone()

    def outcome(self, validate: Callable[[], Mapping[str, float]]) -> dict[str, Any]:
        """Also `averaged`: the `steps`, and the validation value of the mean, measured here."""
        facts = super().outcome(validate)
        if not self.kept:  # another process validates
            return facts
        value = validate()[self._name]
        log.info("mean of the states after steps %s: %s %.4f", self._steps, self._name, value)
        return {**facts, "averaged": {"steps": self._steps, self._name: value}}


def kept_state(objective: Objective, settings: Training, last: int, every: int) -> Best:
    """What a training of `last` steps, validated after each `every` ones and the last, ends with.
    Raises InputError if `settings.average` asks for more states than are validated."""
    if settings.average is None:
        return Best(objective.best)
    validated = sorted({*range(every, last, every), last}) if objective.validates else []
    if settings.average > len(validated):
        raise InputError(
            f"average: {settings.average} states are to be averaged, but a training of {last} "
            f"steps with evaluate_every: {settings.evaluate_every} evaluates {len(validated)}"
        )
    return LastMean(objective.best, validated[-settings.average :])


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
