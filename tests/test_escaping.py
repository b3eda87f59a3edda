"""Names and facts from a config are text on every page: no markup, no link, no other cell."""

import io
import re

import pandas as pd
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from matplotlib.figure import Figure

from deftx.report.figures.style import styled
from deftx.report.table_formats import Cell, Table, markdown, page, tex
from deftx.report.template import as_code, as_link, as_text, one_line, render

HOSTILE = [
    "<script>alert(1)</script>",
    "[x](javascript:alert(1))",
    "![x](http://example.org/x.png)",
    "<javascript:alert(1)>",
    "a | b",
    "`code` and ``` fence",
    "line\n\n---\nname: other\n# heading",
    "\\",
    "**bold** _it_ ~~gone~~ &lt; &#60;",
    "x: [y, {z: 1}] # 'no' \"comment\"",
    "\x1b[31mred\x00\u2028next",
    "[/] [bold]rich[/bold] $x$ \\textbf{x}",
]
READER = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
"""A reader that interprets HTML."""


def inline(text):
    """The tokens inside of blocks."""
    return [t for block in READER.parse(text) for t in block.children or [block]]


def kinds(text):
    """What a page consists of, but for its words."""
    return [token.type for token in inline(text) if token.type not in ("text", "text_special")]


def words(text):
    return "".join(token.content for token in inline(text) if token.type.startswith("text"))


anything = st.one_of(st.sampled_from(HOSTILE), st.text(max_size=30))


@given(anything)
def test_text_is_shown_as_it_is_in_one_line(value):
    shown = f"a {as_text(value)} b"
    assert one_line(words(shown)) == one_line(f"a {value} b")
    assert kinds(shown) == kinds("a b")
    assert kinds(f"# a{as_text(value)}\n") == kinds("# a\n")


@given(anything)
def test_text_and_code_stay_in_their_cell(value):
    row = "| a | b |\n| :-- | :-- |\n| {} | c |\n"
    assert kinds(row.format(f"a{as_text(value)}")) == kinds(row.format("a"))
    if one_line(value):
        assert kinds(row.format(as_code(value))) == kinds(row.format("`a`"))


@pytest.mark.parametrize("value", HOSTILE)
def test_only_web_addresses_are_links(value):
    assert "link_open" not in kinds(as_link(value))
    assert kinds(as_link("https://example.org/" + value)) == kinds("<https://example.org/>")


@pytest.mark.parametrize("value", HOSTILE)
def test_tables_show_names_as_they_are(value):
    def table(name):
        cells = pd.DataFrame({name: [Cell("1.0", "± 2", bold=True)]}, index=["lt-sft"])
        return Table("t", "sentiment", f"Base: {name}.", cells)

    assert kinds(markdown(table(value))) == kinds(markdown(table("Name")))
    tags = re.compile(r"<\w+")
    assert tags.findall(page([table(value)])) == tags.findall(page([table("Name")]))
    written = re.sub(r"\\[&%$#_{}]|\\text\w+\{\}|\$[<>|]\$|\{\[\}", "", tex(value))
    assert not re.search(r"[\\&%$#_{}^~\n<>|]", written)


@pytest.mark.parametrize("value", HOSTILE)
@pytest.mark.parametrize("template", ["model.md.j2", "shira.md.j2"])
def test_cards_of_models_show_names_as_they_are(template, value):
    def card(name):
        base = {"id": name, "revision": name, "hash": "00"}
        vector = {"name": name, "revision": None, "method": name, "target": "x", "sha256": "00"}
        carried = {"entries": 1, "total": 2, "r": 3, "lost": {name: 4}}
        prior = {"name": name, "items": 2, "target": "uniform", "bias": [0.5, -0.5], "sha256": "00"}
        facts = {"model": "SequenceClassification", "pipeline": "text-classification"}
        facts |= {"vectors": [vector], "carried": carried, "prior": prior}
        return render(template, base=base, classes=[name, "b"], **facts)

    _, front, text = card(value).split("---\n", 2)
    assert yaml.safe_load(front)["base_model"] == value
    assert kinds(text) == kinds(card("Name").split("---\n", 2)[2])


def test_names_in_figures_are_no_formulas():
    @styled
    def drawn(name):
        figure = Figure()
        figure.text(0, 0, name)
        figure.savefig(io.StringIO(), format="svg")

    drawn(r"$\nothing$")
