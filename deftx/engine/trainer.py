"""One phase of training with transformers' Trainer; which parameters train is the caller's word.

The Trainer keeps the loop, the schedule, clipping, callbacks and trackers. What it calls a batch
is here all of an optimiser step, so that its own accumulation and sharding do not come in.
"""

import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch.utils.data import DataLoader
from transformers import (
    PreTrainedModel,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    get_linear_schedule_with_warmup,
)

from deftx.core.parameters import head_parameters
from deftx.engine.checkpoint import SaveState, StopRequest
from deftx.engine.guards import L1, KeepBest, LossGuard
from deftx.engine.objective import Batch, Learner, Objective
from deftx.engine.processes import add_up_gradients, share
from deftx.engine.session import Resolved, Session, resolve
from deftx.engine.settings import Training
from deftx.engine.steps import COST_OF_A_PASS, Steps
from deftx.models.device import available_device
from deftx.run.progress import ShowProgress
from deftx.store.errors import DeviceError, InputError, NotFiniteError
from deftx.store.seeds import stream

log = logging.getLogger(__name__)

LOSSES_AT_ONCE = {"cpu": 1, "cuda": 50}
"""Steps between two looks at the loss; on a GPU each look waits for the device."""


def freeze(model: PreTrainedModel, attention: str = "sdpa") -> int:
    """Move the model to the device where it will train, freeze its parameters, and return their
    number. Call this before anything refers to its tensors: moving replaces them.

    Raises InputError if there is no such attention for it here.
    """
    try:
        model.set_attn_implementation(attention)
    except (ImportError, ValueError) as error:
        raise InputError(f"engine.attention is {attention!r}: {error}") from None
    torch.nn.Module.to(model, available_device())
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    return sum(parameter.numel() for parameter in model.parameters())


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


def train_with_head(
    model: PreTrainedModel,
    trained: Mapping[str, torch.nn.Parameter],
    objective: Objective,
    settings: Training,
    session: Session,
    *,
    total: int,
    rate: float | None = None,
    part: torch.nn.Module | None = None,
    low: torch.dtype | None = None,
    hooks: Hooks | None = None,
) -> dict[str, Any]:
    """Train the parameters `trained` and the head of the model, and leave them at their best
    checkpoint, or as they are after the last step if nothing validates; all else stays as it is.

    `total` is N of the L1 term, the number of all parameters; `rate` the learning rate of
    `trained`, if the head alone has that of `settings`; `part` the module of those parameters that
    are none of the model's; `low` the dtype of matrix products, by default that of the session.

    Returns what happened: `steps`, the `best_step` with its validation value, the `history` of
    validation values, the `engine` as it was resolved, and `trained` and `trained_head`, the
    numbers of entries.

    Raises NotFiniteError, with the step, if the loss is not finite or explodes;
    DeviceError; and Stopped if a signal came and there is a checkpoint.
    """
    hooks = hooks or Hooks()
    head = head_parameters(model)
    both = {**trained, **{f"head.{name}": parameter for name, parameter in head.items()}}
    for parameter in both.values():
        parameter.requires_grad_(True)
    last = settings.steps(*objective.sources)
    resolved = resolve(session.engine, model.device, last)
    rates: list[tuple[Mapping[str, torch.nn.Parameter], float]]
    rates = [(both, settings.learning_rate)]
    if rate is not None:
        rates = [(trained, rate), (head, settings.learning_rate)]
    optimizer = torch.optim.AdamW(
        # In the order of `both`, which checkpoints count on; `initial_lr` lets a schedule begin
        # later.
        [{"params": list(p.values()), "lr": lr, "initial_lr": lr} for p, lr in rates],
        weight_decay=settings.weight_decay,
        fused=resolved.device == "cuda" or None,
    )
    keeper = KeepBest(both, objective, settings)
    guard = LossGuard(LOSSES_AT_ONCE[resolved.device])
    callbacks: list[TrainerCallback] = [keeper, *session.callbacks]
    progress = {"parts": 1}
    done, state = 0, None
    with (
        closing(objective.learner(model, low or resolved.low)) as learner,
        StopRequest(catch=session.checkpoint is not None) as stop,
        tempfile.TemporaryDirectory() as folder,  # the Trainer wants one; nothing is saved
    ):
        if part is not None:
            learner.part = part  # where the Trainer's clipping and zeroing see it
        l1 = L1(list(both.values()), settings.l1, total) if settings.l1 else None
        hooks.begin()
        if session.checkpoint is not None:
            state = SaveState(session.checkpoint, stop, both, optimizer, keeper, guard, progress)
            done = state.restore()
            callbacks.append(state)
        hooks.after_step()
        optimizer.register_step_post_hook(lambda *_: hooks.after_step())
        steps = Steps(
            objective,
            settings,
            done,
            order_seed=session.order_seed,
            draw_seed=session.draw_seed,
            share=share(),
            few_shapes=resolved.compile is not None,
            cost=COST_OF_A_PASS[resolved.device],
        )
        schedule = get_linear_schedule_with_warmup(
            optimizer, settings.warmup_steps, last, last_epoch=done - 1
        )
        run = Run(
            learner, list(both.values()), steps, session, resolved, hooks, guard, l1, progress
        )
        trainer = StepTrainer(run, folder, optimizers=(optimizer, schedule), callbacks=callbacks)
        try:
            if len(steps):
                trainer.run()
        except FloatingPointError as error:
            raise NotFiniteError(f"{error}{state.kept() if state else ''}") from None
        keeper.restore()
        hooks.after_step()
    return {
        "steps": last,
        "best_step": keeper.facts["best_step"],
        "best": {objective.best: keeper.facts["best"]},
        "history": keeper.facts["history"],
        "engine": {**resolved.facts(), **progress},
        "trained": sum(parameter.numel() for parameter in trained.values()),
        "trained_head": sum(parameter.numel() for parameter in head.values()),
    }


@dataclass(frozen=True)
class Run:
    """All that the loop works on. Attributes: `trained`: what has gradients; `progress`: what else
    changes while training and is saved, `parts`: into how many parts batches are cut."""

    learner: Learner
    trained: list[torch.nn.Parameter]
    steps: Steps
    session: Session
    resolved: Resolved
    hooks: Hooks
    guard: LossGuard
    l1: L1 | None
    progress: dict[str, int]


class StepTrainer(Trainer):
    """The Trainer over `Steps`: a step's batches forward and backward, then what belongs to the
    step as a whole, before the Trainer clips and updates."""

    def __init__(self, run: Run, folder: str, **given: Any) -> None:
        self._run, arguments = run, _arguments(run, folder)
        try:
            super().__init__(model=run.learner, args=arguments, train_dataset=run.steps, **given)
        except RuntimeError as error:  # a tracker's package that is not installed
            raise InputError(f"report_to is {list(run.session.report_to)}: {error}") from error
        self.remove_callback(PrinterCallback)
        self._shown = ShowProgress(run.guard.recent)
        self.add_callback(self._shown)
        if run.resolved.compile:
            torch.compiler.reset()  # what was compiled for another model counts as a recompilation
            torch._dynamo.config.suppress_errors = run.resolved.fall_back
            run.learner.compile(mode=run.resolved.compile)

    def run(self) -> None:
        """Train to the last step."""
        self._run.learner.train()  # not in each step: it visits every module
        try:
            self.train()
            self._run.guard.check()
        finally:
            self._shown.stop()

    def create_accelerator_and_postprocess(self) -> None:
        """As the Trainer does, but the model is left as it is: it is where it trains, in storage
        that must not be replaced, and its gradients are exchanged by `add_up_gradients`."""
        super().create_accelerator_and_postprocess()
        self.accelerator.prepare_model = lambda model, **_: model

    def _move_model_to_device(self, model: torch.nn.Module, device: torch.device) -> None:
        """See `create_accelerator_and_postprocess`."""

    def get_train_dataloader(self) -> DataLoader[Any]:
        """The steps in their order."""
        on_gpu = self._run.resolved.device == "cuda"
        return DataLoader(self._run.steps, batch_size=None, pin_memory=on_gpu)

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], None]:
        """The next step; how many labels it has is known to it."""
        return [next(epoch_iterator)], None

    def training_step(
        self, model: torch.nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """The loss of a step, its gradient in what trains."""
        run, step, (rank, processes) = self._run, inputs["step"], share()
        while True:
            # Dropout, too, is a function of the step. Not by torch.manual_seed, which takes half a
            # millisecond to look for other devices.
            seed = stream(run.session.dropout_seed, "step", str(step), str(rank))
            torch.default_generator.manual_seed(seed)
            if run.resolved.device == "cuda":
                torch.cuda.manual_seed(seed)
            if run.resolved.compile:
                # Once a step, not for each batch: CUDA graphs hold gradients that are added to.
                torch.compiler.cudagraph_mark_step_begin()
            try:
                if run.progress["parts"] > 1:
                    inputs = run.steps.step(step, run.progress["parts"])
                loss = torch.zeros((), device=self.args.device)
                pairs = zip(inputs["sources"], inputs["batches"], strict=True)
                for source, few in groupby(pairs, key=lambda pair: pair[0]):
                    with run.hooks.around_source(source):
                        for _, batch in few:
                            loss = loss + self._backward(batch, inputs["labels"])
                break
            except torch.OutOfMemoryError as error:
                self._cut_further(step, inputs["batches"], error)
        self._shown.tokens += sum(batch["input_ids"].numel() for batch in inputs["batches"])
        add_up_gradients(run.trained)
        if run.l1 is not None:
            run.l1.add_gradient()
        loss = loss * processes  # the Trainer reports the mean over processes
        run.guard.note(step + 1, loss)
        return loss

    def _backward(self, batch: Batch, labels: int) -> torch.Tensor:
        device = self.args.device
        batch = {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}
        with self._run.hooks.around_batch():
            with self._autocast():
                loss = self._run.learner(**batch)
            # A short text may have no masked token: then there is no loss and no gradient.
            loss = loss / max(1, labels)
            loss.backward()
        return loss.detach()

    def _autocast(self) -> AbstractContextManager[Any]:
        resolved = self._run.resolved
        bf16 = resolved.precision == "bf16"
        return torch.autocast(resolved.device, torch.bfloat16, enabled=bf16)

    def _cut_further(self, step: int, batches: list[Batch], error: Exception) -> None:
        """Let the step be tried again with half the examples in a batch, if that was asked for."""
        run, settings = self._run, self._run.steps.settings
        largest = max(len(batch["input_ids"]) for batch in batches)
        length = max(batch["input_ids"].shape[1] for batch in batches)
        if run.session.engine.on_out_of_memory == "stop" or largest == 1:
            raise DeviceError(
                f"step {step + 1}: the GPU's memory does not hold a batch of {largest} x {length} "
                f"tokens (batch_size {settings.batch_size}, accumulation {settings.accumulation}). "
                "Halve batch_size and double accumulation, or set engine.on_out_of_memory: halve, "
                f"or engine.precision: bf16. PyTorch: {error}"
            ) from None
        run.learner.zero_grad()
        torch.cuda.empty_cache()
        run.progress["parts"] *= 2
        log.warning(
            "step %d: the GPU's memory does not hold a batch of %d examples; from here on each is "
            "cut into %d, which changes rounding only",
            step + 1,
            largest,
            run.progress["parts"],
        )

    @torch.no_grad()
    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Validation values, under the names that the Trainer gives them."""
        run = self._run
        run.guard.check()
        run.learner.eval()
        with run.hooks.around_source(0), self._autocast():
            values = run.steps.objective.validate(run.learner, self.args.device)
        run.learner.train()
        metrics = {f"eval_{name}": value for name, value in values.items()}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics


def _arguments(run: Run, folder: str) -> TrainingArguments:
    on_gpu = run.resolved.device == "cuda"
    last = run.steps.first + len(run.steps)
    arguments = TrainingArguments(
        output_dir=folder,
        max_steps=last,
        max_grad_norm=run.steps.settings.clip,
        seed=run.session.dropout_seed,
        eval_strategy="no",  # KeepBest asks for evaluations
        save_strategy="no",
        logging_steps=max(1, last // 20),
        logging_nan_inf_filter=False,  # LossGuard does that, and without waiting in each step
        remove_unused_columns=False,
        report_to=list(run.session.report_to) or "none",
        disable_tqdm=True,
        use_cpu=not on_gpu,
        ddp_backend="gloo" if share()[1] > 1 and not on_gpu else None,
    )
    if arguments.n_gpu > 1:  # or the Trainer would split each batch over all that it sees
        arguments._n_gpu = 1
    return arguments
