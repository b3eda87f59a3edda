"""Other files inside of one page: figures and tables, whose ids and styles stay their own."""

import re
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup, escape

from deftx.store.errors import ArtefactError

ENLARGED = 1.4
"""How far a figure may grow beyond the size that it was drawn for."""


def read(path: Path) -> str:
    """The text of a file. Raises ArtefactError if it is missing."""
    if not path.is_file():
        raise ArtefactError(f"{path}: no such file")
    return path.read_text(encoding="utf-8")


def figure(path: Path, label: str) -> Markup:
    """The `<svg>` element of a file, as wide as its box; `label` is what a screen reader says.

    Raises ArtefactError if it is missing, or no SVG whose width in points and view box are told.
    """
    text = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>", "", read(path), flags=re.S)
    found = re.search(r"<svg\b(?P<head>[^>]*)>(?P<body>.*)</svg>", text, re.S)
    head = dict(re.findall(r'([\w:]+)="([^"]*)"', found["head"])) if found else {}
    if not found or not {"width", "viewBox"} <= head.keys() or not head["width"].endswith("pt"):
        raise ArtefactError(f"{path}: expected an SVG with a width in points and a view box")
    widest = ENLARGED * float(head["width"].removesuffix("pt"))
    body = found["body"].replace(">*{", ">figure svg *{")  # matplotlib's rule is for its file alone
    return Markup(
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{head["viewBox"]}" role="img" aria-label="{escape(label)}" '
        f'style="max-width: {widest:.0f}pt">{own_ids(body, path.stem)}</svg>'
    )


def page(path: Path) -> tuple[Markup, Markup]:
    """Style and content of a page of tables: headings a level lower, each table in a box in which
    it scrolls. Raises ArtefactError if it is missing, or no page."""
    text = read(path)
    body = re.search(r"<body[^>]*>(.*)</body>", text, re.S)
    if body is None:
        raise ArtefactError(f"{path}: expected a page with a body")
    content = own_ids(re.sub(r"<script\b.*?</script>", "", body[1], flags=re.S), path.stem)
    content = re.sub(r"(</?h)([1-5])\b", lambda tag: f"{tag[1]}{int(tag[2]) + 1}", content)
    content = content.replace("<table", '<div class="scroll"><table')
    content = content.replace("</table>", "</table></div>")
    style = "".join(re.findall(r"<style[^>]*>(.*?)</style>", text, re.S))
    return Markup(style.replace(":root", "&")), Markup(content)


def table(path: Path) -> tuple[list[str], list[list[str]]]:
    """Head and rows of a CSV file as text, fractions with three digits. Raises ArtefactError if it
    is missing or no CSV."""
    if not path.is_file():
        raise ArtefactError(f"{path}: no such file")
    try:
        frame = pd.read_csv(path)
    except ValueError as error:
        raise ArtefactError(f"{path}: expected CSV: {error}") from None
    rows = [[_cell(value) for value in row] for row in frame.itertuples(index=False)]
    return [str(name).replace("_", " ") for name in frame.columns], rows


def own_ids(text: str, prefix: str) -> str:
    """Markup in which every id, and every reference to one, begins with `prefix-`."""
    text = re.sub(r'(\s(?:id|for|headers|aria-labelledby)=")', rf"\g<1>{prefix}-", text)
    return re.sub(r'(href="#|url\(#)', rf"\g<1>{prefix}-", text)


def _cell(value: Any) -> str:
    if pd.isna(value):
        return ""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return (f"{value:,.0f}" if value == round(value) else f"{value:.3g}").replace("-", "−")
    return str(value)
