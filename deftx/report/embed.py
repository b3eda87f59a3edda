"""Other files inside a page: figures, and pages in Markdown."""

import base64
from pathlib import Path

from markdown_it import MarkdownIt
from markupsafe import Markup

from deftx.store.errors import ArtefactError


def read(path: Path) -> str:
    """The text of a file. Raises ArtefactError if it is missing."""
    if not path.is_file():
        raise ArtefactError(f"{path}: no such file")
    return path.read_text(encoding="utf-8")


def data_uri(path: Path) -> str:
    """An SVG file as the address of an image. Raises ArtefactError if it is missing."""
    return f"data:image/svg+xml;base64,{base64.b64encode(read(path).encode()).decode()}"


def markdown(path: Path, deeper: int = 0) -> Markup:
    """A Markdown file as HTML, its headings `deeper` levels lower and each table in a box that
    scrolls. HTML in it is shown, not interpreted. Raises ArtefactError if the file is missing."""
    parser = MarkdownIt("js-default")
    tokens = parser.parse(read(path))
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{int(token.tag[1]) + deeper}"
    html = parser.renderer.render(tokens, parser.options, {})
    html = html.replace("<table>", '<div class="scroll">\n<table>')
    return Markup(html.replace("</table>", "</table>\n</div>"))
