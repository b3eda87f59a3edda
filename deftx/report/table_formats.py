"""One table in the formats in which it is read: Markdown, LaTeX and HTML."""

import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import pandas as pd
from markupsafe import Markup

from deftx.report.template import as_text, one_line, render

MINUS = "−"

PAGE = 125
"""Characters of \\footnotesize that fit into 16 cm; a wider table is split by columns in LaTeX."""


@dataclass(frozen=True)
class Cell:
    """A number and, smaller, an addition such as the width of an interval.

    Attributes:
        doubtful: in parentheses; the caption explains them.
    """

    text: str
    beside: str = ""
    bold: bool = False
    doubtful: bool = False


class Table(NamedTuple):
    """A table for readers. Each value of `cells` is a `Cell`, words, or missing."""

    name: str
    title: str
    caption: str
    cells: pd.DataFrame


@dataclass(frozen=True)
class Format:
    """How a format escapes text, and sets it bold and small."""

    escape: Callable[[str], str]
    bold: str = "{}"
    small: str = "{}"

    def frame(self, table: Table) -> pd.DataFrame:
        """The table with its cells and headings as texts in this format."""
        texts = table.cells.map(self._text)
        return (
            texts.rename(index=self.escape, columns=self.escape)
            .rename_axis(None, axis=1)
            .rename_axis(None)
        )

    def _text(self, cell: Cell | str | float) -> str:
        if not isinstance(cell, Cell):
            return self.escape(cell) if isinstance(cell, str) else ""
        text = self.escape(cell.text)
        text = self.bold.format(text) if cell.bold else text
        text += f" {self.small.format(self.escape(cell.beside))}" if cell.beside else ""
        return f"({text})" if cell.doubtful else text


def bars(text: str) -> str:
    """Text that stays in its cell of a Markdown table."""
    return text.replace("|", r"\|")


def tex(text: str) -> str:
    """Text in which everything that is special to LaTeX is escaped."""
    signs = {"±": r"$\pm$", "†": r"$^\dagger$", MINUS: "$-$", "≥": r"$\geq$", "<": "$<$"}
    signs |= {">": "$>$", "→": r"$\rightarrow$", "|": "$|$", "[": "{[}"}
    signs |= {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    return "".join(signs.get(c, f"\\{c}" if c in "&%$#_{}" else c) for c in one_line(text))


PLAIN = Format(escape=str)
MARKDOWN = Format(as_text, bold="**{}**")
LATEX = Format(tex, r"\textbf{{{}}}", r"{{\scriptsize {}}}")
HTML = Format(html.escape, "<b>{}</b>", "<small>{}</small>")


def number(value: float, signed: bool = False) -> str:
    """With one decimal, and with its sign if that matters."""
    return f"{value:{'+' if signed else ''}.1f}".replace("-", MINUS)


def grid(frame: pd.DataFrame) -> str:
    """A frame of texts in Markdown, its index on the left and its columns on the right."""
    align = ["left", *["right"] * frame.shape[1]]
    return frame.to_markdown(disable_numparse=True, colalign=align)


def markdown(table: Table) -> str:
    """A heading, the table, its caption."""
    return f"## {table.title}\n\n{grid(MARKDOWN.frame(table))}\n\n{as_text(table.caption)}\n"


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
