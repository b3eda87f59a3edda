"""The best checkpoint by a validation value, in memory."""

import logging
import math
from collections.abc import Mapping
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from deftx.engine.objective import Objective
from deftx.engine.processes import is_first
from deftx.engine.training_settings import Training
from deftx.store.errors import NotFiniteError

log = logging.getLogger(__name__)


class KeepBest(TrainerCallback):
    """Asks for an evaluation on schedule and at the last step; remembers the best values of what
    trains. Ties keep the earlier checkpoint.

    In memory, since the Trainer would write whole models (and pickles) for it.

    Attributes:
        kept: name → values at the best checkpoint; empty before the first evaluation.
        facts: `best`, `best_step` and `history`, as plain values.
    """

    def __init__(
        self,
        trained: Mapping[str, torch.nn.Parameter],
        objective: Objective,
        settings: Training,
    ) -> None:
        examples = objective.sources
        self._trained, self._name = trained, objective.best
        self._last = settings.steps(*examples)
        self._sign = -1.0 if objective.best == "loss" else 1.0
        every = settings.evaluate_every
        self._every = settings.steps_per_epoch(*examples) if every == "epoch" else every
        self._validates = objective.validates and is_first()
        self.kept: dict[str, torch.Tensor] = {}
        self.facts: dict[str, Any] = {"best": None, "best_step": None, "history": []}

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Ask for an evaluation where one is due."""
        control.should_evaluate = self._validates and (
            state.global_step % self._every == 0 or state.global_step == self._last
        )

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **given: Any,
    ) -> None:
        """Remember the weights if they are the best so far."""
        value, step = given["metrics"][f"eval_{self._name}"], state.global_step
        self.facts["history"].append({"step": step, self._name: value})
        log.info("step %d of %d: validation %s %.4f", step, self._last, self._name, value)
        if not math.isfinite(value):
            raise NotFiniteError(f"step {step}: validation {self._name} is {value}")
        best = self.facts["best"]
        if best is None or self._sign * value > self._sign * best:
            self.facts["best"], self.facts["best_step"] = value, step
            self.kept = {name: p.detach().clone() for name, p in self._trained.items()}

    @torch.no_grad()
    def restore(self) -> None:
        """Put the best values back, if there was an evaluation."""
        for name, kept in self.kept.items():
            self._trained[name].copy_(kept)
