"""What the tables of a run say: tidy numbers in, tables for readers out."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import pandas as pd

from deftx.report.published import Beside
from deftx.report.results import MEAN, METRIC_NAMES, Comparison, Difference, Trained, Transfer
from deftx.report.statistics import ALPHA, RESAMPLES
from deftx.report.table_formats import Cell, Table, number

PARENTHESES = "In parentheses: inside the noise"


def tidy(
    means: Sequence[Transfer], trained: Mapping[tuple[str, str, str], Trained]
) -> pd.DataFrame:
    """The one frame that all formats show: a row per task, system and column, the fields of
    `Transfer` and how many parameters were trained, missing where that is not known."""
    frame = pd.DataFrame(means, columns=list(Transfer._fields))
    known = [trained.get((mean.task, mean.system, mean.language)) for mean in means]
    for name in Trained._fields:
        counts = [getattr(one, name) if one else None for one in known]
        frame[f"trained_{name}"] = pd.array(counts, dtype="Int64")
    return frame


def score_table(
    comparison: Comparison, task: str, frame: pd.DataFrame, gaps: Sequence[Difference]
) -> Table:
    """Systems × columns of one task: each score with half the width of its interval; the standard
    deviation over seeds where there are several; the trained parameters where they are known.

    Args:
        frame: see `tidy`.
        gaps: of all tasks, by `deftx.report.results.differences`.
    """
    columns = comparison.columns(task)
    rows = {(r["system"], r["language"]): r for r in frame.to_dict("records") if r["task"] == task}
    seeds = int(rows[comparison.systems_of(task)[0], columns[0]]["seeds"])
    best = _best(comparison, task, gaps)

    def score(system: str, column: str) -> Cell:
        row = rows[system, column]
        return Cell(
            number(100 * row["mean"]),
            _half(row["low"], row["high"]),
            bold=column == MEAN and system == best,
        )

    header = [comparison.heading(task, column) for column in columns]
    cells: dict[str, list[Cell | None]] = {
        system: [score(system, column) for column in columns]
        for system in comparison.systems_of(task)
    }
    shown = MEAN if MEAN in columns else columns[-1]
    if seeds > 1 and shown == MEAN:
        header.append(f"sd of mean, {seeds} seeds")
        for system, line in cells.items():
            line.append(Cell(number(100 * rows[system, MEAN]["sd"])))
    counted = any(pd.notna(row["trained_task"]) for row in rows.values())
    if counted:
        header += ["trained: task / language", "head"]
        for system, line in cells.items():
            line += _trained(rows[system, shown])
    return Table(
        name=f"transfer-{task}",
        title=task,
        caption=_score_caption(comparison, task, seeds, counted),
        header=["", *header],
        rows=[(system, tuple(line)) for system, line in cells.items()],
    )


def pair_table(
    comparison: Comparison, task: str, gaps: Sequence[Difference], seeds: int
) -> Table | None:
    """Systems × systems: differences of a task's mean over languages; None if there is no mean or
    a single system."""
    mine = [gap for gap in gaps if gap.task == task and gap.language == MEAN]
    if not mine:
        return None
    cells = {(gap.system, gap.versus): _gap(gap) for gap in mine}
    systems = comparison.systems_of(task)
    return Table(
        name=f"differences-{task}",
        title=f"{task}: differences between systems",
        caption=f"Row minus column, in points of the mean over languages, {_paired(seeds)} "
        f"{_noise(mine)}",
        header=["", *systems[:-1]],
        rows=[
            (row, tuple(cells.get((row, column)) for column in systems[:-1])) for row in systems[1:]
        ],
    )


def reference_table(
    comparison: Comparison, task: str, gaps: Sequence[Difference], seeds: int
) -> Table | None:
    """Systems × languages and groups: differences to the reference; None for a single system."""
    mine = [gap for gap in gaps if gap.task == task and gap.language != MEAN]
    if not mine:
        return None
    cells = {(gap.system, gap.language): _gap(gap) for gap in mine}
    columns = [column for column in comparison.columns(task) if column != MEAN]
    reference = comparison.reference_of(task)
    return Table(
        name=f"reference-{task}",
        title=f"{task}: differences to {reference}",
        caption=f"Row minus {reference}, in points, {_paired(seeds)} {_noise(mine)}",
        header=["", *(comparison.heading(task, column) for column in columns)],
        rows=[
            (system, tuple(cells[system, column] for column in columns))
            for system in comparison.systems_of(task)
            if system != reference
        ],
    )


def published_table(comparison: Comparison, task: str, found: Sequence[Beside]) -> Table | None:
    """Published rows × columns: each number and how far ours is from it; None if there is none."""
    mine = [row for row in found if row.task == task]
    if not mine:
        return None
    columns = [c for c in comparison.columns(task) if any(row.language == c for row in mine)]
    lines: dict[tuple[str, str, str, str], dict[str, Cell]] = {}
    for row in mine:
        where = f"{row.source}, {row.place}" if row.place else row.source
        line = lines.setdefault((row.system, row.source, where, row.published_base), {})
        line[row.language] = Cell(
            number(100 * row.published),
            number(100 * row.difference, signed=True),
            doubtful=row.inside_interval,
        )
    bases = {comparison.base_name} - {""}
    return Table(
        name=f"published-{task}",
        title=f"{task}: published numbers and ours",
        caption=f"{METRIC_NAMES[mine[0].metric]} in percent as published, and how many points ours "
        "is above it (+) or below. In parentheses: the published number is inside our 95 % "
        "interval. Published numbers come without intervals, so no test is made."
        + "".join(f" Our base model: {base}." for base in bases),
        header=["", "published in", "base model", *(comparison.heading(task, c) for c in columns)],
        rows=[
            (system, (Cell(where), Cell(base), *(line.get(column) for column in columns)))
            for (system, _, where, base), line in lines.items()
        ],
    )


def _best(comparison: Comparison, task: str, gaps: Sequence[Difference]) -> str | None:
    """The system whose mean is above that of every other one, each difference outside the noise.

    Design choice: a larger number inside the noise is not dressed up as a winner; and none is named
    in a single language, where only differences to the reference are tested.
    """
    wins: dict[str, int] = dict.fromkeys(comparison.systems_of(task), 0)
    for gap in gaps:
        if gap.task == task and gap.language == MEAN and not gap.inside_noise:
            wins[gap.system if gap.difference > 0 else gap.versus] += 1
    others = len(wins) - 1
    return next((system for system, count in wins.items() if 0 < count == others), None)


def _gap(gap: Difference) -> Cell:
    return Cell(
        number(100 * gap.difference, signed=True),
        _half(gap.low, gap.high),
        doubtful=gap.inside_noise,
    )


def _half(low: float, high: float) -> str:
    """Half the width of an interval in [0, 1], in points."""
    return f"± {number(50 * (high - low))}"


def _trained(row: Mapping[Hashable, Any]) -> Sequence[Cell | None]:
    if pd.isna(row["trained_task"]):
        return [None, None]
    task, language, head = (_count(int(row[f"trained_{name}"])) for name in Trained._fields)
    return [Cell(f"{task} / {language}"), Cell(head)]


def _count(parameters: int) -> str:
    """With three digits: 14.2M, 142k, 96."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if parameters >= 0.9995 * size:
            return f"{parameters / size:.3g}{unit}"
    return str(parameters)


def _over(seeds: int) -> str:
    """What the intervals are over."""
    return "items and seeds" if seeds > 1 else "items"


def _paired(seeds: int) -> str:
    return f"± half the width of the paired 95 % interval over {_over(seeds)}.{_one_seed(seeds)}"


def _one_seed(seeds: int) -> str:
    """What one seed cannot tell; how far off it may be is measured in docs/statistics.md."""
    return (
        ""
        if seeds > 1
        else " One seed: no variation over training runs is in it. So what is outside the noise "
        "holds for these trained models, not for their methods."
    )


def _noise(family: Sequence[Difference]) -> str:
    count = family[0].comparisons
    return (
        f"{PARENTHESES}, p ≥ {ALPHA} after Holm's correction for the {count:,} "
        f"comparison{'s' * (count > 1)} of this table."
    )


def _score_caption(comparison: Comparison, task: str, seeds: int, counted: bool) -> str:
    table = comparison.tasks[task]
    textless = bool(set(comparison.without_text) & set(table.languages))
    sentences = [
        f"{METRIC_NAMES[table.metric]} in percent"
        + (f", mean over {seeds} seeds" if seeds > 1 else ""),
        f"± is half the width of its 95 % bootstrap interval over {_over(seeds)} ({RESAMPLES:,} "
        f"resamples, the same for all systems and languages).{_one_seed(seeds)}".rstrip("."),
    ]
    for column, members in comparison.means(task).items():
        names = ", ".join(map(comparison.name, members))
        if column == MEAN:
            left_out = ["the source"] * bool(table.labelled & set(table.languages))
            left_out += ["languages without text"] * textless
            names = "the languages" + (f", without {' and '.join(left_out)}" if left_out else "")
            if len(comparison.systems_of(task)) > 1:
                sentences.append(
                    f"Bold: in the mean above every other system, each difference outside the "
                    f"noise (p < {ALPHA} after correction)"
                )
        sentences.append(f"{column}: over {names}")
    if counted:
        sentences.append("trained: numbers of parameters, the most for any language of the mean")
    if textless:
        sentences.append("† no text: evaluated without a language vector")
    return ". ".join(sentences) + "."
