"""Published numbers, and this run's numbers beside them."""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import Field, ValidationError

from deftx.report.comparison import Comparison
from deftx.report.scores import Transfer
from deftx.store.errors import ArtefactError, InputError
from deftx.store.strict import Strict


class Published(Strict):
    """A published number: a row of a file in docs/results/published."""

    source: str = Field(min_length=1, description="who published it")
    place: str = Field(description="where in the source")
    base_model: str
    dataset: str = Field(min_length=1)
    labelled: Literal["one", "several"] = Field(description="languages that had labels")
    system: str = Field(min_length=1, description="its name in our configs")
    language: str = Field(min_length=1, description="ISO 639-3 key, or the name of a group")
    languages: str = Field(description="the languages of a group, separated by spaces")
    metric: Literal["macro_f1", "accuracy"]
    value: float = Field(ge=0, le=1)
    note: str


class Beside(NamedTuple):
    """A published number and ours, in [0, 1].

    Attributes:
        ours: the mean over seeds; low and high are the ends of its 95 % interval.
        difference: ours minus the published one.
        inside_interval: whether the published number is inside our interval.
    """

    source: str
    place: str
    task: str
    system: str
    language: str
    metric: str
    published_base: str
    published: float
    our_base: str
    ours: float
    low: float
    high: float
    seeds: int
    difference: float
    inside_interval: bool
    note: str


def load_published(paths: Iterable[Path]) -> list[Published]:
    """All rows of all files. Raises ArtefactError, naming file and line, for a row that is not a
    `Published`."""
    found = []
    for path in paths:
        try:
            with open(path, encoding="utf-8", newline="") as file:
                rows = list(csv.DictReader(file))
        except OSError as error:
            raise ArtefactError(f"{path}: {error.strerror}") from None
        for line, row in enumerate(rows, 2):
            try:
                found.append(Published.model_validate(row))
            except ValidationError as error:
                first = error.errors()[0]
                where = f"{path}, line {line}: {'.'.join(map(str, first['loc']))}"
                message = f"{where}: {first['msg']}; found {first['input']!r}"
                raise ArtefactError(message) from None
    return found


def beside(
    comparison: Comparison, means: Iterable[Transfer], published: Sequence[Published]
) -> list[Beside]:
    """Every published number that has a counterpart in this run: the same dataset, system, language
    or group, metric, and labels in one language or in several; in the order of our means. The base
    models may differ: both are named.

    Raises InputError if a group of ours has the name of a published one but other languages.
    """
    found = []
    for ours in means:
        table = comparison.tasks[ours.task]
        labelled = "several" if len(table.labelled) > 1 else "one"
        mine = (table.dataset, labelled, ours.system, ours.language, ours.metric)
        members = sorted(comparison.members(ours.task, ours.language))
        for row in published:
            if mine != (row.dataset, row.labelled, row.system, row.language, row.metric):
                continue
            if members != (theirs := sorted(row.languages.split() or [row.language])):
                raise InputError(
                    f"groups: {ours.language} has {members}, but in {row.source}, {row.place}: "
                    f"{theirs}"
                )
            found.append(
                Beside(
                    row.source,
                    row.place,
                    *ours[:4],
                    row.base_model,
                    row.value,
                    comparison.base_name,
                    *ours[4:8],
                    ours.mean - row.value,
                    ours.low <= row.value <= ours.high,
                    row.note,
                )
            )
    return found
