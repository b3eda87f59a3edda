"""One phase of training with transformers' Trainer; which parameters train is the caller's word."""

import logging
import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from transformers import (
    PreTrainedModel,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from deftx.encoder import available_device
from deftx.objective import Objective
from deftx.settings.training import Training

log = logging.getLogger(__name__)


def freeze(model: PreTrainedModel) -> int:
    """How many parameters the model has, which now is on the GPU, if there is one, and none of
    which trains. To be called before anything refers to its tensors: the Trainer would move them
    later."""
    torch.nn.Module.to(model, available_device())
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    return sum(parameter.numel() for parameter in model.parameters())


def train(
    model: PreTrainedModel,
    trained: Sequence[torch.nn.Parameter],
    objective: Objective,
    settings: Training,
    *,
    total: int,
    order_seed: int,
    dropout_seed: int,
    after_step: Callable[[], None] | None = None,
) -> dict[str, Any]:
    """Train the parameters `trained` of a frozen model and leave them at their best checkpoint.

    `total` is N of the L1 term, the number of all parameters; `after_step` is called after each
    step of the optimiser.

    Returns what happened: `steps`, the chosen step and its validation value, and the `history` of
    validation values.

    Raises FloatingPointError, with the step, if the loss is not finite.
    """
    for parameter in trained:
        parameter.requires_grad_(True)
    optimizer = torch.optim.AdamW(
        trained, lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    if after_step is not None:
        optimizer.register_step_post_hook(lambda *_: after_step())
    steps = settings.steps(len(objective.train))
    keeper = KeepBest(trained, objective, settings, steps)
    with tempfile.TemporaryDirectory() as unused:  # the Trainer wants a folder; it saves nothing
        trainer = MaskedTrainer(
            model=model,
            args=_arguments(unused, settings, objective, steps, order_seed, dropout_seed),
            train_dataset=list(objective.train),
            eval_dataset=list(objective.valid),
            data_collator=objective.collate,
            compute_metrics=_compute_metrics(objective),
            optimizers=(optimizer, None),
            callbacks=[keeper],
        )
        trainer.l1 = L1(trained, settings.l1, total) if settings.l1 else None
        trainer.masked_positions_only = objective.score is None
        trainer.train()
    keeper.restore()
    return {
        "steps": steps,
        "best_step": keeper.best_step,
        "best": {objective.best: keeper.best},
        "history": keeper.history,
    }


class L1:
    """The gradient of λ·Σ|p − p_start| / N in closed form, N counting every parameter of the
    model, trained or not (as the LT-SFT code does)."""

    def __init__(self, parameters: Sequence[torch.nn.Parameter], weight: float, total: int) -> None:
        self._scale = weight / total
        self._pairs = [(parameter, parameter.detach().clone()) for parameter in parameters]

    @torch.no_grad()
    def add_gradient(self) -> None:
        """Add the gradient to that of each parameter that has one."""
        for parameter, start in self._pairs:
            if parameter.grad is not None:
                parameter.grad.add_(torch.sign(parameter - start), alpha=self._scale)


class KeepBest(TrainerCallback):
    """Evaluates on schedule and at the last step; remembers the best values of what trains.

    In memory, since the Trainer would write whole models (and pickles) for it. Ties keep the
    earlier checkpoint.
    """

    def __init__(
        self,
        trained: Sequence[torch.nn.Parameter],
        objective: Objective,
        settings: Training,
        steps: int,
    ) -> None:
        self._trained, self._name, self._steps = trained, objective.best, steps
        self._sign = -1.0 if objective.best == "loss" else 1.0
        every = settings.evaluate_every
        if every == "epoch":
            every = settings.steps_per_epoch(len(objective.train))
        self._every = every
        self._kept: list[torch.Tensor] = []
        self.best: float | None = None
        self.best_step: int | None = None
        self.history: list[dict[str, float]] = []

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Ask for an evaluation where one is due."""
        control.should_evaluate = (
            state.global_step % self._every == 0 or state.global_step == self._steps
        )

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **given: Any,
    ) -> None:
        """Remember the weights if they are the best so far."""
        value = given["metrics"][f"eval_{self._name}"]
        self.history.append({"step": state.global_step, self._name: value})
        log.info("step %d of %d: %s %.4f", state.global_step, self._steps, self._name, value)
        if not math.isfinite(value):
            raise FloatingPointError(
                f"step {state.global_step}: validation {self._name} is {value}"
            )
        if self.best is None or self._sign * value > self._sign * self.best:
            self.best, self.best_step = value, state.global_step
            self._kept = [parameter.detach().clone() for parameter in self._trained]

    @torch.no_grad()
    def restore(self) -> None:
        """Put the best values back."""
        for parameter, kept in zip(self._trained, self._kept, strict=True):
            parameter.copy_(kept)


class MaskedTrainer(Trainer):
    """The Trainer with the loss at masked positions only, and the L1 term before clipping."""

    l1: L1 | None = None
    masked_positions_only = True
    loss_is_scaled_for_ga = False

    def training_step(
        self, model: torch.nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """The loss of a batch, its gradient added; with the last batch of a step, that of L1."""
        loss = super().training_step(model, inputs, num_items_in_batch)
        if not torch.isfinite(loss):
            raise FloatingPointError(
                f"step {self.state.global_step + 1}: the loss is {loss.item()}"
            )
        if self.l1 is not None and self.accelerator.sync_gradients:
            self.l1.add_gradient()
        return loss

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """Cross-entropy, the mean over the batch; and the logits, if they are asked for."""
        inputs = dict(inputs)
        labels = inputs.pop("labels")
        if not self.masked_positions_only:
            outputs = model(**inputs)
        else:
            chosen = labels != -100
            labels = labels[chosen]
            with only_positions(cast(PreTrainedModel, self.model), chosen):
                outputs = model(**inputs)
        loss = torch.nn.functional.cross_entropy(
            outputs.logits.view(-1, outputs.logits.shape[-1]).float(), labels.view(-1)
        )
        if not len(labels):  # a short block may have no masked token: no loss, no gradient
            loss = outputs.logits.sum() * 0.0
        return (loss, {"loss": loss, "logits": outputs.logits}) if return_outputs else loss


@contextmanager
def only_positions(model: PreTrainedModel, chosen: torch.Tensor) -> Iterator[None]:
    """Inside the block the head of `model` sees only the `chosen` positions (batch, length), as
    one row. Heads work position by position, so their logits are the same; for 15 % masked
    tokens and a large vocabulary this halves the arithmetic."""

    def keep(module: torch.nn.Module, args: Any, output: Any) -> Any:
        output.last_hidden_state = output.last_hidden_state[chosen].unsqueeze(0)
        return output

    hook = model.base_model.register_forward_hook(keep)
    try:
        yield
    finally:
        hook.remove()


def _arguments(
    folder: str,
    settings: Training,
    objective: Objective,
    steps: int,
    order_seed: int,
    dropout_seed: int,
) -> TrainingArguments:
    return TrainingArguments(
        output_dir=folder,
        max_steps=steps,
        learning_rate=settings.learning_rate,
        per_device_train_batch_size=settings.batch_size,
        per_device_eval_batch_size=max(64, settings.batch_size),
        gradient_accumulation_steps=settings.accumulation,
        weight_decay=settings.weight_decay,
        warmup_steps=settings.warmup_steps,
        max_grad_norm=settings.clip,
        lr_scheduler_type="linear",
        seed=dropout_seed,
        data_seed=order_seed,
        eval_strategy="no",  # KeepBest asks for evaluations
        save_strategy="no",
        logging_steps=max(1, steps // 20),
        logging_nan_inf_filter=False,
        prediction_loss_only=objective.score is None,
        remove_unused_columns=False,
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=torch.cuda.is_available(),
    )


def _compute_metrics(objective: Objective) -> Callable[[Any], dict[str, float]] | None:
    score = objective.score
    if score is None:
        return None
    return lambda prediction: score(prediction.predictions, prediction.label_ids)
