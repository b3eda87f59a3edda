"""Evaluations read back, and the comparison of systems that tables and figures show."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from pydantic import Field

from deftx.artefact import ArtefactError
from deftx.settings.strict import Strict
from deftx.statistics import SCORES, Resamples, accuracy, interval, macro_f1
from deftx.tensor_file import TensorFile

MEAN = "mean"
"""Stands for a language where the mean over languages is meant."""

METRIC_NAMES = {"macro_f1": "macro-F1", "accuracy": "accuracy"}

Draws = dict[tuple[str, str], np.ndarray]
"""(system, language or MEAN) → scores (seeds, 1 + resamples), see `deftx.statistics`."""


class TaskTable(Strict):
    """What is shown of a task."""

    metric: Literal["macro_f1", "accuracy"]
    source: str
    languages: list[str]


class Comparison(Strict):
    """Which systems are compared on what, in the order in which they are shown."""

    systems: list[str]
    tasks: dict[str, TaskTable]
    names: dict[str, str] = Field(default={}, description="language → what it is called")
    without_text: list[str] = Field(default=[], description="languages without a vector")

    def name(self, language: str) -> str:
        """How a language is called."""
        return self.names.get(language) or language

    def heading(self, task: str, column: str) -> str:
        """A language, or MEAN, as the head of a column: source and lack of text are marked."""
        source = " (source)" if column == self.tasks[task].source else ""
        textless = " †" if column in self.without_text else ""
        return self.name(column) + source + textless

    def averaged(self, task: str) -> list[str]:
        """The languages that the mean of a task is over: those with text, but for the source."""
        table = self.tasks[task]
        left_out = {table.source, *self.without_text}
        return [language for language in table.languages if language not in left_out]

    def columns(self, task: str) -> list[str]:
        """The languages of a task, then MEAN if there is anything to average."""
        return [*self.tasks[task].languages, *([MEAN] if self.averaged(task) else [])]


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


def load_evaluations(paths: Iterable[Path]) -> list[Evaluation]:
    """All evaluations. Raises ArtefactError as `load_evaluation`, or if two say the same."""
    found: dict[tuple[str, str, str, int], Evaluation] = {}
    for path in paths:
        evaluation = load_evaluation(path)
        if evaluation.key in found:
            what = "/".join(map(str, evaluation.key))
            raise ArtefactError(f"{path}: a second evaluation of {what}")
        found[evaluation.key] = evaluation
    return list(found.values())


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
    paired 95 % interval over items."""

    task: str
    language: str
    system: str
    versus: str
    difference: float
    low: float
    high: float


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
        if averaged := comparison.averaged(task):
            draws[system, MEAN] = np.mean([draws[system, key] for key in averaged], axis=0)
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
                estimate = (float(gap[0]), *interval(gap))
                found.append(Difference(task, language, system, versus, *estimate))
    return found
