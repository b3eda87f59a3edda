"""What a person sees of training: a bar on a terminal, else one line a minute; and trackers."""

import logging
import os
import re
import socket
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import timedelta
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TimeRemainingColumn

from deftx.store.errors import InputError

log = logging.getLogger(__name__)

SECONDS = float(os.environ.get("DEFTX_PROGRESS_SECONDS", 60))
"""Between two lines of a log."""

LINE = re.compile(r"step ([\d,]+) of [\d,]+ \(")
"""What such a line has of the number of steps that are done."""

REPORTS = 20
"""How often a phase reports to trackers."""


class ShowProgress(ExitStack):
    """Step, loss, learning rate, tokens a second, GPU memory and time left, from the step `first`
    to the step `last`; a context manager, which ends the bar and the reports.

    `recent_loss` is called only when something is shown: it waits for the device. `report_to` names
    trackers as accelerate does. Raises InputError if one of them is not installed or not known.
    """

    def __init__(
        self, first: int, last: int, recent_loss: Callable[[], float], report_to: Sequence[str] = ()
    ) -> None:
        super().__init__()
        self._first, self._last, self._recent_loss = first, last, recent_loss
        self._on_terminal = sys.stderr.isatty()
        steps, facts = "{task.completed:.0f}/{task.total:.0f} steps", "{task.description}"
        self._bar = Progress(
            *(steps, BarColumn(), TaskProgressColumn(), TimeRemainingColumn(), facts),
            console=Console(stderr=True),
            disable=not self._on_terminal,
        )
        self._trackers = _trackers(report_to) if report_to else []
        for tracker in self._trackers:
            self.callback(tracker.finish)
        self.enter_context(self._bar)
        self._task = self._bar.add_task("", total=last)
        self._tokens = 0
        self._began = self._shown = time.monotonic()

    def step(self, done: int, tokens: int, rate: float, norm: torch.Tensor) -> None:
        """Count a step, the `done`-th of this training, in which so many `tokens` went through the
        model and the gradient had this `norm`; show where training is, if it is time. `rate` is the
        next learning rate."""
        self._tokens += tokens
        if self._trackers and done % max(1, self._last // REPORTS) == 0:
            values = {"loss": self._recent_loss(), "grad_norm": float(norm), "learning_rate": rate}
            self.report(done, {f"train/{name}": value for name, value in values.items()})
        now = time.monotonic()
        if now - self._shown < (1.0 if self._on_terminal else SECONDS):
            return
        self._shown = now
        seconds = now - self._began
        facts = [
            f"loss {self._recent_loss():.4f}",
            f"learning rate {rate:.3g}",
            f"{self._tokens / seconds:,.0f} tokens/s",
        ]
        if torch.cuda.is_available():
            facts.append(f"{torch.cuda.max_memory_allocated() / 2**30:.2f} GiB of GPU memory")
        self._bar.update(self._task, completed=done, description=", ".join(facts))
        if self._on_terminal:
            return
        left = timedelta(seconds=round((self._last - done) * seconds / (done - self._first)))
        where = f"step {done:,} of {self._last:,} ({100 * done / self._last:.0f} %)"
        log.info("%s: %s, %s left", where, ", ".join(facts), left)

    def report(self, step: int, values: dict[str, float]) -> None:
        """Pass values on to the trackers, if there are any."""
        for tracker in self._trackers:
            tracker.log(values, step=step)


def _trackers(names: Sequence[str]) -> list[Any]:
    """Trackers that run; their own variables may name project and folder."""
    # Here, since few trainings have a tracker.
    from accelerate import Accelerator  # type: ignore[import-untyped]
    from accelerate.tracking import get_available_trackers  # type: ignore[import-untyped]

    known = {"all", *map(str, get_available_trackers())}
    if missing := [name for name in names if name not in known]:
        raise InputError(
            f"report_to is {list(names)}: no tracker that accelerate finds here; install "
            + ", ".join(missing)
        )
    here = f"runs/{time.strftime('%Y-%m-%d_%H-%M-%S')}_{socket.gethostname()}_{os.getpid()}"
    folder = os.environ.get("TENSORBOARD_LOGGING_DIR", here)
    accelerator = Accelerator(log_with=list(names), project_dir=folder)
    accelerator.init_trackers(os.environ.get("WANDB_PROJECT", "deftx"))
    return accelerator.trackers
