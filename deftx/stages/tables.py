"""Stage `tables`: every score with its uncertainty, as CSV, Markdown, LaTeX and HTML."""

import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from deftx.artefact import write_text
from deftx.results import (
    MEAN,
    METRIC_NAMES,
    Comparison,
    Difference,
    Score,
    Transfer,
    differences,
    draw,
    load_evaluations,
    scores,
    transfer,
)
from deftx.statistics import RESAMPLES

MINUS = "−"

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1a1a1a; margin: 2rem; }
section { margin-bottom: 3rem; overflow-x: auto; }
h2 { font-size: 1.15rem; margin: 0 0 .25rem; }
p { max-width: 46rem; margin: .25rem 0 .75rem; color: #444; font-size: .87rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
thead { border-top: 2px solid #1a1a1a; border-bottom: 1px solid #1a1a1a; }
tbody { border-bottom: 2px solid #1a1a1a; }
th, td { padding: .3rem .7rem; text-align: right; font-weight: normal; white-space: nowrap; }
th:first-child { text-align: left; }
td small { color: #777; }
tbody tr:hover { background: #f4f4f2; }
"""


class Params(Comparison):
    """Which systems are compared on what."""


@dataclass(frozen=True)
class Cell:
    """A number in percent or points, perhaps with the ends of its interval."""

    value: float
    low: float | None = None
    high: float | None = None
    signed: bool = False
    bold: bool = False
    doubtful: bool = False

    @property
    def number(self) -> str:
        """The number with one decimal, and with its sign if that matters."""
        return f"{self.value:{'+' if self.signed else ''}.1f}".replace("-", MINUS)

    @property
    def half(self) -> str:
        """Half the width of the interval with one decimal; empty where there is none."""
        if self.low is None or self.high is None:
            return ""
        return f"± {(self.high - self.low) / 2:.1f}"


@dataclass(frozen=True)
class Table:
    """A table as readers see it; a cell is None where there is nothing to say."""

    name: str
    title: str
    caption: str
    header: list[str]
    rows: list[tuple[str, tuple[Cell | None, ...]]]


def tables(params: Params, *, evaluated: list[Path], out: Path) -> None:
    """Write `transfer.csv` (`out`; see `deftx.results.transfer`) and beside it `scores.csv` (a row
    per evaluation), `differences.csv` (pairs of systems, paired intervals), and the same as wide
    tables: `transfer.md`, `transfer.tex` (needs booktabs), `transfer.html`.

    Raises ArtefactError if an evaluation cannot be read; ValueError if one is missing.
    """
    evaluations = load_evaluations(evaluated)
    draws = draw(params, evaluations)
    means, gaps = transfer(params, draws), differences(params, draws)
    shown = [
        table
        for task in params.tasks
        for table in (score_table(params, task, means), difference_table(params, task, gaps))
        if table is not None
    ]
    write_text(out.with_name("scores.csv"), _csv(scores(evaluations), Score._fields))
    write_text(out.with_name("differences.csv"), _csv(gaps, Difference._fields))
    write_text(out.with_suffix(".md"), "\n".join(map(markdown, shown)))
    write_text(out.with_suffix(".tex"), "\n".join(map(latex, shown)))
    write_text(out.with_suffix(".html"), page(shown))
    write_text(out, _csv(means, Transfer._fields))


def score_table(comparison: Comparison, task: str, means: Sequence[Transfer]) -> Table:
    """Systems × languages of one task; with several seeds also the standard deviation over them."""
    mine = [mean for mean in means if mean.task == task]
    languages = comparison.columns(task)
    header = [comparison.heading(task, language) for language in languages]
    columns = [_column([m for m in mine if m.language == language]) for language in languages]
    spreads = [Cell(100 * m.sd) for m in mine if m.language == MEAN and m.sd is not None]
    if spreads:
        header.append("sd over seeds")
        columns.append(spreads)
    return Table(
        name=f"transfer-{task}",
        title=task,
        caption=_score_caption(comparison, task, mine[0].seeds),
        header=["", *header],
        rows=list(zip(comparison.systems, zip(*columns, strict=True), strict=True)),
    )


def difference_table(comparison: Comparison, task: str, gaps: Sequence[Difference]) -> Table | None:
    """Systems × systems: differences of a task's mean over languages; None if there is no mean or
    a single system."""
    cells = {
        (gap.system, gap.versus): Cell(
            100 * gap.difference,
            100 * gap.low,
            100 * gap.high,
            signed=True,
            doubtful=gap.low <= 0 <= gap.high,
        )
        for gap in gaps
        if gap.task == task and gap.language == MEAN
    }
    if not cells:
        return None
    systems = comparison.systems
    return Table(
        name=f"differences-{task}",
        title=f"{task}: differences between systems",
        caption="Row minus column, in points of the mean over languages, ± half the width of the "
        "paired 95 % bootstrap interval over items. In parentheses: the interval includes 0, so "
        "the difference is inside the noise. Not corrected for the number of pairs.",
        header=["", *systems[:-1]],
        rows=[
            (row, tuple(cells.get((row, column)) for column in systems[:-1])) for row in systems[1:]
        ],
    )


def markdown(table: Table) -> str:
    """A heading, the table, its caption."""

    def text(cell: Cell | None) -> str:
        if cell is None:
            return ""
        number = f"**{cell.number}**" if cell.bold else cell.number
        words = f"{number} {cell.half}".rstrip()
        return f"({words})" if cell.doubtful else words

    lines = [table.header, [":--", *["--:"] * (len(table.header) - 1)]]
    lines += [[name, *map(text, cells)] for name, cells in table.rows]
    grid = "\n".join(f"| {' | '.join(_escape(part, '|') for part in line)} |" for line in lines)
    return f"## {table.title}\n\n{grid}\n\n{table.caption}\n"


def latex(table: Table) -> str:
    """A floating table; needs the package booktabs."""

    def text(cell: Cell | None) -> str:
        if cell is None:
            return ""
        number = rf"\textbf{{{_tex(cell.number)}}}" if cell.bold else _tex(cell.number)
        words = rf"{number}\,{{\scriptsize {_tex(cell.half)}}}" if cell.half else number
        return f"({words})" if cell.doubtful else words

    def line(*parts: str) -> str:
        return "    " + " & ".join(parts) + r" \\"

    lines = [
        r"\begin{table}",
        r"  \centering\footnotesize\setlength{\tabcolsep}{3pt}",
        rf"  \caption{{{_tex(table.title)}. {_tex(table.caption)}}}",
        rf"  \label{{tab:{table.name}}}",
        rf"  \begin{{tabular}}{{l{'r' * (len(table.header) - 1)}}}",
        r"    \toprule",
        line(*map(_tex, table.header)),
        r"    \midrule",
        *(line(_tex(name), *map(text, cells)) for name, cells in table.rows),
        r"    \bottomrule",
        r"  \end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def page(tables: Sequence[Table]) -> str:
    """One self-contained page with all tables."""
    sections = "\n".join(map(_section, tables))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f"<title>Transfer</title>\n<style>{STYLE}</style>\n</head>\n"
        f"<body>\n{sections}\n</body>\n</html>\n"
    )


def _section(table: Table) -> str:
    def text(cell: Cell | None) -> str:
        if cell is None:
            return "<td></td>"
        number = f"<b>{cell.number}</b>" if cell.bold else cell.number
        words = f"{number} <small>{cell.half}</small>" if cell.half else number
        return f"<td>({words})</td>" if cell.doubtful else f"<td>{words}</td>"

    head = "".join(f"<th>{html.escape(part)}</th>" for part in table.header)
    body = "\n".join(
        f"<tr><th>{html.escape(name)}</th>{''.join(map(text, cells))}</tr>"
        for name, cells in table.rows
    )
    return (
        f"<section>\n<h2>{html.escape(table.title)}</h2>\n<p>{html.escape(table.caption)}</p>\n"
        f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>\n</section>"
    )


def _column(means: Sequence[Transfer]) -> list[Cell]:
    """A cell per system, the best one bold if its interval is disjoint from all others.

    Design choice: a larger number inside the noise is not dressed up as a winner.
    """
    best = max(means, key=lambda mean: mean.mean)
    others = [mean.high for mean in means if mean is not best]
    stands_out = bool(others) and best.low > max(others)
    return [
        Cell(100 * m.mean, 100 * m.low, 100 * m.high, bold=stands_out and m is best) for m in means
    ]


def _score_caption(comparison: Comparison, task: str, seeds: int) -> str:
    table = comparison.tasks[task]
    textless = bool(set(comparison.without_text) & set(table.languages))
    metric = METRIC_NAMES[table.metric]
    sentences = [
        f"{metric} in percent, " + (f"mean over {seeds} seeds" if seeds > 1 else "one seed"),
        "± is half the width of its 95 % bootstrap interval over items "
        f"({RESAMPLES:,} resamples, the same for all systems, languages and seeds); it holds no "
        "variation over training runs",
        "Bold: the best of its column, where its interval is disjoint from all others",
    ]
    if comparison.averaged(task):
        left_out = ["the source"] * (table.source in table.languages)
        left_out += ["languages without text"] * textless
        without = f", without {' and '.join(left_out)}" if left_out else ""
        sentences.append(f"mean: over the languages{without}")
    if textless:
        sentences.append("† no text: evaluated without a language vector")
    return ". ".join(sentences) + "."


def _csv(rows: Sequence[tuple[object, ...]], header: Sequence[str]) -> str:
    frame = pd.DataFrame(rows, columns=list(header))
    return frame.to_csv(index=False, float_format="%.6f", lineterminator="\n")


def _escape(text: str, characters: str) -> str:
    return "".join(f"\\{c}" if c in characters else c for c in text)


def _tex(text: str) -> str:
    signs = {"±": r"$\pm$", "†": r"$^\dagger$", MINUS: "$-$"}
    return "".join(signs.get(c, c) for c in _escape(text, "&%$#_{}"))
