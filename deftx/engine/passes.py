"""The passes of a step on the device, forward, backward and update; and validation."""

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch

from deftx.engine.graph import CannotRecordError, Replay, masks_as_recorded
from deftx.engine.objective import Batch, Learner
from deftx.engine.processes import share
from deftx.engine.session import Resolved, Session
from deftx.engine.steps import Step, Steps
from deftx.engine.update import Gradient, Update
from deftx.models.device import pinned_for
from deftx.store.errors import DeviceError
from deftx.store.seeds import stream

log = logging.getLogger(__name__)

Around = Callable[[int], AbstractContextManager[Any]]


@dataclass(frozen=True)
class Hooks:
    """What a phase does beside its forward and backward passes.

    Attributes:
        begin: puts in the values that training begins with; the L1 term holds those before.
        around_source: number of a source → the block around all its passes in a step; that of the
            first is also around validation. None if there is nothing to do.
        leaves: what a backward pass differentiates besides the head; by default what trains.
        gather: gradients of `leaves` → those of what trains, by name.
        after_step: called whenever values have changed.
    """

    begin: Callable[[], None] = lambda: None
    around_source: Around | None = None
    leaves: Callable[[], Sequence[torch.Tensor]] | None = None
    gather: Callable[[Sequence[torch.Tensor | None]], Mapping[str, Gradient]] | None = None
    after_step: Callable[[], None] = lambda: None


class Passes:
    """The passes of a learner over its steps. The learner is in training mode here but for
    validation.

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
        trained: Mapping[str, torch.nn.Parameter],
        head: Mapping[str, torch.nn.Parameter],
        update: Update,
    ) -> None:
        self._learner, self._steps, self._hooks = learner, steps, hooks
        self._session, self._resolved, self._update = session, resolved, update
        self._trained, self._head = trained, head
        self._device = learner.model.device
        self._replay = Replay(self._compute) if resolved.graph else None
        self.parts = 1
        learner.train()  # not in each step: it visits every module

    def step(self, number: int) -> tuple[torch.Tensor, torch.Tensor, int]:
        """Make a step, counted from 0: its loss, as an estimate from this process's share; the norm
        of its gradient; and the tokens of the share. Raises DeviceError if a batch does not fit
        the GPU and may not be cut."""
        while True:
            step = self._steps.step(number, self.parts)
            self._seed_dropout(number)
            try:
                loss, norm = self._on_device(step)
            except torch.OutOfMemoryError as error:
                self._cut_further(number, step, error)
                continue
            except CannotRecordError as error:
                self._go_plainly(error)
                continue
            tokens = sum(batch["input_ids"].numel() for batch in step.batches)
            return loss * share()[1], norm, tokens

    def _on_device(self, step: Step) -> tuple[torch.Tensor, ...]:
        # A short text may have no masked token: then there is no loss and no gradient. A tensor,
        # since a GPU divides by a number of the CPU in another way than by one of its own.
        labels = pinned_for(torch.tensor(float(max(1, step.labels))), self._device)
        batches = [
            {name: pinned_for(tensor, self._device) for name, tensor in batch.items()}
            for batch in step.batches
        ]
        if self._replay is not None:
            return self._replay(batches, labels)
        here = [
            {name: tensor.to(self._device, non_blocking=True) for name, tensor in batch.items()}
            for batch in batches
        ]
        return self._compute(here, labels.to(self._device, non_blocking=True), step.sources)

    def _seed_dropout(self, number: int) -> None:
        # Dropout, too, is a function of the step. Not by torch.manual_seed, which takes half a
        # millisecond to look for other devices.
        seed = stream(self._session.dropout_seed, "step", str(number), str(share()[0]))
        torch.default_generator.manual_seed(seed)
        if self._device.type == "cuda":
            torch.cuda.manual_seed(seed)

    def _compute(
        self, batches: Sequence[Batch], labels: torch.Tensor, sources: Sequence[int] = ()
    ) -> tuple[torch.Tensor, ...]:
        """Loss and norm of a step, which is made here. Nothing in it waits for the device, and all
        that differs from step to step is in tensors there, so it can be recorded."""
        loss = torch.zeros((), device=self._device)
        around = self._hooks.around_source
        if around is None:
            for batch in batches:
                loss = loss + self._backward(batch, labels)
        else:
            pairs = zip(sources, batches, strict=True)
            for source, few in groupby(pairs, key=lambda pair: pair[0]):
                with around(source):
                    for _, batch in few:
                        loss = loss + self._backward(batch, labels)
        try:
            norm = self._update.step()
        except torch.OutOfMemoryError as error:  # values may have moved: it cannot be tried again
            raise DeviceError(f"the GPU's memory does not hold the update: {error}") from None
        self._hooks.after_step()
        return loss, norm

    def _backward(self, batch: Batch, labels: torch.Tensor) -> torch.Tensor:
        with ExitStack() as around:
            around.enter_context(self._autocast())
            if self._device.type == "cuda" or self._replay is not None:
                around.enter_context(masks_as_recorded())
            loss = self._learner(**batch)
        loss = loss / labels
        head = list(self._head.values())
        trained = self._hooks.leaves() if self._hooks.leaves else list(self._trained.values())
        loss.backward(inputs=[*trained, *head])
        slopes = [leaf.grad for leaf in trained]
        gather = self._hooks.gather or (lambda few: dict(zip(self._trained, few, strict=True)))
        found = dict(gather(slopes))
        found |= {f"head.{name}": parameter.grad for name, parameter in self._head.items()}
        for leaf in [*trained, *head]:
            leaf.grad = None
        self._update.add(found)
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
        self._forget_gradients()
        if self._replay is not None:
            self._replay.forget()
        torch.cuda.empty_cache()
        self.parts *= 2
        log.warning(
            "step %d: the GPU's memory does not hold a batch of %d examples; from here on each is "
            "cut into %d, which changes rounding only",
            number + 1,
            largest,
            self.parts,
        )

    def _go_plainly(self, error: Exception) -> None:
        """Let the step be tried again, without a CUDA graph unless one was asked for."""
        if self._session.engine.graph is True:
            raise DeviceError(
                f"engine.graph is true, but a step of this base waits for the GPU, so that it "
                f"cannot be recorded; set it to auto. PyTorch: {error}"
            ) from None
        log.warning("steps are not recorded as CUDA graphs: %s", error)
        self._forget_gradients()
        self._replay = None

    def _forget_gradients(self) -> None:
        self._update.forget()
        # Those of adapters are not among the model's.
        for parameter in [*self._learner.parameters(), *self._trained.values()]:
            parameter.grad = None

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """The validation values, with the vector of the first source in the weights. Compiled code
        is not used: batches have other shapes here."""
        self._learner.eval()
        with ExitStack() as around:
            if self._hooks.around_source is not None:
                around.enter_context(self._hooks.around_source(0))
            if self._resolved.compile is not None:
                around.enter_context(torch.compiler.set_stance("force_eager"))
            around.enter_context(self._autocast())
            values = self._steps.objective.validate(self._learner, self._device)
        self._learner.train()
        return values
