"""One phase of training, as one loop. The caller chooses the parameters that train."""

from collections.abc import Collection, Mapping
from contextlib import ExitStack, closing
from dataclasses import asdict, replace
from typing import Any

import torch
from transformers import PreTrainedModel

from deftx.core.parameters import head_parameters
from deftx.engine.compiled import compiled_layers
from deftx.engine.fused import FusedUpdate
from deftx.engine.guard import LossGuard, kept_state
from deftx.engine.lookup import small_tables_by_row
from deftx.engine.objective import Objective
from deftx.engine.passes import Hooks, Passes
from deftx.engine.processes import is_first, join_processes, share
from deftx.engine.resume import Saver
from deftx.engine.session import Session, resolve
from deftx.engine.settings import Training
from deftx.engine.steps import COST_OF_A_PASS, Steps
from deftx.engine.update import PlainUpdate, Rules, Update
from deftx.models.device import available_device
from deftx.run.progress import ShowProgress
from deftx.store.errors import InputError

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


def train_with_head(
    model: PreTrainedModel,
    trained: Mapping[str, torch.nn.Parameter],
    objective: Objective,
    settings: Training,
    session: Session,
    *,
    total: int,
    rate: float | None = None,
    low: torch.dtype | None = None,
    lowered: Collection[str] = (),
    rows: str | None = None,
    hooks: Hooks | None = None,
) -> dict[str, Any]:
    """Train the parameters `trained` and the head of the model, and leave them at their best
    checkpoint, or at the mean of the last ones if `settings.average` is given, or as they are after
    the last step if nothing validates; all else stays as it is.

    `total` is N of the L1 term, the number of all parameters; `rate` the learning rate of
    `trained`, if the head alone has that of `settings`; `low` the dtype of matrix products, by
    default that of the session. The model may compute with `trained` values in that dtype where
    their names are in `lowered`; the gradient of the one called `rows` is that of a `LookUp`.

    Returns what happened: `steps`, the `best_step` with its validation value, the `history` of
    validation values, the `engine` as it was resolved, and `trained` and `trained_head`, the
    numbers of entries; with an average also `averaged`, its `steps` and validation value.

    Raises InputError if fewer states are validated than are to be averaged; NotFiniteError, with
    the step, if the loss is not finite or explodes; DeviceError; and Stopped if a signal came and
    there is a checkpoint.
    """
    hooks, head = hooks or Hooks(), head_parameters(model)
    both = {**trained, **{f"head.{name}": parameter for name, parameter in head.items()}}
    for parameter in both.values():
        parameter.requires_grad_(True)
    rates = dict.fromkeys(both, settings.learning_rate)
    if rate is not None:
        rates |= dict.fromkeys(trained, rate)
    rules = Rules(rates, settings.l1, total, settings.clip, settings.weight_decay)
    last, every = settings.steps(*objective.sources), settings.evaluate_every
    if every == "epoch":
        every = settings.steps_per_epoch(*objective.sources)
    validates = objective.validates and is_first()
    resolved = resolve(session.engine, model.device, last)
    if hooks.around_source is not None:  # blocks around passes cannot be recorded
        resolved = replace(resolved, graph=False)
    exact = all(parameter.dtype == torch.float32 for parameter in both.values())
    if settings.weight_decay or not exact or share()[1] > 1:  # what its kernels do not know
        resolved = replace(resolved, fused=False)
    join_processes(model.device)
    steps = Steps(
        objective,
        settings,
        session.order_seed,
        session.draw_seed,
        share=share(),
        # On a GPU always, so that steps which are replayed and plain ones compute the same.
        few_shapes=resolved.device == "cuda" or resolved.compile is not None,
        cost=COST_OF_A_PASS[resolved.device],
    )
    best = kept_state(objective, settings, last, every)
    guard = LossGuard(LOSSES_AT_ONCE[resolved.device])
    with ExitStack() as around:
        learner = around.enter_context(closing(objective.learner(model, low or resolved.low)))
        around.enter_context(
            compiled_layers(model, resolved.compile, session.engine.compile == "auto")
        )
        if resolved.device == "cuda":
            around.enter_context(small_tables_by_row(model))
        start = {n: p.detach().clone() for n, p in both.items()} if settings.l1 else {}
        hooks.begin()
        update: Update
        if resolved.fused:
            low_names = lowered if resolved.precision == "bf16" else ()
            update = FusedUpdate(both, rules, start, low_names, rows)
        else:
            # The bits of the norm depend on the order in which it adds up: the learner's first.
            every_one = dict.fromkeys([*learner.parameters(), *both.values()])
            order = [parameter for parameter in every_one if parameter.requires_grad]
            update = PlainUpdate(both, rules, start, order, on_device=resolved.graph)
        around.callback(update.close)
        passes = Passes(learner, steps, session, resolved, hooks, trained, head, update)
        saver = around.enter_context(Saver(session.checkpoint, update, best, guard, passes))
        done = saver.restore()
        hooks.after_step()
        report_to = session.report_to if is_first() else ()
        progress = around.enter_context(ShowProgress(done, last, guard.recent, report_to))
        for step in range(done, last):
            session.before_step(step)
            saver.save_if_due(step, last)
            factor = warm_up_and_decay(settings.warmup_steps, last, step)
            update.begin(step, factor)
            loss, norm, tokens = passes.step(step)
            guard.note(step + 1, loss)
            factor = warm_up_and_decay(settings.warmup_steps, last, step + 1)
            progress.step(step + 1, tokens, next(iter(rates.values())) * factor, norm)
            if validates and ((step + 1) % every == 0 or step + 1 == last):
                guard.check()
                found = passes.validate()
                progress.report(step + 1, {f"eval/{name}": v for name, v in found.items()})
                best.note(step + 1, last, found, update.values)
        guard.check()
        best.restore(update.values)
        update.changed()
        hooks.after_step()
        ended = best.outcome(passes.validate)
    return {
        "steps": last,
        **ended,
        "engine": {**asdict(resolved), "parts": passes.parts},
        "trained": sum(parameter.numel() for parameter in trained.values()),
        "trained_head": sum(parameter.numel() for parameter in head.values()),
    }


def warm_up_and_decay(warm_up: int, last: int, step: int) -> float:
    """The share of the learning rate after so many steps: linear from 0 to 1 in the first
    `warm_up` ones, then linear to 0 at the last one."""
    if step < warm_up:
        return step / warm_up
    return max(0.0, (last - step) / max(1, last - warm_up))
