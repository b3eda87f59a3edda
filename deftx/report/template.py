"""The templates of the pages that deftx writes."""

import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

TEMPLATES = Path(__file__).parent / "templates"


def one_line(value: object) -> str:
    """A value as text without line breaks and control characters."""
    return " ".join(re.sub(r"[\x00-\x1f\x7f-\x9f]", " ", str(value)).split())


def as_text(value: object) -> str:
    """A value as Markdown that shows it as it is, in one line of a table or a paragraph."""
    return re.sub(r"([\\`*_{}\[\]>#|~&]|<(?! ))", r"\\\1", one_line(value))


def as_code(value: object) -> str:
    """A value as inline code in Markdown; nothing if it is empty. Backticks become quotes."""
    text = one_line(value).replace("`", "'").replace("|", "\\|")
    return f"`{text}`" if text else ""


def as_link(address: str) -> str:
    """A web address as a link in Markdown; other text as text."""
    if not re.match(r"https?://", address):
        return as_text(address)
    return f"<{quote(address, safe=':/?#@!$&()*+,;=%~[]')}>"


_environment = Environment(
    loader=FileSystemLoader(TEMPLATES),
    autoescape=select_autoescape(["html.j2"]),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
_environment.filters |= {"text": as_text, "code": as_code, "link": as_link}


def render(template: str, /, **values: Any) -> str:
    """Fill in a template, for example `card.md.j2`. Values in HTML are escaped; a Markdown template
    marks text, code and links by filters. Raises jinja2.UndefinedError if a value is missing."""
    return _environment.get_template(template).render(values)
