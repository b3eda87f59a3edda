"""One table in the formats in which it is read: Markdown, LaTeX and HTML."""

import html
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

MINUS = "−"

PAGE = 125
"""Characters of \\footnotesize that fit into 16 cm: what is wider is split by columns in LaTeX."""

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1a1a1a; margin: 2rem; }
section { margin-bottom: 3rem; }
h2 { font-size: 1.15rem; margin: 0 0 .25rem; }
p { max-width: 46rem; margin: .25rem 0 .75rem; color: #444; font-size: .87rem; }
div { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
thead { border-top: 2px solid #1a1a1a; border-bottom: 1px solid #1a1a1a; }
tbody { border-bottom: 2px solid #1a1a1a; }
th, td { padding: .3rem .7rem; text-align: right; font-weight: normal; white-space: nowrap; }
th:first-child { text-align: left; position: sticky; left: 0; background: #fff; }
td small { color: #777; }
tbody tr:hover, tbody tr:hover th { background: #f4f4f2; }
"""


@dataclass(frozen=True)
class Cell:
    """What a cell says: a number or words and, smaller, what belongs to it.

    Attributes:
        doubtful: in parentheses; the caption says what they mean.
    """

    text: str
    beside: str = ""
    bold: bool = False
    doubtful: bool = False


@dataclass(frozen=True)
class Table:
    """A table as readers see it; a cell is None where there is nothing to say."""

    name: str
    title: str
    caption: str
    header: list[str]
    rows: list[tuple[str, tuple[Cell | None, ...]]]


def number(value: float, signed: bool = False) -> str:
    """With one decimal, and with its sign if that matters."""
    return f"{value:{'+' if signed else ''}.1f}".replace("-", MINUS)


def markdown(table: Table) -> str:
    """A heading, the table, its caption."""

    def text(cell: Cell | None) -> str:
        if cell is None:
            return ""
        words = f"{f'**{cell.text}**' if cell.bold else cell.text} {cell.beside}".rstrip()
        return f"({words})" if cell.doubtful else words

    lines = [table.header, [":--", *["--:"] * (len(table.header) - 1)]]
    lines += [[name, *map(text, cells)] for name, cells in table.rows]
    grid = "\n".join(f"| {' | '.join(_escape(part, '|') for part in line)} |" for line in lines)
    return f"## {table.title}\n\n{grid}\n\n{table.caption}\n"


def latex(table: Table) -> str:
    """A floating table, or several where it is too wide for a page; needs the package booktabs."""
    return "\n".join(map(_float, _parts(table)))


def page(tables: Sequence[Table]) -> str:
    """One self-contained page with all tables; wide ones scroll beside their first column."""
    sections = "\n".join(map(_section, tables))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f"<title>Transfer</title>\n<style>{STYLE}</style>\n</head>\n"
        f"<body>\n{sections}\n</body>\n</html>\n"
    )


def _parts(table: Table) -> Iterator[Table]:
    """The table by columns, no part wider than PAGE unless a single column is."""
    widths = [
        max(len(head), *(_length(cells[i]) for _, cells in table.rows)) + 1.5
        for i, head in enumerate(table.header[1:])
    ]
    room = PAGE - max(len(name) for name, _ in table.rows)
    groups: list[list[int]] = [[]]
    for column, width in enumerate(widths):
        if groups[-1] and sum(widths[i] for i in groups[-1]) + width > room:
            groups.append([])
        groups[-1].append(column)
    for part, columns in enumerate(groups, 1):
        yield replace(
            table,
            name=table.name if part == 1 else f"{table.name}-{part}",
            title=table.title if len(groups) == 1 else f"{table.title} ({part} of {len(groups)})",
            caption=table.caption if part == 1 else "",
            header=[table.header[0], *(table.header[1 + i] for i in columns)],
            rows=[(name, tuple(cells[i] for i in columns)) for name, cells in table.rows],
        )


def _length(cell: Cell | None) -> int:
    return len(f"{cell.text} {cell.beside}") + 2 * cell.doubtful if cell else 0


def _float(table: Table) -> str:
    def text(cell: Cell | None) -> str:
        if cell is None:
            return ""
        words = rf"\textbf{{{_tex(cell.text)}}}" if cell.bold else _tex(cell.text)
        if cell.beside:
            words = rf"{words}\,{{\scriptsize {_tex(cell.beside)}}}"
        return f"({words})" if cell.doubtful else words

    def line(*parts: str) -> str:
        return "    " + " & ".join(parts) + r" \\"

    lines = [
        r"\begin{table}",
        r"  \centering\footnotesize\setlength{\tabcolsep}{3pt}",
        rf"  \caption{{{_tex(f'{table.title}. {table.caption}'.rstrip())}}}",
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


def _section(table: Table) -> str:
    def text(cell: Cell | None) -> str:
        if cell is None:
            return "<td></td>"
        words = html.escape(cell.text)
        words = f"<b>{words}</b>" if cell.bold else words
        words += f" <small>{html.escape(cell.beside)}</small>" if cell.beside else ""
        return f"<td>({words})</td>" if cell.doubtful else f"<td>{words}</td>"

    head = "".join(f"<th>{html.escape(part)}</th>" for part in table.header)
    body = "\n".join(
        f"<tr><th>{html.escape(name)}</th>{''.join(map(text, cells))}</tr>"
        for name, cells in table.rows
    )
    return (
        f"<section>\n<h2>{html.escape(table.title)}</h2>\n<p>{html.escape(table.caption)}</p>\n"
        f"<div><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table></div>\n"
        "</section>"
    )


def _escape(text: str, characters: str) -> str:
    return "".join(f"\\{c}" if c in characters else c for c in text)


def _tex(text: str) -> str:
    signs = {"±": r"$\pm$", "†": r"$^\dagger$", MINUS: "$-$", "≥": r"$\geq$", "<": "$<$"}
    signs |= {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    return "".join(signs.get(c, _escape(c, "&%$#_{}")) for c in text)
