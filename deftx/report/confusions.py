"""Which classes a system confuses, and examples of its errors."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from deftx.report.comparison import MEAN, Comparison
from deftx.report.evaluations import Evaluation
from deftx.report.scores import Transfer
from deftx.report.table_formats import Table
from deftx.store.errors import ArtefactError
from deftx.store.items import load_items
from deftx.store.provenance import provenance_of

CONFUSIONS = ["task", "system", "language", "label", "predicted", "count"]
"""The columns of `confusions`."""

WORST = 10
"""Confusions that a table shows."""


def best_systems(comparison: Comparison, means: Iterable[Transfer]) -> dict[str, str]:
    """Task → the system with the highest mean over languages, or over those of the last column if
    the task has no such mean; the first of several. Design choice: this is no claim that it is
    better than another one."""
    best: dict[str, Transfer] = {}
    for mean in means:
        columns = comparison.columns(mean.task)
        shown = MEAN if MEAN in columns else columns[-1]
        other = best.get(mean.task)
        if mean.language == shown and (other is None or mean.mean > other.mean):
            best[mean.task] = mean
    return {task: mean.system for task, mean in best.items()}


def confusions(
    comparison: Comparison, evaluations: Iterable[Evaluation], systems: Mapping[str, str]
) -> pd.DataFrame:
    """How often each label was predicted as each class by one system per task, in every language,
    summed over its seeds; pairs that did not occur have no row. Columns: CONFUSIONS."""
    rows = []
    known = [e for e in evaluations if systems.get(e.task) == e.system]
    for task, table in comparison.tasks.items():
        for language in table.languages:
            mine = [e for e in known if (e.task, e.language) == (task, language)]
            names = mine[0].class_names
            cells = np.zeros((len(names), len(names)), dtype=np.int64)
            for e in mine:
                np.add.at(cells, (e.labels, e.predictions), 1)
            rows += [
                (task, systems[task], language, names[a], names[b], cells[a, b])
                for a, b in np.argwhere(cells)
            ]
    return pd.DataFrame(rows, columns=CONFUSIONS)


def confusion_table(comparison: Comparison, task: str, frame: pd.DataFrame) -> list[Table]:
    """The WORST confusions of a task over the languages of its mean, with their numbers in each
    language; no table for a kind of task that has few classes, or without a confusion.

    Args:
        frame: by `confusions`.
    """
    measures, languages = comparison.tasks[task].measures, comparison.averaged(task)
    languages = languages or comparison.tasks[task].languages
    mine = frame[(frame["task"] == task) & frame["language"].isin(languages)]
    wrong = mine[mine["label"] != mine["predicted"]]
    if measures.examples is None or wrong.empty:
        return []
    pair = ["label", "predicted"]
    counts = wrong.pivot_table("count", pair, "language", "sum", fill_value=0, sort=False)
    counts = counts.reindex(columns=languages, fill_value=0).astype(int)
    counts.insert(0, "all", counts.sum(axis=1))
    counts = counts.sort_values("all", ascending=False, kind="stable").head(WORST)
    labels = mine.groupby("label")["count"].sum()
    share = counts["all"] / labels.loc[counts.index.get_level_values("label")].to_numpy()
    cells = counts.map("{:,}".format)
    cells.insert(1, "of the label", [f"{100 * value:.0f} %" for value in share])
    cells.index = pd.Index([f"{label} → {predicted}" for label, predicted in counts.index])
    system = mine["system"].iloc[0]
    caption = (
        f"Label → prediction: the numbers of {measures.unit} that {system}, the system with the "
        "highest score, predicts as another class, summed over its seeds; and their share of all "
        f"{measures.unit} with this label. The {WORST} most frequent over the languages of the "
        "mean. confusions.csv has all of them."
    )
    headings = {key: comparison.heading(task, key) for key in languages}
    title = f"{task}: most frequent confusions of {system}"
    return [Table(f"confusions-{task}", title, caption, cells.rename(columns=headings))]


def examples(
    comparison: Comparison,
    evaluations: Iterable[Evaluation],
    systems: Mapping[str, str],
    paths: Sequence[Path],
) -> list[dict[str, Any]]:
    """Examples of the errors of one system per task, with its smallest seed, as JSON: `task`,
    `system`, `seed`, `language` (its name), `id` of the item, and `labels` and `predictions`: the
    item as a list of parts, each with its `text`, its `mark` (a class, or empty) and whether this
    is `wrong`. Only tasks that have examples and whose test items are given.

    Args:
        paths: test items, parquet.

    Raises ArtefactError if items are not those that were evaluated.
    """
    files: dict[tuple[str | None, str | None], Path] = {}
    for path in paths:
        facts = provenance_of(path)
        files[facts.get("dataset"), facts.get("language")] = path
    found = []
    by_seed = sorted(evaluations, key=lambda e: e.seed, reverse=True)
    first = {(e.task, e.system, e.language): e for e in by_seed}
    for task, table in comparison.tasks.items():
        for language in table.languages:
            test = files.get((table.dataset, language))
            if test is None or table.measures.examples is None:
                continue
            e = first[task, systems[task], language]
            items = load_items(test)
            if [item["id"] for item in items] != e.ids.tolist():
                raise ArtefactError(
                    f"{test}: not the items on which {e.system} was evaluated on {task}"
                )
            where = {"task": task, "system": e.system, "seed": e.seed}
            where["language"] = comparison.name(language)
            found += [{**where, **each} for each in table.measures.examples(e.answers, items)]
    return found
