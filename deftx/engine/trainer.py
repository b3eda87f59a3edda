"""One phase of training with transformers' Trainer; which parameters train is the caller's word.

The Trainer keeps the loop, the schedule, clipping, callbacks and trackers. What it calls a batch
is here all of an optimiser step, so that its own accumulation and sharding do not come in.
"""

import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, nullcontext
from itertools import groupby
from typing import Any

import torch
from torch.utils.data import DataLoader
from transformers import (
    PreTrainedModel,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
    get_linear_schedule_with_warmup,
)

from deftx.core.parameters import head_parameters
from deftx.engine.checkpoint import SaveState, StopRequest
from deftx.engine.guards import L1, KeepBest, LossGuard
from deftx.engine.objective import Learner, Objective
from deftx.engine.processes import add_up_gradients, share
from deftx.engine.session import Resolved, Session, resolve
from deftx.engine.settings import Training
from deftx.engine.steps import COST_OF_A_PASS, Steps, tokens
from deftx.models.device import available_device
from deftx.run.progress import ShowProgress
from deftx.store.errors import DeviceError, InputError, NotFiniteError
from deftx.store.seeds import stream

log = logging.getLogger(__name__)

LOSSES_AT_ONCE = {"cpu": 1, "cuda": 50}
"""Steps between two looks at the loss; on a GPU each look waits for the device."""


def freeze(model: PreTrainedModel, attention: str = "sdpa") -> int:
    """How many parameters the model has, which now is on the device it will train on, and none of
    which trains. To be called before anything refers to its tensors: moving replaces them.

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


def train(
    learner: Learner,
    trained: Mapping[str, torch.nn.Parameter],
    objective: Objective,
    settings: Training,
    session: Session,
    *,
    total: int,
    rates: Mapping[str, float] | None = None,
    begin: Callable[[], None] = lambda: None,
    around_source: Callable[[int], AbstractContextManager[Any]] = nullcontext,
    around_batch: Callable[[], AbstractContextManager[None]] = nullcontext,
    after_step: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Train the parameters `trained` and leave them at their best checkpoint, or as they are after
    the last step if nothing validates.

    `total` is N of the L1 term, the number of all parameters; `rates` are the learning rates of
    those parameters that have another than `settings` says. `begin()` puts in the values that
    training begins with, while the L1 term holds those that are there before. Each forward and
    backward pass runs inside of `around_batch()`, all of one source's in a step inside of
    `around_source(number)`, and validation inside of that of the first; `after_step()` is called
    whenever values have changed.

    Returns what happened: `steps`, the `best_step` with its validation value, the `history` of
    validation values, and the `engine` as it was resolved.

    Raises NotFiniteError, with the step, if the loss is not finite or explodes;
    DeviceError; and Stopped if a signal came and there is a checkpoint.
    """
    device = next(iter(trained.values())).device
    resolved = resolve(session.engine, device, settings.steps(*objective.sources))
    optimizer = torch.optim.AdamW(
        _by_rate(trained, rates or {}, settings.learning_rate),
        weight_decay=settings.weight_decay,
        fused=device.type == "cuda" or None,
    )
    keeper = KeepBest(trained, objective, settings)
    guard = LossGuard(LOSSES_AT_ONCE[device.type])
    l1 = L1(list(trained.values()), settings.l1, total) if settings.l1 else None
    begin()
    progress = {"parts": 1}
    callbacks: list[TrainerCallback] = [keeper, *session.callbacks]
    done, state = 0, None
    with StopRequest(catch=session.checkpoint is not None) as stop:
        if session.checkpoint is not None:
            state = SaveState(session.checkpoint, stop, trained, optimizer, keeper, guard, progress)
            done = state.restore()
            callbacks.append(state)
        after_step()
        optimizer.register_step_post_hook(lambda *_: after_step())
        steps = Steps(
            objective,
            settings,
            done,
            order_seed=session.order_seed,
            draw_seed=session.draw_seed,
            share=share(),
            few_shapes=resolved.compile is not None,
            cost=COST_OF_A_PASS[device.type],
        )
        with tempfile.TemporaryDirectory() as folder:  # the Trainer wants one; nothing is saved
            trainer = StepTrainer(
                learner,
                steps,
                session,
                resolved,
                trained=list(trained.values()),
                around_source=around_source,
                around_batch=around_batch,
                guard=guard,
                l1=l1,
                progress=progress,
                args=_arguments(folder, steps, session, resolved),
                optimizers=(optimizer, _schedule(optimizer, settings, objective, done)),
                callbacks=callbacks,
            )
            try:
                if len(steps):
                    trainer.run()
            except FloatingPointError as error:
                raise NotFiniteError(f"{error}{state.kept() if state else ''}") from None
    keeper.restore()
    after_step()
    return {
        "steps": settings.steps(*objective.sources),
        "best_step": keeper.facts["best_step"],
        "best": {objective.best: keeper.facts["best"]},
        "history": keeper.facts["history"],
        "engine": {**resolved.facts(), **progress},
    }


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
    **around: Any,
) -> dict[str, Any]:
    """`train` the parameters `trained`, and the head of the model, which keeps all else.

    `rate` is their learning rate, if the head alone has that of `settings`; `part` holds those that
    are none of the model's; `low` is the dtype of matrix products, by
    default that of the session; `around` are the further arguments of `train`.

    Returns and raises what `train` does, with `trained` and `trained_head`, the numbers of entries.
    """
    head = head_parameters(model)
    both = {**trained, **{f"head.{name}": p for name, p in head.items()}}
    for parameter in both.values():
        parameter.requires_grad_(True)
    low = low or resolve(session.engine, model.device).low
    with closing(objective.learner(model, low)) as learner:
        if part is not None:
            learner.part = part  # where the Trainer's clipping and zeroing see it
        rates = dict.fromkeys(trained, rate) if rate is not None else None
        outcome = train(
            learner, both, objective, settings, session, total=total, rates=rates, **around
        )
    return {
        **outcome,
        "trained": sum(parameter.numel() for parameter in trained.values()),
        "trained_head": sum(parameter.numel() for parameter in head.values()),
    }


class StepTrainer(Trainer):
    """The Trainer over `Steps`: a step's batches forward and backward, then what belongs to the
    step as a whole, before the Trainer clips and updates."""

    def __init__(
        self,
        learner: Learner,
        steps: Steps,
        session: Session,
        resolved: Resolved,
        *,
        trained: list[torch.nn.Parameter],
        around_source: Callable[[int], AbstractContextManager[Any]],
        around_batch: Callable[[], AbstractContextManager[None]],
        guard: LossGuard,
        l1: L1 | None,
        progress: dict[str, int],
        **given: Any,
    ) -> None:
        self._learner, self._steps = learner, steps
        self._session, self._resolved = session, resolved
        self._trained = trained
        self._around_source, self._around_batch = around_source, around_batch
        self._guard, self._l1, self._progress = guard, l1, progress
        try:
            super().__init__(model=learner, train_dataset=steps, **given)
        except RuntimeError as error:  # a tracker's package that is not installed
            raise InputError(f"report_to is {list(session.report_to)}: {error}") from error
        self.remove_callback(PrinterCallback)
        self._shown = ShowProgress(guard.recent)
        self.add_callback(_StartAt(steps.first))
        self.add_callback(self._shown)
        if resolved.compile:
            torch.compiler.reset()  # what was compiled for another model counts as a recompilation
            torch._dynamo.config.suppress_errors = resolved.fall_back
            learner.compile(mode=resolved.compile)

    def run(self) -> None:
        """Train to the last step."""
        self._learner.train()  # not in each step: it visits every module
        try:
            self.train()
            self._guard.check()
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
        return DataLoader(self._steps, batch_size=None, pin_memory=self._resolved.device == "cuda")

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], None]:
        """The next step; how many labels it has is known to it."""
        return [next(epoch_iterator)], None

    def training_step(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        num_items_in_batch: Any = None,
    ) -> torch.Tensor:
        """The loss of a step, its gradient in what trains."""
        step, (rank, processes) = inputs["step"], share()
        while True:
            # Dropout, too, is a function of the step.
            self._seed(stream(self._session.dropout_seed, "step", str(step), str(rank)))
            if self._resolved.compile:
                # Once a step, not for each batch: CUDA graphs hold gradients that are added to.
                torch.compiler.cudagraph_mark_step_begin()
            try:
                if self._progress["parts"] > 1:
                    inputs = self._steps.step(step, self._progress["parts"])
                loss = torch.zeros((), device=self.args.device)
                pairs = zip(inputs["sources"], inputs["batches"], strict=True)
                for source, few in groupby(pairs, key=lambda pair: pair[0]):
                    with self._around_source(source):
                        for _, batch in few:
                            loss = loss + self._backward(batch, inputs["labels"])
                break
            except torch.OutOfMemoryError as error:
                self._cut_further(step, inputs["batches"], error)
        self._shown.tokens += tokens(inputs["batches"])
        add_up_gradients(self._trained)
        if self._l1 is not None:
            self._l1.add_gradient()
        loss = loss * processes  # the Trainer reports the mean over processes
        self._guard.note(step + 1, loss)
        return loss

    def _seed(self, seed: int) -> None:
        """As torch.manual_seed, which takes half a millisecond to look for other devices."""
        torch.default_generator.manual_seed(seed)
        if self._resolved.device == "cuda":
            torch.cuda.manual_seed(seed)

    def _backward(self, batch: dict[str, torch.Tensor], labels: int) -> torch.Tensor:
        device = self.args.device
        batch = {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}
        with self._around_batch():
            with self._autocast():
                loss = self._learner(**batch)
            # A short text may have no masked token: then there is no loss and no gradient.
            loss = loss / max(1, labels)
            loss.backward()
        return loss.detach()

    def _autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast(
            self._resolved.device, torch.bfloat16, enabled=self._resolved.precision == "bf16"
        )

    def _cut_further(
        self, step: int, batches: list[dict[str, torch.Tensor]], error: Exception
    ) -> None:
        """Let the step be tried again with half the examples in a batch, if that was asked for."""
        settings = self._steps.settings
        largest = max(len(batch["input_ids"]) for batch in batches)
        length = max(batch["input_ids"].shape[1] for batch in batches)
        if self._session.engine.on_out_of_memory == "stop" or largest == 1:
            raise DeviceError(
                f"step {step + 1}: the GPU's memory does not hold a batch of {largest} x {length} "
                f"tokens (batch_size {settings.batch_size}, accumulation {settings.accumulation}). "
                "Halve batch_size and double accumulation, or set engine.on_out_of_memory: halve, "
                f"or engine.precision: bf16. PyTorch: {error}"
            ) from None
        self._learner.zero_grad()
        torch.cuda.empty_cache()
        self._progress["parts"] *= 2
        log.warning(
            "step %d: the GPU's memory does not hold a batch of %d examples; from here on each is "
            "cut into %d, which changes rounding only",
            step + 1,
            largest,
            self._progress["parts"],
        )

    @torch.no_grad()
    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Validation values, under the names that the Trainer gives them."""
        self._guard.check()
        self._learner.eval()
        with self._around_source(0), self._autocast():
            values = self._steps.objective.validate(self._learner, self.args.device)
        self._learner.train()
        metrics = {f"eval_{name}": value for name, value in values.items()}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics


class _StartAt(TrainerCallback):
    """Lets the Trainer count from a step that is already done."""

    def __init__(self, step: int) -> None:
        self._step = step

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        state.global_step = self._step


def _by_rate(
    trained: Mapping[str, torch.nn.Parameter], rates: Mapping[str, float], usual: float
) -> list[dict[str, Any]]:
    """The optimiser's groups: one for each learning rate."""
    groups: dict[float, list[torch.nn.Parameter]] = {}
    for name, parameter in trained.items():
        groups.setdefault(rates.get(name, usual), []).append(parameter)
    return [{"params": parameters, "lr": rate} for rate, parameters in groups.items()]


def _schedule(
    optimizer: torch.optim.Optimizer, settings: Training, objective: Objective, done: int
) -> torch.optim.lr_scheduler.LambdaLR:
    """Warm-up and linear decay to 0, from the step after `done` on."""
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]
    steps = settings.steps(*objective.sources)
    return get_linear_schedule_with_warmup(
        optimizer, settings.warmup_steps, steps, last_epoch=done - 1
    )


def _arguments(
    folder: str, steps: Steps, session: Session, resolved: Resolved
) -> TrainingArguments:
    on_gpu = resolved.device == "cuda"
    last = steps.first + len(steps)
    arguments = TrainingArguments(
        output_dir=folder,
        max_steps=last,
        max_grad_norm=steps.settings.clip,
        seed=session.dropout_seed,
        eval_strategy="no",  # KeepBest asks for evaluations
        save_strategy="no",
        logging_steps=max(1, last // 20),
        logging_nan_inf_filter=False,  # LossGuard does that, and without waiting in each step
        remove_unused_columns=False,
        report_to=list(session.report_to) or "none",
        disable_tqdm=True,
        use_cpu=not on_gpu,
        ddp_backend="gloo" if share()[1] > 1 and not on_gpu else None,
    )
    if arguments.n_gpu > 1:  # or the Trainer would split each batch over all that it sees
        arguments._n_gpu = 1
    return arguments
