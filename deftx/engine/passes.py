"""The forward and backward passes of a step, and validation, on the device."""

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch

from deftx.engine.objective import Batch, Learner
from deftx.engine.processes import share
from deftx.engine.session import Resolved, Session
from deftx.engine.steps import Step, Steps
from deftx.store.errors import DeviceError
from deftx.store.seeds import stream

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Hooks:
    """What a phase does beside its forward and backward passes.

    Attributes:
        begin: puts in the values that training begins with; the L1 term holds those before.
        around_source: number of a source → the block around all its passes in a step; that of the
            first is also around validation.
        around_batch: the block around each forward and backward pass.
        after_step: called whenever values have changed.
    """

    begin: Callable[[], None] = lambda: None
    around_source: Callable[[int], AbstractContextManager[Any]] = nullcontext
    around_batch: Callable[[], AbstractContextManager[None]] = nullcontext
    after_step: Callable[[], None] = lambda: None


class Passes:
    """The passes of a learner over its steps. It is compiled here if the session asks for that, and
    is in training mode but for validation. `optimizer` has what trains.

    Attributes:
        parts: into how many parts each batch is cut, since it was too large for the GPU.
    """

    def __init__(
        self,
        learner: Learner,
        steps: Steps,
        session: Session,
        resolved: Resolved,
        hooks: Hooks,
        optimizer: torch.optim.Optimizer,
    ) -> None:
        self._learner, self._steps, self._hooks = learner, steps, hooks
        self._session, self._resolved, self._optimizer = session, resolved, optimizer
        self._device = learner.model.device
        self.parts = 1
        if resolved.compile:
            torch.compiler.reset()  # what was compiled for another model counts as a recompilation
            torch._dynamo.config.suppress_errors = session.engine.compile == "auto"
            learner.compile(mode=resolved.compile)
        learner.train()  # not in each step: it visits every module

    def backward(self, number: int) -> tuple[torch.Tensor, int]:
        """Add the gradient of a step, counted from 0, to what trains: this process's share of it.
        The loss of the share, as an estimate of the step's, and its tokens. Raises DeviceError if
        a batch does not fit the GPU and may not be cut."""
        while True:
            step = self._steps.step(number, self.parts)
            self._seed_dropout(number)
            try:
                loss = torch.zeros((), device=self._device)
                pairs = zip(step.sources, step.batches, strict=True)
                for source, few in groupby(pairs, key=lambda pair: pair[0]):
                    with self._hooks.around_source(source):
                        for _, batch in few:
                            loss = loss + self._backward(batch, step.labels)
            except torch.OutOfMemoryError as error:
                self._cut_further(number, step, error)
                continue
            tokens = sum(batch["input_ids"].numel() for batch in step.batches)
            return loss * share()[1], tokens

    def _seed_dropout(self, number: int) -> None:
        # Dropout, too, is a function of the step. Not by torch.manual_seed, which takes half a
        # millisecond to look for other devices.
        seed = stream(self._session.dropout_seed, "step", str(number), str(share()[0]))
        torch.default_generator.manual_seed(seed)
        if self._device.type == "cuda":
            torch.cuda.manual_seed(seed)
        if self._resolved.compile:
            # Once a step, not for each batch: CUDA graphs hold gradients that are added to.
            torch.compiler.cudagraph_mark_step_begin()

    def _backward(self, batch: Batch, labels: int) -> torch.Tensor:
        if self._device.type == "cuda":  # from pinned memory tensors move while others compute
            batch = {name: tensor.pin_memory() for name, tensor in batch.items()}
        batch = {name: t.to(self._device, non_blocking=True) for name, t in batch.items()}
        with self._hooks.around_batch():
            with self._autocast():
                loss = self._learner(**batch)
            # A short text may have no masked token: then there is no loss and no gradient.
            loss = loss / max(1, labels)
            loss.backward()
        return loss.detach()

    def _autocast(self) -> torch.autocast:
        enabled = self._resolved.precision == "bf16"
        return torch.autocast(self._device.type, torch.bfloat16, enabled=enabled)

    def _cut_further(self, number: int, step: Step, error: Exception) -> None:
        """Let the step be tried again with half the examples in a batch, if that was asked for."""
        settings = self._steps.settings
        largest = max(len(batch["input_ids"]) for batch in step.batches)
        length = max(batch["input_ids"].shape[1] for batch in step.batches)
        if self._session.engine.on_out_of_memory == "stop" or largest == 1:
            raise DeviceError(
                f"step {number + 1}: the GPU's memory does not hold a batch of {largest} x "
                f"{length} tokens (batch_size {settings.batch_size}, accumulation "
                f"{settings.accumulation}). Halve batch_size and double accumulation, or set "
                f"engine.on_out_of_memory: halve, or engine.precision: bf16. PyTorch: {error}"
            ) from None
        self._optimizer.zero_grad()
        torch.cuda.empty_cache()
        self.parts *= 2
        log.warning(
            "step %d: the GPU's memory does not hold a batch of %d examples; from here on each is "
            "cut into %d, which changes rounding only",
            number + 1,
            largest,
            self.parts,
        )

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """The validation values, with the vector of the first source in the weights."""
        self._learner.eval()
        with self._hooks.around_source(0), self._autocast():
            values = self._steps.objective.validate(self._learner, self._device)
        self._learner.train()
        return values
