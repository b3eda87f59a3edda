"""The state of a phase of training: taking it, saving it in time, and putting it back."""

import logging
import os
import time
from collections.abc import Mapping
from itertools import chain
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from deftx.engine.checkpoint import Checkpoint
from deftx.engine.keep_best import KeepBest
from deftx.engine.loss_guard import LossGuard
from deftx.engine.processes import is_first
from deftx.engine.stopping import StopRequest
from deftx.store.errors import InputError, NotFiniteError, Stopped

log = logging.getLogger(__name__)

MINUTES = 10.0
"""Between two checkpoints, unless DEFTX_CHECKPOINT_MINUTES says otherwise. When they are taken
changes nothing in the result, so it is no setting."""

MOMENTS = ("exp_avg", "exp_avg_sq")


def _minutes() -> float:
    given = os.environ.get("DEFTX_CHECKPOINT_MINUTES", str(MINUTES))
    try:
        return float(given)
    except ValueError:
        raise InputError(
            f"DEFTX_CHECKPOINT_MINUTES is {given!r}, expected a number of minutes"
        ) from None


class SaveState(TrainerCallback):
    """Saves what a phase needs to go on with the same bits: trained values, moments of the
    optimiser, the best checkpoint so far. Everything random is a function of the step.

    `progress` is what else has changed while training, by name, as plain values.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        stop: StopRequest,
        trained: Mapping[str, torch.nn.Parameter],
        optimizer: torch.optim.Optimizer,
        keeper: KeepBest,
        guard: LossGuard,
        progress: dict[str, Any],
    ) -> None:
        self._checkpoint, self._stop = checkpoint, stop
        self._trained, self._optimizer = trained, optimizer
        self._keeper, self._guard, self._progress = keeper, guard, progress
        self._seconds = 60 * _minutes()
        self._saved_step, self._saved_at = 0, time.monotonic()

    @torch.no_grad()
    def restore(self) -> int:
        """Put the newest state back, if there is one; how many steps are done."""
        found = self._checkpoint.load()
        if found is None:
            return 0
        tensors, state = found
        moments: dict[int, dict[str, torch.Tensor]] = {}
        in_order = chain.from_iterable(g["params"] for g in self._optimizer.param_groups)
        numbers = {id(parameter): number for number, parameter in enumerate(in_order)}
        for name, parameter in self._trained.items():
            number = numbers[id(parameter)]
            parameter.copy_(tensors[f"trained.{name}"])
            if f"{MOMENTS[0]}.{name}" in tensors:
                moments[number] = {moment: tensors[f"{moment}.{name}"] for moment in MOMENTS}
                moments[number]["step"] = torch.tensor(state["optimizer_steps"][name])
            if f"best.{name}" in tensors:
                best = tensors[f"best.{name}"].to(parameter.device)
                self._keeper.kept[name] = best
        groups = self._optimizer.state_dict()["param_groups"]
        self._optimizer.load_state_dict({"state": moments, "param_groups": groups})
        self._keeper.facts = state["keeper"]
        self._guard.first = state["first_loss"]
        self._progress.update(state["progress"])
        self._saved_step = state["step"]
        log.info("going on from step %d (%s)", self._saved_step, self._checkpoint.folder)
        return self._saved_step

    def kept(self) -> str:
        """Where the newest state is, as the end of a message about a failure."""
        if not self._saved_step:
            return ""
        return f"; the state after step {self._saved_step} is kept ({self._checkpoint.folder})"

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Save if it is time or a signal came. At the beginning of a step, when the evaluation
        that belongs to the last one is over. Raises Stopped after a signal. Of several processes
        the first one does this, and the others end when they miss it."""
        if not is_first():
            return
        told = self._stop.received
        if told is not None or time.monotonic() - self._saved_at >= self._seconds:
            self._save(state.global_step)
        if told is not None:
            log.warning(
                "stopped by %s after step %d of %d; the same command goes on from there (%s)",
                told.name,
                state.global_step,
                state.max_steps,
                self._checkpoint.folder,
            )
            raise Stopped(128 + told)

    def _save(self, step: int) -> None:
        self._saved_at = time.monotonic()
        if step == self._saved_step:
            return
        self._guard.check()
        tensors: dict[str, torch.Tensor] = {}
        counts: dict[str, float] = {}
        for name, parameter in self._trained.items():
            if not torch.isfinite(parameter).all():
                raise NotFiniteError(f"step {step}: not all trained values are finite ({name})")
            tensors[f"trained.{name}"] = parameter
            moments = self._optimizer.state.get(parameter)
            if moments:
                tensors |= {f"{moment}.{name}": moments[moment] for moment in MOMENTS}
                counts[name] = float(moments["step"])
        tensors |= {f"best.{name}": kept for name, kept in self._keeper.kept.items()}
        state = {
            "step": step,
            "optimizer_steps": counts,
            "keeper": self._keeper.facts,
            "first_loss": self._guard.first,
            "progress": self._progress,
        }
        self._checkpoint.save(step, tensors, state)
        self._saved_step = step
