"""What a person sees of training: a bar on a terminal, else one line a minute."""

import logging
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TimeRemainingColumn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

log = logging.getLogger(__name__)

SECONDS = 60.0
"""Between two lines of a log."""


class ShowProgress(TrainerCallback):
    """Step, loss, learning rate, tokens a second, GPU memory and time left.

    `recent_loss` is called only when something is shown: it waits for the device.
    """

    def __init__(self, recent_loss: Callable[[], float]) -> None:
        self._recent_loss = recent_loss
        self._on_terminal = sys.stderr.isatty()
        steps, facts = "{task.completed:.0f}/{task.total:.0f} steps", "{task.description}"
        self._bar = Progress(
            *(steps, BarColumn(), TaskProgressColumn(), TimeRemainingColumn(), facts),
            console=Console(stderr=True),
            disable=not self._on_terminal,
        )
        self.tokens = 0
        """Tokens that went through the model; the trainer counts them."""

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Start the clock."""
        self._began = self._shown = time.monotonic()
        self._first, self._first_tokens = state.global_step, self.tokens
        self._bar.start()
        self._task = self._bar.add_task("", total=state.max_steps)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        """Show where training is, if it is time."""
        now = time.monotonic()
        if now - self._shown < (1.0 if self._on_terminal else SECONDS):
            return
        self._shown = now
        seconds = now - self._began
        done = state.global_step - self._first
        left = (state.max_steps - state.global_step) * seconds / max(1, done)
        facts = [
            f"loss {self._recent_loss():.4f}",
            f"learning rate {given['lr_scheduler'].get_last_lr()[0]:.3g}",
            f"{(self.tokens - self._first_tokens) / seconds:,.0f} tokens/s",
        ]
        if torch.cuda.is_available():
            facts.append(f"{torch.cuda.max_memory_allocated() / 2**30:.2f} GiB of GPU memory")
        self._bar.update(self._task, completed=state.global_step, description=", ".join(facts))
        if self._on_terminal:
            return
        share = 100 * state.global_step / state.max_steps
        where = f"step {state.global_step:,} of {state.max_steps:,} ({share:.0f} %)"
        log.info("%s: %s, %s left", where, ", ".join(facts), timedelta(seconds=round(left)))

    def stop(self) -> None:
        """Take the bar away."""
        self._bar.stop()
