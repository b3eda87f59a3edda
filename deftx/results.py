"""Evaluations read back, and the comparison of systems that tables and figures show."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from pathlib import Path
from typing import Literal, NamedTuple, Self

import numpy as np
from pydantic import Field, model_validator

from deftx.artefact import ArtefactError
from deftx.settings.strict import Strict
from deftx.statistics import SCORES, Resamples, accuracy, interval, macro_f1
from deftx.tensor_file import TensorFile

MEAN = "mean"
"""Stands for a language where the mean over languages is meant."""

METRIC_NAMES = {"macro_f1": "macro-F1", "accuracy": "accuracy"}

REFERENCE = "lt-sft"
"""The system against which the others are shown, where nothing else is said."""

Key = tuple[str, str, str, int]
"""task, system, language, seed: what no two evaluations share."""

Draws = dict[tuple[str, str], np.ndarray]
"""(system, language or MEAN) → scores (seeds, 1 + resamples), see `deftx.statistics`."""


class TaskTable(Strict):
    """What is shown of a task."""

    metric: Literal["macro_f1", "accuracy"]
    source: str
    sources: list[str] = Field(default=[], description="all languages with labels, if several")
    languages: list[str]
    dataset: str = Field(default="", description="of the test items, as published numbers name it")

    @property
    def labelled(self) -> set[str]:
        """The languages whose labels the task was trained on."""
        return {self.source, *self.sources}


class Comparison(Strict):
    """Which systems are compared on what, in the order in which they are shown."""

    systems: list[str]
    tasks: dict[str, TaskTable]
    names: dict[str, str] = Field(default={}, description="language → what it is called")
    without_text: list[str] = Field(default=[], description="languages without a vector")
    groups: dict[str, list[str]] = Field(
        default={}, description="name → languages whose mean is shown where a task has them all"
    )
    reference: str | None = Field(
        default=None,
        description="system against which single languages are compared; by default lt-sft, or "
        "the first",
    )
    seeds: list[int] = Field(default=[], description="by default those that there are")
    base: str = Field(default="", description="what the base model is called")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.reference is not None and self.reference not in self.systems:
            raise ValueError(f"reference: {self.reference} is not among systems: {self.systems}")
        languages = {key for table in self.tasks.values() for key in table.languages}
        for name, members in self.groups.items():
            if name in {MEAN, *languages}:
                raise ValueError(f"groups: {name} is the name of another column")
            if not members:
                raise ValueError(f"groups: {name} has no language")
        return self

    @property
    def reference_system(self) -> str:
        """The system against which single languages are compared."""
        if self.reference is not None:
            return self.reference
        return REFERENCE if REFERENCE in self.systems else self.systems[0]

    def name(self, language: str) -> str:
        """How a language is called."""
        return self.names.get(language) or language

    def heading(self, task: str, column: str) -> str:
        """A language, MEAN or a group, as the head of a column: source and lack of text are
        marked."""
        source = " (source)" if column in self.tasks[task].labelled else ""
        textless = " †" if column in self.without_text else ""
        return self.name(column) + source + textless

    def averaged(self, task: str) -> list[str]:
        """The languages that the mean of a task is over: those with text, but for the sources."""
        table = self.tasks[task]
        left_out = {*table.labelled, *self.without_text}
        return [language for language in table.languages if language not in left_out]

    def means(self, task: str) -> dict[str, list[str]]:
        """MEAN, if there is anything to average, and the groups of which the task has every
        language → the languages that they are over."""
        table, averaged = self.tasks[task], self.averaged(task)
        groups = {g: m for g, m in self.groups.items() if set(m) <= set(table.languages)}
        return {**({MEAN: averaged} if averaged else {}), **groups}

    def columns(self, task: str) -> list[str]:
        """The languages of a task, then MEAN if there is anything to average, then its groups."""
        return [*self.tasks[task].languages, *self.means(task)]

    def members(self, task: str, column: str) -> list[str]:
        """The languages that a column is over; of a language itself."""
        return self.means(task).get(column, [column])


@dataclass(frozen=True)
class Evaluation:
    """One system on one task in one language with one seed.

    Attributes:
        ids, labels, predictions: (n,) each, one entry per item; classes are numbers from 0.
        classes: how many there are.
    """

    system: str
    task: str
    language: str
    seed: int
    classes: int
    ids: np.ndarray
    labels: np.ndarray
    predictions: np.ndarray

    @property
    def key(self) -> tuple[str, str, str, int]:
        """What no two evaluations share."""
        return self.task, self.system, self.language, self.seed


def load_evaluation(path: Path) -> Evaluation:
    """An artefact of the stage `evaluate`. Raises ArtefactError if it is not one."""
    file = TensorFile(path)
    if file.provenance.get("stage") != "evaluate":
        raise ArtefactError(f"{path}: made by {file.provenance.get('stage')}, expected evaluate")
    logits, labels = file["logits"].numpy(), file["labels"].numpy()
    ids = np.array(file["ids"].numpy().tobytes().decode().split("\n"))
    if not len(ids) == len(labels) == len(logits):
        raise ArtefactError(f"{path}: {len(ids)} ids, {len(labels)} labels, {len(logits)} logits")
    return Evaluation(
        **{name: file.provenance[name] for name in ("system", "task", "language", "seed")},
        classes=logits.shape[1],
        ids=ids,
        labels=labels,
        predictions=logits.argmax(axis=1),
    )


def load_evaluations(
    paths: Iterable[Path], comparison: Comparison | None = None
) -> list[Evaluation]:
    """All evaluations.

    A path may be a folder: it stands for the files {system}/{task}/{language}/seed{n}.safetensors
    below it that `comparison` asks for, as far as they are there. Others in it are not read: a run
    may hold systems that its config no longer has.

    Raises ArtefactError as `load_evaluation`, or if two say the same; ValueError for a folder
    without a comparison.
    """
    found: dict[Key, Evaluation] = {}
    for path in paths:
        for file in _wanted(path, comparison) if path.is_dir() else [path]:
            evaluation = load_evaluation(file)
            if evaluation.key in found:
                what = "/".join(map(str, evaluation.key))
                raise ArtefactError(f"{file}: a second evaluation of {what}")
            found[evaluation.key] = evaluation
    return list(found.values())


def _wanted(folder: Path, comparison: Comparison | None) -> list[Path]:
    if comparison is None:
        raise ValueError(f"{folder}: a folder, and no comparison says what to read of it")
    seeds = [str(seed) for seed in comparison.seeds] or ["*"]
    return [
        path
        for task, table in comparison.tasks.items()
        for system, language, seed in product(comparison.systems, table.languages, seeds)
        for path in sorted((folder / system / task / language).glob(f"seed{seed}.safetensors"))
    ]


class Score(NamedTuple):
    """The scores of one evaluation, in [0, 1]."""

    task: str
    system: str
    language: str
    seed: int
    items: int
    accuracy: float
    macro_f1: float


class Transfer(NamedTuple):
    """How well a system transfers to a language, or to all (MEAN): a score in [0, 1].

    Attributes:
        mean: over seeds; low and high are the ends of its 95 % interval over items.
        sd: standard deviation over seeds; None for one seed.
        has_text: where false, every system was evaluated without a language vector.
    """

    task: str
    system: str
    language: str
    metric: str
    mean: float
    low: float
    high: float
    seeds: int
    sd: float | None
    has_text: bool


class Difference(NamedTuple):
    """The mean over seeds of `system` minus that of `versus`, in [-1, 1], with the ends of its
    paired 95 % interval over items, and whether that includes 0."""

    task: str
    language: str
    system: str
    versus: str
    difference: float
    low: float
    high: float
    inside_noise: bool


def scores(evaluations: Iterable[Evaluation]) -> list[Score]:
    """The scores of each evaluation."""
    found = []
    for e in evaluations:
        as_is = Resamples([e.ids], times=0)
        confusions = as_is.confusions(e.ids, e.labels, e.predictions, e.classes)
        metrics = float(accuracy(confusions)[0]), float(macro_f1(confusions)[0])
        found.append(Score(*e.key, len(e.ids), *metrics))
    return found


def draw(comparison: Comparison, evaluations: Sequence[Evaluation]) -> dict[str, Draws]:
    """Task → its metric of each system in each of `comparison.columns(task)`, on the items as they
    are and on every resample; all evaluations of a task on the same resamples.

    Raises ValueError if a task has no evaluation, or if one is missing, naming it.
    """
    return {task: _draw(comparison, task, evaluations) for task in comparison.tasks}


def _draw(comparison: Comparison, task: str, evaluations: Sequence[Evaluation]) -> Draws:
    table = comparison.tasks[task]
    known = {e.key: e for e in evaluations if e.task == task}
    if not known:
        raise ValueError(f"no evaluation of task {task}")
    seeds = sorted({e.seed for e in known.values()})
    resamples = Resamples(e.ids for e in known.values())

    def score(system: str, language: str, seed: int) -> np.ndarray:
        e = known.get((task, system, language, seed))
        if e is None:
            raise ValueError(f"no evaluation of {system} on {task} in {language} with seed {seed}")
        confusions = resamples.confusions(e.ids, e.labels, e.predictions, e.classes)
        return SCORES[table.metric](confusions)

    draws = {}
    for system in comparison.systems:
        for language in table.languages:
            draws[system, language] = np.stack([score(system, language, seed) for seed in seeds])
        for column, members in comparison.means(task).items():
            draws[system, column] = np.mean([draws[system, key] for key in members], axis=0)
    return draws


def transfer(comparison: Comparison, draws: Mapping[str, Draws]) -> list[Transfer]:
    """Every task, system and language or MEAN, in the order of the comparison."""
    found = []
    for task, table in comparison.tasks.items():
        for (system, language), each in draws[task].items():
            mean = each.mean(axis=0)
            sd = float(each[:, 0].std(ddof=1)) if len(each) > 1 else None
            has_text = language not in comparison.without_text
            estimate = (float(mean[0]), *interval(mean))
            found.append(
                Transfer(task, system, language, table.metric, *estimate, len(each), sd, has_text)
            )
    return found


def differences(comparison: Comparison, draws: Mapping[str, Draws]) -> list[Difference]:
    """Every task, language or MEAN, and pair of systems (the later one minus the earlier one)."""
    found = []
    for task in comparison.tasks:
        for language in comparison.columns(task):
            for versus, system in combinations(comparison.systems, 2):
                gap = (draws[task][system, language] - draws[task][versus, language]).mean(axis=0)
                low, high = interval(gap)
                around_0 = low <= 0 <= high
                found.append(
                    Difference(task, language, system, versus, float(gap[0]), low, high, around_0)
                )
    return found
