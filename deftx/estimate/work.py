"""What each job does, known from its parameters before anything is measured."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from statistics import mean
from typing import Any

import pyarrow.parquet as pq
from tokenizers import Tokenizer

from deftx.engine.settings import LanguageTraining, TaskTraining, Training
from deftx.plan.artefact import Artefact, Target
from deftx.plan.plan import Plan
from deftx.stages.table import path_of
from deftx.store.items import texts_of

SAMPLE = 2_000
"""About so many items have their tokens counted; their mean stands for all."""


@dataclass(frozen=True)
class Amount:
    """A number, or an upper bound of it."""

    value: float
    at_most: bool = False


@dataclass(frozen=True)
class Work:
    """What a job does.

    Attributes:
        subject: what its data are like: `language`, the name of a task, or empty.
        trains: whether it takes optimiser steps.
        steps: how many; None if it takes none or the number is unknown.
        settings: of the training of a language or a task.
        length: mean number of tokens of a training example; `max_length` if unknown.
        threads: CPU threads that it uses.
    """

    subject: str = ""
    trains: bool = False
    steps: Amount | None = None
    settings: LanguageTraining | TaskTraining | None = None
    length: int = 0
    threads: int = 1

    @property
    def length_at_most(self) -> bool:
        """Whether examples may be shorter than `length`, which is then that of the longest."""
        packed = isinstance(self.settings, LanguageTraining) and self.settings.packed
        return self.settings is not None and not packed and self.length == self.settings.max_length

    @property
    def kind(self) -> str:
        """Of its training data: `language`, `task`, or empty without any."""
        if self.settings is None:
            return ""
        return "language" if isinstance(self.settings, LanguageTraining) else "task"


class Works:
    """The work of the jobs of a plan. Numbers of items come from artefacts that exist and from
    `items` of the config, numbers of tokens from artefacts that exist."""

    def __init__(self, plan: Plan) -> None:
        self._plan, self._root = plan, Path(plan.root)
        path = self._root / "base" / "tokenizer.json"
        self._tokenizer = Tokenizer.from_file(str(path)) if path.is_file() else None
        if self._tokenizer is not None:
            self._tokenizer.no_truncation()
            self._tokenizer.no_padding()
        self._trained: dict[str, Work] = {}

    def of(self, artefact: Artefact) -> Work:
        """The work of the job that makes an artefact. A job trains if its parameters have `engine`
        and do not switch training off, whatever the family of its method."""
        known, pretrain = dict(artefact.wildcards), self._plan.config.base.pretrain
        if artefact.stage == "base" and pretrain is not None:
            return Work(trains=True, steps=Amount(pretrain.steps))
        if "target" not in known:
            return Work(known.get("task", ""))
        target, params = Target.parse(known["target"]), self._plan.params(artefact)
        subject = "language" if target.kind == "language" else target.name
        threads = params.get("threads", 1)
        if "engine" not in params or not params.get("retrain", True):
            return Work(subject, threads=threads)
        if target.label not in self._trained:
            data = self._plan.training_items(target)["train"]
            self._trained[target.label] = self._training(subject, params, data)
        return replace(self._trained[target.label], threads=threads)

    def _training(self, subject: str, params: dict[str, Any], data: Sequence[Artefact]) -> Work:
        """How every stage trains a target."""
        counts: list[float | None] = [self._count(part) for part in data]
        settings: LanguageTraining | TaskTraining
        if "language" not in params:
            settings = TaskTraining(**params["task"])
            length = self._length(data, settings.max_length)
        else:
            settings = LanguageTraining(**params["language"])
            length = self._length(data, None if settings.packed else settings.max_length)
            each = 1 - settings.held_out
            if settings.packed:  # lines become blocks of max_length tokens
                each, length = each * (length or 0) / settings.max_length, settings.max_length
            counts = [count * each if count and each else None for count in counts]
        steps = _steps(settings, counts)
        return Work(subject, True, steps, settings, ceil(length or settings.max_length))

    def _count(self, artefact: Artefact) -> int | None:
        """Number of items; None if unknown."""
        if (path := self._root / path_of(artefact)).is_file():
            return pq.read_metadata(path).num_rows
        known = dict(artefact.wildcards)  # a text to be cleaned is of no dataset
        dataset = self._plan.config.datasets.get(known.get("dataset", ""))
        return {**dataset.items}.get(known["split"]) if dataset else None  # type: ignore[call-overload]

    def _length(self, data: Sequence[Artefact], longest: int | None) -> float | None:
        """Mean number of tokens of an item, special tokens included, each cut to the `longest`.
        None if unknown."""
        lengths: list[int] = []
        for path in (self._root / path_of(artefact) for artefact in data):
            if self._tokenizer is None or not path.is_file():
                return None
            items = pq.read_table(path)
            items = items.take(list(range(0, len(items), max(1, len(items) // SAMPLE)))).to_pylist()
            texts = [texts_of(item) for item in items]
            pairs = [tuple(some) if len(some) > 1 else some[0] for some in texts]
            lengths += [len(encoding.ids) for encoding in self._tokenizer.encode_batch(pairs)]
        return mean(min(length, longest or length) for length in lengths) if lengths else None


def _steps(settings: Training, examples: Sequence[float | None]) -> Amount | None:
    """Steps on so many examples of each source; at most `max_steps` if a number is unknown."""
    known = [max(1, ceil(count)) for count in examples if count is not None]
    if len(known) == len(examples):
        return Amount(settings.steps(*known))
    if settings.max_steps is None:
        return None
    return Amount(settings.max_steps, at_most=settings.min_steps < settings.max_steps)
