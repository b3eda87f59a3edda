"""One table in the formats in which it is read: Markdown, LaTeX and HTML."""

import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import pandas as pd
from markupsafe import Markup

from deftx.report.template import as_text, one_line, render

MINUS = "−"

PAGE = 125
"""Characters of \\footnotesize that fit into 16 cm; a wider table is split by columns in LaTeX."""


@dataclass(frozen=True)
class Cell:
    """A number or words and, smaller, an addition such as the width of an interval.

    Attributes:
        doubtful: in parentheses; the caption explains them.
    """

    text: str = ""
    beside: str = ""
    bold: bool = False
    doubtful: bool = False


@dataclass(frozen=True)
class Table:
    """A table for readers: `rows` are a heading and a cell for each of `columns`."""

    name: str
    title: str
    caption: str
    columns: list[str]
    rows: list[tuple[str, list[Cell]]]


@dataclass(frozen=True)
class Format:
    """How a format escapes text, and sets it bold and small."""

    escape: Callable[[str], str]
    bold: str = "{}"
    small: str = "{}"

    def cell(self, cell: Cell) -> str:
        """A cell in this format."""
        text = self.escape(cell.text)
        text = self.bold.format(text) if cell.bold else text
        text += f" {self.small.format(self.escape(cell.beside))}" if cell.beside else ""
        return f"({text})" if cell.doubtful else text

    def frame(self, table: Table) -> pd.DataFrame:
        """The table with its cells and headings as texts in this format."""
        return pd.DataFrame(
            [list(map(self.cell, cells)) for _, cells in table.rows],
            index=[self.escape(name) for name, _ in table.rows],
            columns=[self.escape(column) for column in table.columns],
        )


def bars(text: str) -> str:
    """Text that stays in its cell of a Markdown table."""
    return text.replace("|", r"\|")


def tex(text: str) -> str:
    """Text in which everything that is special to LaTeX is escaped."""
    signs = {"±": r"$\pm$", "†": r"$^\dagger$", MINUS: "$-$", "≥": r"$\geq$", "<": "$<$"}
    signs |= {">": "$>$", "|": "$|$", "[": "{[}"}
    signs |= {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    return "".join(signs.get(c, f"\\{c}" if c in "&%$#_{}" else c) for c in one_line(text))


PLAIN = Format(escape=str)
MARKDOWN = Format(as_text, bold="**{}**")
LATEX = Format(tex, r"\textbf{{{}}}", r"{{\scriptsize {}}}")
HTML = Format(html.escape, "<b>{}</b>", "<small>{}</small>")


def number(value: float, signed: bool = False) -> str:
    """With one decimal, and with its sign if that matters."""
    return f"{value:{'+' if signed else ''}.1f}".replace("-", MINUS)


def markdown(table: Table) -> str:
    """A heading, the table, its caption."""
    align = ["left", *["right"] * len(table.columns)]
    grid = MARKDOWN.frame(table).to_markdown(disable_numparse=True, colalign=align)
    return f"## {table.title}\n\n{grid}\n\n{as_text(table.caption)}\n"


def latex(table: Table) -> str:
    """A floating table, in several grids if it is too wide for a page; needs the package
    booktabs."""
    plain, frame = PLAIN.frame(table), LATEX.frame(table)
    room, used, parts = PAGE - max(map(len, plain.index)), 0.0, [0]
    for column, (head, texts) in enumerate(plain.items()):
        width = max(len(str(head)), int(texts.map(len).max())) + 1.5
        if used and used + width > room:  # a single column may be wider than the page
            parts.append(column)
            used = 0.0
        used += width
    grids = [
        frame.iloc[:, start:end].style.to_latex(
            hrules=True, column_format="l" + "r" * (end - start)
        )
        for start, end in pairwise([*parts, frame.shape[1]])
    ]
    body = "\\par\\medskip\n".join(grids)
    return (
        "\\begin{table}\n\\centering\\footnotesize\\setlength{\\tabcolsep}{3pt}\n"
        f"\\caption{{{tex(f'{table.title}. {table.caption}')}}}\n\\label{{tab:{table.name}}}\n"
        f"{body}\\end{{table}}\n"
    )


def page(tables: Sequence[Table]) -> str:
    """One self-contained page with all tables; wide ones scroll beside their first column."""
    grids = [HTML.frame(table).style.to_html(exclude_styles=True) for table in tables]
    return render("tables.html.j2", tables=list(zip(tables, map(Markup, grids), strict=True)))
