"""Published numbers, and this run's numbers beside them."""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

import pandas as pd
from pydantic import Field, ValidationError

from deftx.engine.settings import MetricName
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
    metric: MetricName
    value: float = Field(ge=0, le=1)
    note: str


BESIDE = [
    *("source", "place", "task", "system", "language", "metric", "published_base", "published"),
    *("our_base", "ours", "low", "high", "seeds", "difference", "inside_interval", "note"),
]
"""The columns of `beside`. Numbers are in [0, 1]: `ours` is the mean over seeds, `low` and `high`
are the ends of its 95 % interval, `difference` is ours minus the published one."""


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
) -> pd.DataFrame:
    """Every published number that has a counterpart in this run: the same dataset, system, language
    or group, metric, and labels in one language or in several; in the order of our means. The base
    models may differ: both are named. Columns: BESIDE.

    Raises InputError if a group of ours has the name of a published one but other languages.
    """
    keys = ["dataset", "labelled", "system", "language", "metric"]
    ours = pd.DataFrame(means, columns=list(Transfer._fields)).rename(columns={"mean": "ours"})
    tables = comparison.tasks
    ours["dataset"] = [tables[task].dataset for task in ours["task"]]
    several = [len(tables[task].labelled) > 1 for task in ours["task"]]
    ours["labelled"] = ["several" if more else "one" for more in several]
    theirs = pd.DataFrame(
        [row.model_dump() for row in published], columns=list(Published.model_fields)
    )
    theirs = theirs.rename(columns={"value": "published", "base_model": "published_base"})
    found = ours.merge(theirs, on=keys)
    for row in found.to_dict("records"):
        mine = sorted(comparison.members(row["task"], row["language"]))
        if mine != (members := sorted(row["languages"].split() or [row["language"]])):
            raise InputError(
                f"groups: {row['language']} has {mine}, but in {row['source']}, {row['place']}: "
                f"{members}"
            )
    return found.assign(
        our_base=comparison.base_name,
        difference=found["ours"] - found["published"],
        inside_interval=(found["low"] <= found["published"])
        & (found["published"] <= found["high"]),
    )[BESIDE]
