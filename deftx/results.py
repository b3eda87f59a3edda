"""Evaluations read back, and the comparison of systems that tables and figures show."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from pydantic import Field

from deftx.artefact import ArtefactError
from deftx.settings.strict import Strict
from deftx.statistics import SCORES, Resamples, interval
from deftx.tensor_file import TensorFile

MEAN = "mean"
"""Stands for a language where the mean over languages is meant."""

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


def scores(evaluations: Iterable[Evaluation]) -> pd.DataFrame:
    """One row per evaluation: task, system, language, seed, items, accuracy, macro_f1, the last
    two in [0, 1]."""
    rows = []
    for e in evaluations:
        as_is = Resamples([e.ids], times=0)
        confusions = as_is.confusions(e.ids, e.labels, e.predictions, e.classes)
        metrics = [score(confusions)[0] for score in SCORES.values()]
        rows.append([*e.key, len(e.ids), *metrics])
    columns = ["task", "system", "language", "seed", "items", *SCORES]
    return pd.DataFrame(rows, columns=columns)


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


def transfer(comparison: Comparison, draws: Mapping[str, Draws]) -> pd.DataFrame:
    """One row per task, system and language (or MEAN): metric, its mean over seeds with the ends
    of its 95 % interval over items (low, high), the number of seeds, the standard deviation over
    seeds (NaN for one), and whether the language has text. Scores in [0, 1].

    Where `has_text` is false every system was evaluated without a language vector.
    """
    rows = []
    for task, table in comparison.tasks.items():
        for (system, language), each in draws[task].items():
            mean = each.mean(0)
            low, high = interval(mean)
            spread = each[:, 0].std(ddof=1) if len(each) > 1 else np.nan
            has_text = language not in comparison.without_text
            numbers = (mean[0], low, high, len(each), spread)
            rows.append([task, system, language, table.metric, *numbers, has_text])
    columns = ["task", "system", "language", "metric"]
    columns += ["mean", "low", "high", "seeds", "sd", "has_text"]
    return pd.DataFrame(rows, columns=columns)


def differences(comparison: Comparison, draws: Mapping[str, Draws]) -> pd.DataFrame:
    """One row per task, language (or MEAN) and pair of systems: the mean over seeds of `system`
    minus that of `versus`, in [-1, 1], with the ends of its paired 95 % interval over items."""
    rows = []
    for task in comparison.tasks:
        for language in comparison.columns(task):
            for versus, system in combinations(comparison.systems, 2):
                gap = (draws[task][system, language] - draws[task][versus, language]).mean(0)
                rows.append([task, language, system, versus, gap[0], *interval(gap)])
    columns = ["task", "language", "system", "versus", "difference", "low", "high"]
    return pd.DataFrame(rows, columns=columns)
