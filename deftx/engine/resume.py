"""Saving the state of a phase when it is time or a signal came, and going on from it."""

import logging
import os
import signal
import threading
import time
from contextlib import ExitStack
from types import FrameType
from typing import Any, Self

import torch

from deftx.engine.checkpoint import Checkpoint
from deftx.engine.guard import Best, LossGuard
from deftx.engine.passes import Passes
from deftx.engine.processes import is_first
from deftx.engine.update import MOMENTS, Update
from deftx.store.errors import InputError, NotFiniteError, Stopped

log = logging.getLogger(__name__)

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)

MINUTES = 10.0
"""Between two checkpoints, unless DEFTX_CHECKPOINT_MINUTES says otherwise. When they are taken
changes nothing in the result, so it is no setting."""


class StopRequest(ExitStack):
    """A context manager inside of which the first signal of SIGNALS is remembered in `received`.
    Further ones change nothing, except SIGINT, which has its usual effect. Nothing is caught
    outside of the main thread, where Python cannot do so, nor unless `catch`."""

    def __init__(self, catch: bool = True) -> None:
        super().__init__()
        self.received: signal.Signals | None = None
        self._catch, self._usual = catch, signal.getsignal(signal.SIGINT)

    def __enter__(self) -> Self:
        if self._catch and threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                self.callback(signal.signal, number, signal.signal(number, self._note))
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = self.received or signal.Signals(number)
        # A cluster signals each process of a job, and its parent passes the signal on at the same
        # moment: the second one must not end the saving. A person's second Ctrl-C is meant.
        signal.signal(signal.SIGINT, self._usual)


class Saver(StopRequest):
    """Saves what a phase needs to go on with the same bits: trained values, moments of the
    optimiser, the best values so far. Everything random is a function of the step. Without a
    checkpoint it does nothing.

    A context manager: inside, a signal ends training after its state is saved, and an error about
    values that are not finite names the state that is kept.
    """

    def __init__(
        self,
        checkpoint: Checkpoint | None,
        update: Update,
        best: Best,
        guard: LossGuard,
        passes: Passes,
    ) -> None:
        super().__init__(catch=checkpoint is not None)
        self._checkpoint, self._update = checkpoint, update
        self._best, self._guard, self._passes = best, guard, passes
        given = os.environ.get("DEFTX_CHECKPOINT_MINUTES", str(MINUTES))
        try:
            self._seconds = 60 * float(given)
        except ValueError:
            raise InputError(
                f"DEFTX_CHECKPOINT_MINUTES is {given!r}, expected a number of minutes"
            ) from None
        self._saved_step, self._saved_at = 0, time.monotonic()

    @torch.no_grad()
    def restore(self) -> int:
        """Put the newest state back, if there is one; how many steps are done."""
        if self._checkpoint is None or (found := self._checkpoint.load()) is None:
            return 0
        tensors, state = found
        moments: dict[str, dict[str, torch.Tensor]] = {}
        for name, values in self._update.values.items():
            values.copy_(tensors[f"trained.{name}"])
            if f"{MOMENTS[0]}.{name}" in tensors:
                moments[name] = {moment: tensors[f"{moment}.{name}"] for moment in MOMENTS}
            if f"best.{name}" in tensors:
                self._best.kept[name] = tensors[f"best.{name}"].to(values.device)
        self._update.restore(moments)
        self._best.facts, self._guard.first = state["best"], state["first_loss"]
        self._passes.parts, self._saved_step = state["parts"], state["step"]
        log.info("going on from step %d (%s)", self._saved_step, self._checkpoint.folder)
        return self._saved_step

    def save_if_due(self, step: int, last: int) -> None:
        """Save before a step, when the validation that belongs to the last one is over, if it is
        time or a signal came; Stopped is raised after a signal. If several processes train, the
        first one does this, and the others end when they miss it."""
        if self._checkpoint is None or not is_first():
            return
        if self.received is not None or time.monotonic() - self._saved_at >= self._seconds:
            self._save(self._checkpoint, step)
        if self.received is not None:
            log.warning(
                "stopped by %s after step %d of %d; the same command goes on from there (%s)",
                self.received.name,
                step,
                last,
                self._checkpoint.folder,
            )
            raise Stopped(128 + self.received)

    def _save(self, checkpoint: Checkpoint, step: int) -> None:
        self._saved_at = time.monotonic()
        if step == self._saved_step:
            return
        self._guard.check()
        tensors = {f"best.{name}": kept for name, kept in self._best.kept.items()}
        for name, values in self._update.values.items():
            if not torch.isfinite(values).all():
                raise NotFiniteError(f"step {step}: not all trained values are finite ({name})")
            tensors[f"trained.{name}"] = values
        for name, moments in self._update.moments().items():
            tensors |= {f"{moment}.{name}": moments[moment] for moment in MOMENTS}
        state = {
            "step": step,
            "best": self._best.facts,
            "first_loss": self._guard.first,
            "parts": self._passes.parts,
        }
        checkpoint.save(step, tensors, state)
        self._saved_step = step

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        super().__exit__(kind, error, trace)
        if isinstance(error, NotFiniteError) and self._checkpoint and self._saved_step:
            raise NotFiniteError(
                f"{error}; the state after step {self._saved_step} is kept "
                f"({self._checkpoint.folder})"
            ) from None
