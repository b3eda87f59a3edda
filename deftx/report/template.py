"""The templates of the pages that deftx writes: what varies in, text out."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

TEMPLATES = Path(__file__).parent / "templates"

_environment = Environment(
    loader=FileSystemLoader(TEMPLATES),
    autoescape=select_autoescape(["html.j2"]),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)


def render(template: str, /, **values: Any) -> str:
    """A template, `card.md.j2` for one, filled in; what goes into HTML is escaped.
    Raises jinja2.UndefinedError if it names a value that is not given."""
    return _environment.get_template(template).render(values)
