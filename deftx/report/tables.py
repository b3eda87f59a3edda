"""The tables of a run for readers, made from its scores and differences."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from deftx.report.comparison import MEAN, Comparison
from deftx.report.evaluations import TRAINED, Evaluation, trained
from deftx.report.prior import WithPrior
from deftx.report.scores import Difference, Transfer
from deftx.report.statistics import ALPHA, RESAMPLES
from deftx.report.table_formats import Cell, Table, number

LABELS = "(labels)"
"""The row of the labels in a table of shares: no name of a system."""

MOST_SHARES = 8
"""Classes whose shares fit into one cell."""

ONE_SEED = (
    " One seed: the intervals do not include variation between training runs, so they are about "
    "these trained models and not about their methods."
)
"""docs/statistics.md has how much one seed may mislead."""


def _once(comparison: Comparison, task: str) -> str:
    """What a caption has to add about systems that are evaluated once."""
    found = [system for system in comparison.systems_of(task) if system in comparison.once]
    if not found:
        return ""
    return (
        f" {', '.join(found)}: vectors that are means over seeds, evaluated once. Intervals and "
        "tests take such a system as it is, without the variation between trainings of it."
    )


def tidy(
    comparison: Comparison, means: Iterable[Transfer], evaluations: Sequence[Evaluation]
) -> pd.DataFrame:
    """The one frame behind all formats: a row per task, system and column, with the fields of
    `Transfer` and the numbers of trained parameters, of a mean the most over its languages;
    missing if the evaluations do not record them."""
    frame = pd.DataFrame(means, columns=list(Transfer._fields))
    members = list(map(comparison.members, frame["task"], frame["language"]))
    each = frame.assign(member=pd.Series(members, dtype=object)).explode("member")
    key = ["task", "system", "member"]
    counts = each.join(trained(evaluations, "task", "system", "language"), on=key)[TRAINED]
    return frame.join(counts.groupby(level=0).max())


def score_table(
    comparison: Comparison, task: str, frame: pd.DataFrame, gaps: Sequence[Difference]
) -> Table:
    """Systems × columns of one task: each score with half the width of its interval; the standard
    deviation over seeds if there are several; the numbers of trained parameters if known.

    Args:
        frame: see `tidy`.
        gaps: of all tasks, by `deftx.report.scores.differences`.
    """
    frame = frame[frame["task"] == task]
    headings = {key: comparison.heading(task, key) for key in comparison.columns(task)}
    seeds = int(frame["seeds"].max())
    counted = bool(frame["trained_task"].notna().any())
    best = _best(comparison, task, gaps)
    columns = (frame[name] for name in ("system", "language", "mean", "low", "high"))
    scores: list[Any] = [
        Cell(number(100 * mean), _half(low, high), bold=(system, language) == (best, MEAN))
        for system, language, mean, low, high in zip(*columns, strict=True)
    ]
    cells = _wide(frame.assign(cell=scores), "language", comparison.systems_of(task), headings)
    shown = frame[frame["language"] == (MEAN if MEAN in headings else list(headings)[-1])]
    shown = shown.set_index("system")
    if seeds > 1 and MEAN in headings:
        cells[f"sd of mean, {seeds} seeds"] = (
            (100 * shown["sd"]).map(number, na_action="ignore").fillna("")
        )
    if counted:
        counts = shown[TRAINED].map(_count)
        both = counts["trained_task"] + " / " + counts["trained_language"]
        cells["trained: task / language"] = both.where(shown["trained_task"].notna(), "")
        cells["head"] = counts["trained_head"]
    caption = _score_caption(comparison, task, seeds, counted)
    return Table(f"transfer-{task}", task, caption, cells)


def difference_tables(
    comparison: Comparison, task: str, gaps: Sequence[Difference], seeds: int
) -> list[Table]:
    """Differences in a task's mean, systems × systems, and differences from the reference, systems
    × languages and groups. A table without a difference is left out."""
    systems, reference = comparison.systems_of(task), comparison.reference_of(task)
    frame = pd.DataFrame(gaps, columns=list(Difference._fields))
    cells: list[Any] = [
        Cell(
            number(100 * gap.difference, signed=True),
            _half(gap.low, gap.high),
            doubtful=not gap.significant,
        )
        for gap in gaps
    ]
    frame = frame.assign(cell=cells)[frame["task"] == task]
    pairs, single = frame[frame["language"] == MEAN], frame[frame["language"] != MEAN]
    headings = {key: comparison.heading(task, key) for key in comparison.columns(task)}
    headings.pop(MEAN, None)
    others = [system for system in systems if system != reference]
    once, over = _once(comparison, task), _over(comparison, task, seeds)
    title, named = comparison.title(task), comparison.title(task, "-")
    tables = (
        Table(
            f"differences-{named}",
            f"{title}: differences between systems",
            "Row minus column, in points of the mean over languages. "
            f"{_paired(over, len(pairs), seeds)}{once}",
            _wide(pairs, "versus", systems[1:], {system: system for system in systems[:-1]}),
        ),
        Table(
            f"reference-{named}",
            f"{title}: differences from {reference}",
            f"Row minus {reference}, in points. {_paired(over, len(single), seeds)}{once}",
            _wide(single, "language", others, headings),
        ),
    )
    return [table for table in tables if table.cells.notna().any(axis=None)]


def shares_table(comparison: Comparison, task: str, evaluations: Sequence[Evaluation]) -> Table:
    """The shares of the classes among the labels and among the predictions, in percent: labels and
    systems × languages. Of more than MOST_SHARES classes, classes × languages, with the predictions
    of the reference only."""
    mine, measures = [e for e in evaluations if e.task == task], comparison.tasks[task].measures
    groups = measures.groups(mine[0].class_names)
    names = list(dict.fromkeys(groups))
    place = np.array([names.index(group) for group in groups])
    rows = [
        (e.language, who, np.bincount(place[of], minlength=len(names)) / len(of))
        for e in mine
        for who, of in ((LABELS, e.labels), (e.system, e.predictions))
    ]
    frame = pd.DataFrame(rows, columns=["language", "system", "shares"])
    means = frame.groupby(["language", "system"])["shares"].agg(lambda each: np.mean([*each], 0))
    headings = {key: comparison.heading(task, key) for key in comparison.tasks[task].languages}
    caption = f"{measures.unit}, means over seeds. classes.csv has the numbers."
    if len(names) > MOST_SHARES:
        reference = comparison.reference_of(task)
        shown = {
            heading: [
                f"{number(100 * label)} / {number(100 * predicted)}"
                for label, predicted in zip(means[key, LABELS], means[key, reference], strict=True)
            ]
            for key, heading in headings.items()
        }
        cells = pd.DataFrame(shown, index=names)
        caption = (
            "Label / prediction: shares of the classes in percent, among the labels and among the "
            f"predictions by {reference}, of {caption}"
        )
    else:
        texts: list[Any] = [Cell(" / ".join(f"{100 * x:.0f}" for x in each)) for each in means]
        found = means.reset_index().assign(cell=texts)
        cells = _wide(found, "language", [LABELS, *comparison.systems_of(task)], headings)
        caption = (
            f"Shares of {' / '.join(names)} in percent, among the labels and among the predictions "
            f"of {caption}"
        )
    title = f"{comparison.title(task)}: shares of the classes"
    return Table(f"shares-{comparison.title(task, '-')}", title, caption, cells)


def prior_tables(found: WithPrior, task: str, gaps: Sequence[Difference]) -> list[Table]:
    """The tables of the systems with a prior, and no others: their scores, each beside the score
    without the prior, their differences, and the shares of the classes; none for a task without.

    Args:
        gaps: between the systems with the prior.
    """
    comparison = found.after
    if task not in comparison.tasks:
        return []
    frame = found.table()
    frame = frame[frame["task"] == task]
    best, seeds = _best(comparison, task, gaps), int(frame["seeds"].max())
    cells: list[Any] = [
        Cell(
            number(100 * row["mean"]),
            f"{_half(row['low'], row['high'])}, without {number(100 * row['before'])}",
            bold=(row["system"], row["language"]) == (best, MEAN),
        )
        for row in frame.to_dict("records")
    ]
    headings = {key: comparison.heading(task, key) for key in comparison.columns(task)}
    scores = Table(
        comparison.title(task, "-"),
        comparison.title(task),
        _prior_caption(comparison, task, seeds),
        _wide(frame.assign(cell=cells), "language", comparison.systems_of(task), headings),
    )
    return [
        scores,
        *difference_tables(comparison, task, gaps, seeds),
        shares_table(comparison, task, found.evaluations),
    ]


def published_table(comparison: Comparison, task: str, found: pd.DataFrame) -> list[Table]:
    """Published rows × columns: each number and how far ours is from it; no table if there is none.

    Args:
        found: by `deftx.report.published.beside`.
    """
    mine = found[found["task"] == task]
    if mine.empty:
        return []
    columns = [key for key in comparison.columns(task) if key in set(mine["language"])]
    cells: list[Any] = [
        Cell(number(100 * published), number(100 * difference, signed=True), doubtful=inside)
        for published, difference, inside in zip(
            mine["published"], mine["difference"], mine["inside_interval"], strict=True
        )
    ]
    place = (mine["source"] + ", " + mine["place"]).str.removesuffix(", ")
    keys = mine[["system", "language"]].assign(place=place, model=mine["published_base"])
    row = ["system", "place", "model"]
    each = keys.assign(cell=cells).groupby([*row, "language"], sort=False)["cell"].last()
    lines = each.unstack(sort=False)[columns].reset_index(row[1:])
    headings = [comparison.heading(task, column) for column in columns]
    lines = lines.set_axis(["published in", "base model", *headings], axis=1)
    base = f" Our base model: {comparison.base_name}." if comparison.base_name else ""
    caption = (
        f"{comparison.metric(task).in_full} in percent as published, and how many points "
        "ours is above it (+) or below. In parentheses: the published number is inside our 95 % "
        f"interval. Published numbers have no intervals, so differences are not tested.{base}"
    )
    title = f"{task}: published numbers and ours"
    return [Table(f"published-{task}", title, caption, lines)]


def _wide(
    frame: pd.DataFrame, column: str, systems: Sequence[str], headings: Mapping[str, str]
) -> pd.DataFrame:
    """`cell` of a frame: systems × the values of another column, which get headings."""
    cells = frame.pivot(index="system", columns=column, values="cell")
    cells = cells.reindex(index=list(systems), columns=list(headings))
    return cells.set_axis(list(headings.values()), axis=1)


def _best(comparison: Comparison, task: str, gaps: Sequence[Difference]) -> str | None:
    """The system whose mean is significantly above that of every other one.

    Design choice: a larger number is no winner if the difference is not significant; and single
    languages have none, because only differences from the reference are tested there.
    """
    wins: dict[str, int] = dict.fromkeys(comparison.systems_of(task), 0)
    for gap in gaps:
        if gap.task == task and gap.language == MEAN and gap.significant:
            wins[gap.system if gap.difference > 0 else gap.versus] += 1
    others = len(wins) - 1
    return next((system for system, count in wins.items() if 0 < count == others), None)


def _half(low: float, high: float) -> str:
    """Half the width of an interval in [0, 1], in points."""
    return f"± {number(50 * (high - low))}"


def _count(parameters: int) -> str:
    """With three digits: 14.2M, 142k, 96; empty if unknown."""
    if pd.isna(parameters):
        return ""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if parameters >= 0.9995 * size:
            return f"{parameters / size:.3g}{unit}"
    return str(parameters)


def _over(comparison: Comparison, task: str, seeds: int) -> str:
    return comparison.tasks[task].measures.items + " and seeds" * (seeds > 1)


def _paired(over: str, comparisons: int, seeds: int) -> str:
    """The part of a caption that explains a family of differences."""
    return (
        f"± is half the width of the paired 95 % interval over {over}. In parentheses: not "
        f"significant (p ≥ {ALPHA} after Holm's correction for the {comparisons:,} "
        f"comparison{'s' * (comparisons > 1)} of this table).{ONE_SEED * (seeds == 1)}"
    )


def _prior_caption(comparison: Comparison, task: str, seeds: int) -> str:
    prior = comparison.tasks[task].prior
    assert prior is not None
    source = comparison.name(comparison.tasks[task].source)
    aim = {
        "uniform": "the same for all classes",
        "source": f"that of the same system on such items in {source}",
    }[prior.target]
    averaged = ", ".join(map(comparison.name, comparison.averaged(task)))
    return (
        f"{comparison.metric(task).in_full} in percent, of systems with a bias on the "
        "logits of the classes, which makes their mean prediction on unlabelled items of the "
        f"language, {prior.items}, {aim}. There is one bias for each system, language and seed. "
        "± is half the width of the 95 % bootstrap interval over "
        f"{_over(comparison, task, seeds)}; these unlabelled items are not resampled. without: the "
        "score of the same system without the bias. "
        + f"{MEAN}: over {averaged}. " * bool(averaged)
        + "A language without such items has no column."
        + ONE_SEED * (seeds == 1)
        + _once(comparison, task)
    )


def _score_caption(comparison: Comparison, task: str, seeds: int, counted: bool) -> str:
    metric, means = comparison.metric(task).in_full, comparison.means(task)
    groups = {group: ", ".join(map(comparison.name, means[group])) for group in means}
    groups.pop(MEAN, None)
    systems, textless = comparison.systems_of(task), set(comparison.without_text)
    sentences = [
        f"{metric} in percent" + (f", mean over {seeds} seeds" if seeds > 1 else ""),
        f"± is half the width of the 95 % bootstrap interval over {_over(comparison, task, seeds)} "
        f"({RESAMPLES:,} resamples, the same for all systems and languages)",
        *[
            "Bold: the mean is significantly above that of every other system "
            f"(p < {ALPHA} after correction)"
        ]
        * (MEAN in means and len(systems) > 1),
        *[f"{MEAN}: over the languages, without sources and languages without text"]
        * (MEAN in means),
        *(f"{group}: over {names}" for group, names in groups.items()),
        *["trained: numbers of parameters, the largest over the mean's languages"] * counted,
        *["† no text: evaluated without a language vector"]
        * bool(textless.intersection(comparison.tasks[task].languages)),
    ]
    return f"{'. '.join(sentences)}.{ONE_SEED * (seeds == 1)}{_once(comparison, task)}"
