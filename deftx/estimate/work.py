"""What each job has to do, before anything is measured: steps, and the arithmetic of one."""

from dataclasses import dataclass
from math import ceil, inf

from deftx.engine.settings import TaskTraining, Training
from deftx.estimate.items import Items
from deftx.estimate.ranges import NOTHING, Range, exactly, total
from deftx.estimate.shape import FORWARD_AND_BACKWARD, Shape
from deftx.plan.graph import Artefact, Inputs, Target
from deftx.plan.plan import Plan
from deftx.stages.base.pretrain import MASK_PROBABILITY
from deftx.stages.base.settings import Pretrain

TRAINING = ("full", "sparse", "adapter", "gate", "gated", "lora")
"""Stages that take steps."""

LANGUAGE = "language"
"""The subject of what is trained on or made for text."""

Phase = tuple[Range, Range, Range, Range | None]
"""Of a phase of training what `Work` has: steps, validation, length, operations."""


@dataclass(frozen=True)
class Work:
    """A job.

    Attributes:
        stage: of its artefact.
        subject: what its steps are like: `language`, the name of a task, or nothing.
        steps: optimiser steps; None for a job that takes none.
        validation: what its validations cost, in steps.
        length: tokens of an example of what is trained on.
        operations: floating-point operations of a step; None if the base's shape is not known.
        entries: of the base's backbone; None if its shape is not known.
        threads: of the processor.
    """

    stage: str
    subject: str
    steps: Range | None = None
    validation: Range = NOTHING
    length: Range = NOTHING
    operations: Range | None = None
    entries: int | None = None
    threads: int = 1


class Works:
    """The work of the jobs of a plan; `shape` is that of the base, if it is known."""

    def __init__(self, plan: Plan, shape: Shape | None, items: Items) -> None:
        self._plan, self._shape, self._items = plan, shape, items
        self._phases: dict[str, Phase] = {}

    def of(self, artefact: Artefact) -> Work:
        """The work of the job that makes it."""
        stage, known = artefact.stage, dict(artefact.wildcards)
        entries = None if self._shape is None else self._shape.backbone
        threads = getattr(self._plan.config.threads, stage, 1)
        if stage == "base" and self._plan.config.base.pretrain is not None:
            phase = self._pretraining(self._plan.config.base.pretrain)
            return Work(stage, "", *phase, entries, threads)
        if "target" not in known:
            return Work(stage, known.get("task", ""), entries=entries, threads=threads)
        target = Target.parse(known["target"])
        subject = LANGUAGE if target.kind == "language" else target.name
        if not self._trains(artefact):
            return Work(stage, subject, entries=entries, threads=threads)
        if target.label not in self._phases:
            self._phases[target.label] = self._phase(target, self._plan.inputs(artefact))
        return Work(stage, subject, *self._phases[target.label], entries, threads)

    def _trains(self, artefact: Artefact) -> bool:
        if artefact.stage not in TRAINING:
            return False
        return artefact.stage != "sparse" or self._plan.row(artefact).retrain

    def _pretraining(self, settings: Pretrain) -> Phase:
        length = exactly(settings.max_length)
        tokens, operations = length * settings.batch_size, None
        if self._shape is not None:
            operations = self._shape.step(tokens, length, MASK_PROBABILITY)
        return exactly(settings.steps), exactly(0), length, operations

    def _phase(self, target: Target, data: Inputs) -> Phase:
        """How a target is trained on its data, in each stage that trains."""
        if target.kind == "language":
            return self._language_phase(data)
        return self._task_phase(self._plan.config.tasks[target.name].training, data)

    def _language_phase(self, data: Inputs) -> Phase:
        settings, (text,) = self._plan.config.language_training, data["train"]
        if settings.packed:
            examples = self._items.tokens(text) / settings.max_length
            length = exactly(settings.max_length)
        else:
            examples = self._items.count(text)
            length = self._items.mean_length([text], settings.max_length)
        if examples.high == inf and settings.max_steps:
            # Validation of a text of unknown length: at most of one that takes max_steps.
            batch = settings.batch_size * settings.accumulation
            longest = settings.max_steps * batch / settings.epochs / (1 - settings.held_out)
            examples = Range(examples.low, max(examples.low, longest))
        train, valid = examples * (1 - settings.held_out), examples * settings.held_out
        return self._steps(settings, [train], valid, length, settings.mask_probability)

    def _task_phase(self, settings: TaskTraining, data: Inputs) -> Phase:
        length = self._items.mean_length(data["train"], settings.max_length)
        train = [self._items.count(part) for part in data["train"]]
        valid = total(self._items.count(part) for part in data["valid"])
        return self._steps(settings, train, valid, length, 0)

    def _steps(
        self,
        settings: Training,
        train: list[Range],
        valid: Range,
        length: Range,
        predicted: float,
    ) -> Phase:
        batch = settings.batch_size * settings.accumulation
        bounds = [[part.low for part in train], [part.high for part in train]]
        low, high = (_bounded(settings, examples) for examples in bounds)
        steps, every = Range(low, high), settings.evaluate_every
        if every != "epoch":
            evaluations = steps.map(lambda count: count if count == inf else ceil(count / every))
        else:
            most = max(1, ceil(settings.epochs))
            evaluations = Range(1, most) if settings.max_steps else exactly(most)
        # A forward pass alone; as many examples at a time as training has in a step.
        validation = evaluations * valid / (batch * FORWARD_AND_BACKWARD)
        operations = None
        if self._shape is not None:
            operations = self._shape.step(length * batch, length, predicted)
        return steps, validation, length, operations


def _bounded(settings: Training, examples: list[float]) -> float:
    """`settings.steps`, of numbers of examples that may be infinite."""
    if inf not in examples:
        return settings.steps(*(max(1, ceil(count)) for count in examples))
    return settings.max_steps or inf
