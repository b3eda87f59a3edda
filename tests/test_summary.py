"""The summary page needs no other file, and shows what the files of the run contain."""

import base64
import hashlib
import html
import json
import re
import shutil
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import pytest
import yaml
from conftest import OF_A_BASE, PROJECT
from matplotlib.figure import Figure
from test_tables import SYSTEMS, Page, params, save_evaluations

from deftx.plan.schema import Config
from deftx.report.accounting import Job
from deftx.report.embed import markdown
from deftx.report.figures.captions import CAPTIONS
from deftx.report.figures.style import notice, save
from deftx.report.template import render
from deftx.stages.costs import run as costs_stage
from deftx.stages.summary.run import Params, _table, summary
from deftx.stages.tables.run import tables
from deftx.store.artefact import canonical
from deftx.store.errors import ArtefactError

DRAWN = ["transfer", "mask"]
"""Figures that show something; the others are notices."""


def config(**changes: object) -> Config:
    settings = yaml.safe_load((PROJECT / "tests/config/tiny.yaml").read_text(encoding="utf-8"))
    scales = {"language_scale": 0.5, "language_depth": {"share": 0.5}}
    settings["systems"]["deft-x"] = {"task": "deft-x", "language": "lt-sft", **scales}
    settings["budget"]["language"] = "1/40"
    settings["tasks"]["sentiment"]["classes"] = ["<script>alert(1)</script>", "&"]
    return Config.model_validate({**settings, **changes})


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> dict[str, Path]:
    """The inputs of the stage, made by the stages before it."""
    run = tmp_path_factory.mktemp("run")
    evaluated = save_evaluations(run)
    tables(params(), evaluated=evaluated, out=run / "tables/transfer.csv")
    for name in CAPTIONS:
        if name != "cost":
            figure = Figure(figsize=(3, 2)) if name in DRAWN else notice("Nothing to show.")
            save(figure, run / f"figures/{name}.svg")
    job = Job(stage="full", path="full/lang-ace/seed0/model.safetensors", systems=SYSTEMS)
    (run / "benchmarks/full/lang-ace/seed0").mkdir(parents=True)
    (run / "benchmarks/full/lang-ace/seed0/model.json").write_text(
        json.dumps({"stage": "full", "seconds": 125.0, "stored_bytes": 2_000_000})
    )
    lost = Job(stage="mask", path="mask/x/lang-ace/seed0.safetensors", systems=["deft-x"])
    costs_stage.account(
        params(), [job, lost], run / "benchmarks", evaluated, run / "costs/systems.csv"
    )
    coverage = {"words": [12_000, 4], "pieces": [18_000, 13], "unknown": [0, 0]}
    coverage |= {"pieces_per_word": [1.23456, 3.25], "gap": [-0.5, 0.5]}
    pd.DataFrame({"language": ["eng", "ace"], **coverage}).to_csv(run / "cover.csv", index=False)
    shapes = {
        "a.weight": {"shape": [40, 50], "layer_norm": False},
        "n.weight": {"shape": [50], "layer_norm": True},
    }
    identity = {"id": "tiny", "revision": None, "hash": "c0ffee"}
    facts = {"identity": identity, "parameters": shapes, "source": {}, **OF_A_BASE}
    (run / "base").mkdir()
    (run / "base/backbone.json").write_text(json.dumps(facts))
    (run / "config.json").write_text(config().model_dump_json())
    return {
        "config": run / "config.json",
        "tables": run / "tables/transfer.csv",
        "figures": run / "figures/transfer.svg",
        "costs": run / "costs/systems.csv",
        "coverage": run / "cover.csv",
        "base": run / "base",
    }


def written(out: Path, inputs: dict[str, Path], **changes: object) -> Page:
    summary(Params.model_validate(params().model_dump()), **{**inputs, **changes}, out=out)
    return Page(out)


@pytest.fixture(scope="module")
def path(inputs) -> Path:
    return inputs["base"].parent / "summary/index.html"


@pytest.fixture(scope="module")
def page(inputs, path) -> Page:
    return written(path, inputs)


def rows(page: Page) -> list[str]:
    """The text of each row of a table, its cells between bars."""
    found = re.findall(r"<tr>(.*?)</tr>", page.text, re.S)
    cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.S) for row in found]
    return ["|".join(re.sub(r"<.*?>", "", cell) for cell in row) for row in cells]


def test_it_fetches_nothing(page):
    assert not {"script", "link", "iframe", "object", "embed"} & set(page.tags())
    assert all(source.startswith("data:image/svg+xml;base64,") for source in page.all("src"))
    assert all(link.startswith(("#", "../")) for link in page.all("href"))
    assert "url(" not in page.text and "@import" not in page.text


def test_ids_are_unique_and_links_lead_to_ids_and_files(path, page):
    ids = page.all("id")
    assert len(ids) == len(set(ids)) > 8
    assert {link[1:] for link in page.all("href") if link.startswith("#")} <= set(ids)
    made = [link for link in page.all("href") if re.match(r"\.\./(tables|figures|costs)/", link)]
    assert sorted((path.parent / link).resolve() for link in made) == sorted(
        file
        for name in ("tables", "figures", "costs")
        for file in (path.parent.parent / name).iterdir()
    )


def test_each_figure_that_shows_something_is_there_with_its_caption(inputs, page):
    figures = [attrs["id"] for tag, attrs in page.found if tag == "figure"]
    assert figures == ["figure-transfer", "figure-mask", "figure-cost"]
    shown = [base64.b64decode(source.partition(",")[2]) for source in page.all("src")]
    folders = [inputs["figures"].parent, inputs["figures"].parent, inputs["costs"].parent]
    names = [*DRAWN, "cost"]
    assert shown == [
        (folder / f"{name}.svg").read_bytes() for folder, name in zip(folders, names, strict=True)
    ]
    captions = re.findall(r"<figcaption><b>Figure (\d)\.</b> (.*?)</figcaption>", page.text)
    assert captions == [
        (str(number), CAPTIONS[name].replace("'", "&#39;")) for number, name in enumerate(names, 1)
    ]


def test_the_tables_are_those_of_the_tables_in_markdown(inputs, page):
    lines = inputs["tables"].with_suffix(".md").read_text(encoding="utf-8").splitlines()
    cells = [line.strip("|").split("|") for line in lines if line.startswith("|")]
    original = ["|".join(cell.strip().replace("**", "") for cell in line) for line in cells]
    original = [line for line in original if "--" not in line]
    assert len(original) > len(SYSTEMS)
    assert set(original) <= set(rows(page))
    assert page.text.count('<div class="scroll">') == page.tags().count("table") - 2
    assert page.tags().count("h1") == 1


def test_html_in_markdown_is_shown_and_does_nothing(tmp_path):
    (tmp_path / "a.md").write_text("# <b>\n\n| <script> |\n| :-- |\n| [x](javascript:a) |\n")
    text = markdown(tmp_path / "a.md", deeper=1)
    assert text.startswith("<h2>&lt;b&gt;</h2>") and "<td>&lt;script" not in text
    assert "<script" not in text and "href" not in text


def test_systems_are_shown_with_their_methods_and_scales(page):
    scaled = "0.5 × lt-sft, by depth (share 0.5)"
    shown = {"zero-shot|full|none", "lt-sft|lt-sft|lt-sft", f"deft-x|deft-x|{scaled}"}
    assert shown <= set(rows(page))


def test_k_is_counted_on_the_base(page):
    """Ten percent and a fortieth of 40 × 50 entries; normalisation is not maskable."""
    assert "<dd>200</dd><dd>10 % of 2,000</dd>" in page.text
    assert "<dd>50</dd><dd>2.5 % of 2,000</dd>" in page.text


def test_costs_are_readable_and_unknown_ones_are_marked(page):
    assert "full|1|2 min 5 s|2.0 MB" in rows(page)
    assert "deft-x|2|≥ 2 min 5 s|≥ 42 s|≥ 2.0 MB" in rows(page)
    assert "1 of 2 jobs have no record" in page.text


def test_provenance_and_config_are_shown_as_they_are(page):
    whole = config().model_dump(mode="json")
    assert f"<code>{hashlib.sha256(canonical(whole).encode()).hexdigest()}</code>" in page.text
    text = re.search(r"run: tiny\n.*?(?=</pre>)", html.unescape(page.text), re.S)[0]
    assert Config.model_validate(yaml.safe_load(text)) == config()
    assert page.tags().count("details") == 1
    for text in ("c0ffee", f"torch {version('torch')}", "snakemake --configfile tiny.yaml"):
        assert text in page.text


def test_coverage_is_rounded_and_badly_covered_languages_have_a_warning(page):
    assert "language|words|pieces|unknown|pieces per word|gap" in rows(page)
    assert "eng|12,000|18,000|0|1.23|−0.5" in rows(page)
    warnings = re.findall(r"<li>(?!<a)(.*?)</li>", page.text)
    assert len(warnings) == 1 and warnings[0].startswith("Acehnese: 3.2 ")


def test_cleaning_is_shown_if_there_was_any(inputs, page, tmp_path):
    assert "text" not in page.all("id")
    counts = {"read": 4_000, "blank": 1, "short": 2, "long": 3, "evaluation": 4, "duplicate": 5}
    (tmp_path / "ace.json").write_text(
        json.dumps({"language": "ace", "datasets": {"wiki": 4_000}, **counts, "kept": 3_985})
    )
    other = written(tmp_path / "index.html", inputs, cleaned=[tmp_path / "ace.parquet"])
    assert "Acehnese|wiki|4,000|1|2|3|4|5|3,985" in rows(other)


def test_examples_of_errors_are_shown_with_their_marks_and_html_in_them_does_nothing(
    inputs, page, tmp_path
):
    assert "errors" not in page.all("id") and "#errors" not in page.all("href")
    folder = shutil.copytree(inputs["tables"].parent, tmp_path / "tables")
    labels = [
        {"text": "<script>alert(1)</script> &", "mark": "", "wrong": False},
        {"text": "</dd><b>New York", "mark": "LOC<", "wrong": True},
    ]
    plain = [{"text": "one", "mark": "PER", "wrong": False}]
    where = {"task": "ner", "system": "deft-x", "seed": 0, "language": "A<i>"}
    examples = [{**where, "id": "1", "labels": labels, "predictions": plain}]
    (folder / "examples.json").write_text(json.dumps({"examples": examples}))
    other = written(tmp_path / "index.html", inputs, tables=folder / "transfer.csv")
    assert "errors" in other.all("id") and "#errors" in other.all("href")
    assert other.tags().count("mark") == 2 and other.all("class").count("wrong") == 1
    assert not {"script", "i"} & set(other.tags())
    words = " ".join("".join(other.words).split())
    for text in (
        "ner in A<i>: deft-x, seed 0",
        "<script>alert(1)</script> & </dd><b>New York LOC<",
    ):
        assert text in words


def test_sections_without_input_are_left_out(inputs, page, tmp_path):
    assert "claims" not in page.all("id") and "#claims" not in page.all("href")
    (tmp_path / "claims.md").write_text("## Claims\n\n| claim | verdict |\n| - | - |\n| A | B |\n")
    changes = {"claims": tmp_path / "claims.csv", "coverage": None}
    other = written(tmp_path / "index.html", inputs, **changes)
    assert "claims" in other.all("id") and "#claims" in other.all("href")
    assert "A|B" in rows(other) and "<h2>Claims</h2>" in other.text
    assert "coverage" not in other.all("id") and "#coverage" not in other.all("href")


@pytest.mark.parametrize(
    ("role", "name"),
    [
        ("figures", "mask.svg"),
        ("costs", "costs.md"),
        ("costs", "cost.svg"),
        ("tables", "transfer.md"),
        ("tables", "examples.json"),
    ],
)
def test_a_missing_file_is_named(inputs, tmp_path, role, name):
    folder = shutil.copytree(inputs[role].parent, tmp_path / role)
    (folder / name).unlink()
    with pytest.raises(ArtefactError, match=f"{role}/{name}: no such file"):
        written(tmp_path / "index.html", inputs, **{role: folder / inputs[role].name})
    assert not (tmp_path / "index.html").exists()


def test_same_inputs_same_bytes(inputs, page, path):
    again = path.with_name("again.html")
    assert written(again, inputs).text == page.text


def test_templates_want_every_value():
    with pytest.raises(Exception, match="is undefined"):
        render("summary.html.j2")


def test_a_name_that_looks_like_no_value_is_shown(tmp_path):
    (tmp_path / "x.csv").write_text("system,jobs,seconds\nnan,1,0.5\nnull,,\nNA,3,-0.25\n")
    rows = _table(tmp_path / "x.csv").rows
    assert rows == [["nan", "1", "0.5"], ["null", "", ""], ["NA", "3", "−0.25"]]
