"""The tables of a run for readers, made from its scores and differences."""

from collections.abc import Iterable, Sequence

import pandas as pd

from deftx.report.comparison import MEAN, METRIC_NAMES, Comparison
from deftx.report.evaluations import TRAINED, Evaluation, trained
from deftx.report.scores import Difference, Transfer
from deftx.report.statistics import ALPHA, RESAMPLES
from deftx.report.table_formats import Cell, Table, number

ONE_SEED = (
    " One seed: the intervals do not include variation between training runs, so they are about "
    "these trained models and not about their methods."
)
"""docs/statistics.md has how much one seed may mislead."""


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
    columns, seeds = comparison.columns(task), int(frame["seeds"].iloc[0])
    shown = MEAN if MEAN in columns else columns[-1]
    several = seeds > 1 and shown == MEAN
    counted = bool(frame["trained_task"].notna().any())
    best = _best(comparison, task, gaps)
    rows = []
    for system in comparison.systems_of(task):
        of = {row["language"]: row for row in frame[frame["system"] == system].to_dict("records")}
        cells = [
            Cell(
                number(100 * of[column]["mean"]),
                _half(of[column]["low"], of[column]["high"]),
                bold=column == MEAN and system == best,
            )
            for column in columns
        ]
        if several:
            cells.append(Cell(number(100 * of[MEAN]["sd"])))
        if counted:
            numbers = [of[shown][name] for name in TRAINED]
            for_task, language, head = ("" if pd.isna(n) else _count(int(n)) for n in numbers)
            cells += [Cell(f"{for_task} / {language}" if for_task else ""), Cell(head)]
        rows.append((system, cells))
    return Table(
        name=f"transfer-{task}",
        title=task,
        caption=_score_caption(comparison, task, seeds, counted),
        columns=[
            *(comparison.heading(task, column) for column in columns),
            *[f"sd of mean, {seeds} seeds"] * several,
            *["trained: task / language", "head"] * counted,
        ],
        rows=rows,
    )


def difference_tables(
    comparison: Comparison, task: str, gaps: Sequence[Difference], seeds: int
) -> list[Table]:
    """Differences in a task's mean, systems × systems, and differences from the reference, systems
    × languages and groups. A table without a difference is left out."""
    systems, reference = comparison.systems_of(task), comparison.reference_of(task)
    pairs = [gap for gap in gaps if gap.task == task and gap.language == MEAN]
    single = [gap for gap in gaps if gap.task == task and gap.language != MEAN]
    headings = {key: comparison.heading(task, key) for key in comparison.columns(task)}
    headings.pop(MEAN, None)
    tables = (
        Table(
            name=f"differences-{task}",
            title=f"{task}: differences between systems",
            caption=f"Row minus column, in points of the mean over languages. "
            f"{_paired(pairs, seeds)}",
            columns=systems[:-1],
            rows=_gaps({(gap.system, gap.versus): gap for gap in pairs}, systems[1:], systems[:-1]),
        ),
        Table(
            name=f"reference-{task}",
            title=f"{task}: differences from {reference}",
            caption=f"Row minus {reference}, in points. {_paired(single, seeds)}",
            columns=list(headings.values()),
            rows=_gaps(
                {(gap.system, gap.language): gap for gap in single},
                [system for system in systems if system != reference],
                list(headings),
            ),
        ),
    )
    return [table for table, family in zip(tables, (pairs, single), strict=True) if family]


def _gaps(
    gaps: dict[tuple[str, str], Difference], systems: list[str], columns: list[str]
) -> list[tuple[str, list[Cell]]]:
    """A row for each system; `gaps`: (system, column) → difference."""

    def cell(gap: Difference | None) -> Cell:
        if gap is None:
            return Cell()
        text = number(100 * gap.difference, signed=True)
        return Cell(text, _half(gap.low, gap.high), doubtful=not gap.significant)

    return [(system, [cell(gaps.get((system, key))) for key in columns]) for system in systems]


def published_table(comparison: Comparison, task: str, found: pd.DataFrame) -> list[Table]:
    """Published rows × columns: each number and how far ours is from it; no table if there is none.

    Args:
        found: by `deftx.report.published.beside`.
    """
    mine = found[found["task"] == task].to_dict("records")
    if not mine:
        return []
    known = {row["language"] for row in mine}
    columns = [column for column in comparison.columns(task) if column in known]
    lines: dict[tuple[str, str, str], dict[str, Cell]] = {}
    for row in mine:
        where = ", ".join(filter(None, [row["source"], row["place"]]))
        line = lines.setdefault((row["system"], where, row["published_base"]), {})
        line[row["language"]] = Cell(
            number(100 * row["published"]),
            number(100 * row["difference"], signed=True),
            doubtful=row["inside_interval"],
        )
    base = f" Our base model: {comparison.base_name}." if comparison.base_name else ""
    table = Table(
        name=f"published-{task}",
        title=f"{task}: published numbers and ours",
        caption=f"{METRIC_NAMES[mine[0]['metric']]} in percent as published, and how many points "
        "ours is above it (+) or below. In parentheses: the published number is inside our 95 % "
        f"interval. Published numbers have no intervals, so differences are not tested.{base}",
        columns=["published in", "base model", *(comparison.heading(task, c) for c in columns)],
        rows=[
            (system, [Cell(where), Cell(model), *(line.get(c, Cell()) for c in columns)])
            for (system, where, model), line in lines.items()
        ],
    )
    return [table]


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
    """With three digits: 14.2M, 142k, 96."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if parameters >= 0.9995 * size:
            return f"{parameters / size:.3g}{unit}"
    return str(parameters)


def _over(seeds: int) -> str:
    return "items and seeds" if seeds > 1 else "items"


def _paired(family: Sequence[Difference], seeds: int) -> str:
    """The part of a caption that explains a family of differences."""
    return (
        f"± is half the width of the paired 95 % interval over {_over(seeds)}. In parentheses: not "
        f"significant (p ≥ {ALPHA} after Holm's correction for the {len(family):,} "
        f"comparison{'s' * (len(family) > 1)} of this table).{ONE_SEED * (seeds == 1)}"
    )


def _score_caption(comparison: Comparison, task: str, seeds: int, counted: bool) -> str:
    metric, means = METRIC_NAMES[comparison.tasks[task].metric], comparison.means(task)
    groups = {group: ", ".join(map(comparison.name, means[group])) for group in means}
    groups.pop(MEAN, None)
    systems, textless = comparison.systems_of(task), set(comparison.without_text)
    sentences = [
        f"{metric} in percent" + (f", mean over {seeds} seeds" if seeds > 1 else ""),
        f"± is half the width of the 95 % bootstrap interval over {_over(seeds)} ({RESAMPLES:,} "
        "resamples, the same for all systems and languages)",
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
    return f"{'. '.join(sentences)}.{ONE_SEED * (seeds == 1)}"
