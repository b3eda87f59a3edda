"""The documentation agrees with the project."""

import re
import runpy

import pytest
import yaml
from conftest import PROJECT

import deftx
from deftx.plan.config import check_config

PAGES = [*PROJECT.glob("*.md"), *PROJECT.glob("docs/**/*.md"), PROJECT / "benchmarks/README.md"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_links_lead_to_files_and_code_uses_public_names(page):
    text = page.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#\s]+)", text)
    assert [x for x in links if "://" not in x and not (page.parent / x).exists()] == []
    code = "".join(re.findall(r"```python\n(.*?)```", text, re.S))
    assert [x for x in re.findall(r"\bdeftx\.(\w+)", code) if not hasattr(deftx, x)] == []


def at(config, section):
    for key in section.split("."):
        config = config[key]
    return config


def test_the_readmes_rows_fit_into_the_sections_of_the_configs():
    readme = (PROJECT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```yaml\n(.*?)```", readme, re.S)
    names = ["workflow/configs/demo.yaml", "config.yaml", "config.yaml"]
    for name, block in zip(names, blocks, strict=True):
        text = (PROJECT / name).read_text(encoding="utf-8")
        sections = re.findall(r"# in ([\w.]+):.*\n(.+\n)", block)
        for section, row in sections:
            *above, key = section.split(".")
            place = 0
            for depth, head in enumerate([*above, key]):
                place = text.index(f"\n{'  ' * depth}{head}:", place) + 1
            end = text.index("\n", place) + 1
            text = text[:end] + row + text[end:]
        before = yaml.safe_load((PROJECT / name).read_text(encoding="utf-8"))
        after = yaml.safe_load(text)
        for section, row in sections:  # a row whose key is there already would replace it
            assert len(at(after, section)) == len(at(before, section)) + 1, row
        check_config(after, PROJECT / name)


def test_the_tables_of_the_findings_are_what_the_script_prints_from_the_recorded_runs():
    printed = runpy.run_path(str(PROJECT / "docs/results/compare.py"))["table"]
    text = (PROJECT / "docs/findings.md").read_text(encoding="utf-8")
    tables = re.findall(r"<!-- compare\.py (.+) -->\n\n((?:\|.*\n)+)", text)
    assert tables
    for names, table in tables:
        assert table.rstrip() == printed(*names.split())
