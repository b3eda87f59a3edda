"""Evaluations read back, and the comparison of systems that tables and figures show."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass
from functools import cached_property
from itertools import combinations, product
from pathlib import Path
from typing import Literal, NamedTuple, Self

import numpy as np
from pydantic import Field, model_validator

from deftx.report.metrics import Metrics, measure
from deftx.report.statistics import ALPHA, SCORES, Resamples, holm, interval, p_value
from deftx.store.errors import ArtefactError, InputError
from deftx.store.item_ids import decode_ids
from deftx.store.strict import Strict
from deftx.store.tensors import TensorFile

MEAN = "mean"
"""Stands for a language where the mean over languages is meant."""

METRIC_NAMES = {"macro_f1": "macro-F1", "accuracy": "accuracy"}

REFERENCE = "lt-sft"
"""The system against which the others are shown, where nothing else is said."""

Key = tuple[str, str, str, int]
"""task, system, language, seed: what no two evaluations share."""

Draws = dict[tuple[str, str], np.ndarray]
"""(system, column of `Comparison.columns`) → scores (seeds, 1 + resamples), see
`deftx.report.statistics`; [:, 0] are the scores of the seeds on the items as they are."""


class TaskTable(Strict):
    """What is shown of a task."""

    metric: Literal["macro_f1", "accuracy"]
    source: str
    sources: list[str] = Field(default=[], description="all languages with labels, if several")
    languages: list[str]
    dataset: str = Field(default="", description="of the test items, as published numbers name it")
    systems: list[str] = Field(default=[], description="that are evaluated on it; default: all")

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
    base_name: str = Field(default="", description="what the base model is called")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.reference is not None and self.reference not in self.systems:
            raise ValueError(f"reference: {self.reference} is not among systems: {self.systems}")
        for task, table in self.tasks.items():
            if unknown := [system for system in table.systems if system not in self.systems]:
                raise ValueError(
                    f"tasks.{task}.systems: {unknown[0]} is not among systems: {self.systems}"
                )
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

    def systems_of(self, task: str) -> list[str]:
        """The systems that are evaluated on a task, in the order of all."""
        wanted = self.tasks[task].systems
        return [system for system in self.systems if not wanted or system in wanted]

    def reference_of(self, task: str) -> str:
        """The system against which single languages of a task are compared: the first one where
        the reference is not evaluated."""
        systems = self.systems_of(task)
        return self.reference_system if self.reference_system in systems else systems[0]

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


class Trained(NamedTuple):
    """How many parameters were trained for the task, for the language, and of the head."""

    task: int
    language: int
    head: int


@dataclass(frozen=True)
class Evaluation:
    """One system on one task in one language with one seed.

    Attributes:
        ids, labels, predictions: (n,) each, one entry per item; classes are numbers from 0.
        logits: (n, classes).
        class_names: in the order of the logits.
        trained: None where the evaluation does not say.
    """

    system: str
    task: str
    language: str
    seed: int
    ids: np.ndarray
    labels: np.ndarray
    predictions: np.ndarray
    logits: np.ndarray
    class_names: tuple[str, ...]
    trained: Trained | None = None

    @property
    def key(self) -> Key:
        """What no two evaluations share."""
        return self.task, self.system, self.language, self.seed

    @property
    def classes(self) -> int:
        """How many classes there are."""
        return len(self.class_names)

    @cached_property
    def metrics(self) -> Metrics:
        """What its logits are worth."""
        return measure(self.logits, self.labels)


def load_evaluation(path: Path) -> Evaluation:
    """An artefact of the stage `evaluate`. Raises ArtefactError if it is not one."""
    file = TensorFile(path)
    if file.provenance.get("stage") != "evaluate":
        raise ArtefactError(f"{path}: made by {file.provenance.get('stage')}, expected evaluate")
    logits, labels = file["logits"].numpy(), file["labels"].numpy()
    ids = decode_ids(file["ids"])
    names = tuple(file.provenance["params"]["classes"])
    if not len(ids) == len(labels) == len(logits):
        raise ArtefactError(f"{path}: {len(ids)} ids, {len(labels)} labels, {len(logits)} logits")
    if len(names) != logits.shape[1]:
        raise ArtefactError(f"{path}: logits of {logits.shape[1]} classes, expected {names}")
    trained = file.provenance.get("trained")
    return Evaluation(
        **{name: file.provenance[name] for name in ("system", "task", "language", "seed")},
        ids=ids,
        labels=labels,
        predictions=logits.argmax(axis=1),
        logits=logits,
        class_names=names,
        trained=Trained(**trained) if trained else None,
    )


def load_evaluations(
    paths: Iterable[Path], comparison: Comparison | None = None
) -> list[Evaluation]:
    """All evaluations.

    A path may be a folder: it stands for the files {system}/{task}/{language}/seed{n}.safetensors
    below it that `comparison` asks for, as far as they are there. Others in it are not read: a run
    may hold systems that its config no longer has.

    Raises ArtefactError as `load_evaluation`, or if two say the same; InputError for a folder
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
        raise InputError(f"{folder}: a folder, and no comparison says what to read of it")
    seeds = [str(seed) for seed in comparison.seeds] or ["*"]
    return [
        path
        for task, table in comparison.tasks.items()
        for system, language, seed in product(comparison.systems_of(task), table.languages, seeds)
        for path in sorted((folder / system / task / language).glob(f"seed{seed}.safetensors"))
    ]


class Score(NamedTuple):
    """The scores of one evaluation, see `deftx.report.metrics.Metrics`."""

    task: str
    system: str
    language: str
    seed: int
    items: int
    accuracy: float
    macro_f1: float
    nll: float
    brier: float
    ece: float


class ClassScore(NamedTuple):
    """How well one evaluation finds one class, see `deftx.report.metrics.ClassMetrics`."""

    task: str
    system: str
    language: str
    seed: int
    class_name: str
    precision: float
    recall: float
    f1: float
    support: int


class Transfer(NamedTuple):
    """How well a system transfers to a language, to all (MEAN) or to a group: a score in [0, 1].

    Attributes:
        mean: over seeds; low and high are the ends of its 95 % interval over items and, where
            there are several, seeds.
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
    """The mean over seeds of `system` minus that of `versus`, in [-1, 1], with its paired 95 %
    interval.

    Attributes:
        p: two-sided, that the difference is 0; see `deftx.report.statistics.p_value`.
        p_corrected: by Holm's method for its family.
        comparisons: how many that family has.
        inside_noise: whether p_corrected is 0.05 or more.
    """

    task: str
    language: str
    system: str
    versus: str
    difference: float
    low: float
    high: float
    p: float
    p_corrected: float
    comparisons: int
    inside_noise: bool


def scores(evaluations: Iterable[Evaluation]) -> list[Score]:
    """The scores of each evaluation."""
    found = []
    for e in evaluations:
        m = e.metrics
        found.append(Score(*e.key, len(e.ids), m.accuracy, m.macro_f1, m.nll, m.brier, m.ece))
    return found


def class_scores(evaluations: Iterable[Evaluation]) -> list[ClassScore]:
    """Each class of each evaluation."""
    return [
        ClassScore(*e.key, name, *astuple(one))
        for e in evaluations
        for name, one in zip(e.class_names, e.metrics.classes, strict=True)
    ]


def draw(comparison: Comparison, evaluations: Sequence[Evaluation]) -> dict[str, Draws]:
    """Task → its metric of each system in each of `comparison.columns(task)`, on the items as they
    are and on every resample; all evaluations of a task on the same resamples.

    Raises InputError if a task has no evaluation, or if one is missing, naming it.
    """
    return {task: _draw(comparison, task, evaluations) for task in comparison.tasks}


def _draw(comparison: Comparison, task: str, evaluations: Sequence[Evaluation]) -> Draws:
    table = comparison.tasks[task]
    known = {e.key: e for e in evaluations if e.task == task}
    if not known:
        raise InputError(f"no evaluation of task {task}")
    seeds = comparison.seeds or sorted({e.seed for e in known.values()})
    systems = comparison.systems_of(task)
    wanted = {
        language: [_of(known, (task, *pair)) for pair in product(systems, [language], seeds)]
        for language in table.languages
    }
    resamples = Resamples(e.ids for each in wanted.values() for e in each)
    draws = {}
    for language, each in wanted.items():
        predicted = [(e.ids, e.labels, e.predictions) for e in each]
        found = SCORES[table.metric](resamples.confusions(predicted, each[0].classes))
        for system, rows in zip(systems, np.split(found, len(systems)), strict=True):
            draws[system, language] = rows
    for column, members in comparison.means(task).items():
        for system in systems:
            draws[system, column] = np.mean([draws[system, key] for key in members], axis=0)
    return draws


def _of(known: Mapping[Key, Evaluation], key: Key) -> Evaluation:
    if key not in known:
        task, system, language, seed = key
        raise InputError(f"no evaluation of {system} on {task} in {language} with seed {seed}")
    return known[key]


def transfer(comparison: Comparison, draws: Mapping[str, Draws]) -> list[Transfer]:
    """Every task, system and column, in the order of the comparison."""
    found = []
    for task, table in comparison.tasks.items():
        for system, column in product(comparison.systems_of(task), comparison.columns(task)):
            each = draws[task][system, column]
            by_seed = each[:, 0]
            sd = float(by_seed.std(ddof=1)) if len(each) > 1 else None
            has_text = column not in comparison.without_text
            estimate = (float(by_seed.mean()), *interval(each))
            found.append(
                Transfer(task, system, column, table.metric, *estimate, len(each), sd, has_text)
            )
    return found


def differences(comparison: Comparison, draws: Mapping[str, Draws]) -> list[Difference]:
    """Of every task two families, each corrected for itself: on the mean all pairs of systems, the
    later one minus the earlier one; in every language and group each system minus the reference."""
    found = []
    for task in comparison.tasks:
        systems, reference = comparison.systems_of(task), comparison.reference_of(task)
        pairs = [
            (MEAN, system, versus)
            for versus, system in combinations(systems, 2)
            if MEAN in comparison.columns(task)
        ]
        single = [
            (column, system, reference)
            for column in comparison.columns(task)
            for system in systems
            if column != MEAN and system != reference
        ]
        found += _family(task, single, draws[task]) + _family(task, pairs, draws[task])
    return found


def _family(
    task: str, comparisons: Sequence[tuple[str, str, str]], draws: Draws
) -> list[Difference]:
    """The differences of (column, system, versus)."""
    gaps = [draws[system, column] - draws[versus, column] for column, system, versus in comparisons]
    p_values = [p_value(gap) for gap in gaps]
    return [
        Difference(
            task,
            *names,
            float(gap[:, 0].mean()),
            *interval(gap),
            p,
            corrected,
            len(comparisons),
            corrected >= ALPHA,
        )
        for names, gap, p, corrected in zip(
            comparisons, gaps, p_values, holm(p_values), strict=True
        )
    ]


def trained(
    comparison: Comparison, evaluations: Iterable[Evaluation]
) -> dict[tuple[str, str, str], Trained]:
    """(task, system, column) → parameters trained, of a mean the most over its languages; without
    those whose evaluations do not say."""
    found: dict[tuple[str, str, str], list[Trained]] = {}
    for e in evaluations:
        if e.trained is not None and e.task in comparison.tasks:
            for column in comparison.columns(e.task):
                if e.language in comparison.members(e.task, column):
                    found.setdefault((e.task, e.system, column), []).append(e.trained)
    return {key: Trained(*map(max, zip(*each, strict=True))) for key, each in found.items()}
