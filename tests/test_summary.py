"""The page that leads the reader: it needs nothing else, and says what the files say."""

import html.parser
import json
import re
import shutil
from importlib.metadata import version
from itertools import product
from pathlib import Path

import pandas as pd
import pytest
from matplotlib.figure import Figure
from test_tables import LANGUAGES, SYSTEMS, params, save_evaluation

from deftx.report.accounting import Job
from deftx.report.embed import own_ids, table
from deftx.report.template import render
from deftx.stages.costs import run as costs_stage
from deftx.stages.summary.run import Facts as Params
from deftx.stages.summary.run import lead as summary
from deftx.stages.tables.run import tables
from deftx.store.errors import ArtefactError

VOID = {"meta", "br", "hr", "img", "input", "link"}

CONFIG = "run: mine\n# <script>alert(1)</script> & more\n"

CAPTIONS = {
    "transfer": "Score of each system.",
    "cost": "Score against cost.",
    "mask": "Where <the> masks land.",
}


class Page(html.parser.HTMLParser):
    """A page taken apart; an element that is not closed where it should be is an error."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = path.read_text(encoding="utf-8")
        self.words: list[str] = []
        self.feed(self.text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    def all(self, attribute: str) -> list[str]:
        return [attrs[attribute] for _, attrs in self.found if attribute in attrs]

    def tags(self) -> list[str]:
        return [tag for tag, _ in self.found]


def draw_figure(path: Path, panels: int) -> None:
    """A figure of our own style, with ids that another figure has as well."""
    figure = Figure(figsize=(4, 2))
    for axes in figure.subplots(1, panels, squeeze=False)[0]:
        axes.plot([0, 1, 2], marker="o")
    costs_stage.save(figure, path)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> dict[str, Path]:
    """What the stage takes, made by the stages before it."""
    run = tmp_path_factory.mktemp("run")
    evaluated = [
        save_evaluation(run, system, "mood", language, 0)
        for system, language in product(SYSTEMS, LANGUAGES)
    ]
    tables(params(), evaluated=evaluated, out=run / "tables/transfer.csv")
    for panels, name in enumerate(("transfer", "mask"), 1):
        draw_figure(run / f"figures/{name}.svg", panels)
    job = Job(stage="full", path="full/lang-ace/seed0/model.safetensors", systems=SYSTEMS)
    (run / "benchmarks/full/lang-ace/seed0").mkdir(parents=True)
    (run / "benchmarks/full/lang-ace/seed0/model.json").write_text(
        json.dumps({"stage": "full", "seconds": 125.0, "stored_bytes": 2_000_000})
    )
    lost = Job(stage="mask", path="mask/x/lang-ace/seed0.safetensors", systems=["deft-x"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(costs_stage, "cost_figure", lambda *_: Figure(figsize=(3, 2)))
        costs_stage.account(
            params(), [job, lost], run / "benchmarks", evaluated, run / "costs/systems.csv"
        )
    pd.DataFrame(
        {
            "language": ["eng", "ace"],
            "words": [12_000, 4],
            "pieces": [18_000, 13],
            "unknown": [0, 0],
            "pieces_per_word": [1.23456, 3.25],
            "gap": [-0.5, 0.5],
        }
    ).to_csv(run / "coverage.csv", index=False)
    facts = {
        "identity": {"id": "tiny", "revision": None, "hash": "c0ffee"},
        "parameters": {
            "a.weight": {"shape": [40, 50], "layer_norm": False},
            "n.weight": {"shape": [50], "layer_norm": True},
        },
        "source": {},
    }
    (run / "base").mkdir()
    (run / "base/backbone.json").write_text(json.dumps(facts))
    return {
        "tables": run / "tables",
        "figures": run / "figures",
        "costs": run / "costs",
        "coverage": run / "coverage.csv",
        "base": run / "base",
    }


def stage_params(**changes: object) -> Params:
    comparison = params()
    settings = {
        "run": "mine",
        "systems": {
            "zero-shot": {"task": "full", "language": "none"},
            "lt-sft": {"task": "lt-sft"},
            "deft-x": {"task": "deft-x", "language": "lt-sft", "language_scale": 0.5},
        },
        "tasks": {name: task.model_dump() for name, task in comparison.tasks.items()},
        "names": comparison.names,
        "without_text": comparison.without_text,
        "seeds": [0, 1],
        "budget": {"task": 0.1, "language": "1/40"},
        "figures": CAPTIONS,
        "config_sha256": "feed" * 16,
        "config": CONFIG,
        "commands": ["snakemake --configfile mine.yaml"],
    }
    return Params.model_validate({**settings, **changes})


@pytest.fixture(scope="module")
def path(inputs) -> Path:
    out = inputs["base"].parent / "summary/index.html"
    summary(stage_params(), **inputs, out=out)
    return out


@pytest.fixture(scope="module")
def page(path) -> Page:
    return Page(path)


def rows(page: Page) -> list[str]:
    """The text of each row of a table, its cells between bars."""
    found = re.findall(r"<tr>(.*?)</tr>", page.text, re.S)
    cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.S) for row in found]
    return ["|".join(re.sub(r"<.*?>", "", cell) for cell in row) for row in cells]


def test_it_fetches_nothing(page):
    assert not {"script", "link", "img", "iframe", "object", "embed", "image"} & set(page.tags())
    assert page.all("src") == []
    links = page.all("href") + page.all("xlink:href")
    assert all(link.startswith(("#", "../")) for link in links)
    assert set(re.findall(r"url\((.)", page.text)) <= {"#"}
    assert "@import" not in page.text


def test_ids_are_unique_and_every_reference_leads_to_one(page):
    ids = page.all("id")
    assert len(ids) == len(set(ids)) > 10
    inside = [link for link in page.all("href") + page.all("xlink:href") if link.startswith("#")]
    used = {link[1:] for link in inside} | set(re.findall(r"url\(#([^)]*)\)", page.text))
    assert used <= set(ids)
    assert sum(reference.startswith("mask-") for reference in used) > 1  # figures refer to parts


def test_links_to_files_lead_to_files(path, page):
    made = [link for link in page.all("href") if re.match(r"\.\./(tables|figures|costs)/", link)]
    assert sorted((path.parent / link).resolve() for link in made) == sorted(
        file
        for name in ("tables", "figures", "costs")
        for file in (path.parent.parent / name).iterdir()
    )


def test_each_figure_is_there_once_with_its_caption_in_order(page):
    figures = [attrs["id"] for tag, attrs in page.found if tag == "figure"]
    assert figures == ["figure-transfer", "figure-mask", "figure-cost"]
    assert page.tags().count("svg") == 3
    captions = re.findall(r"<figcaption><b>Figure (\d)\.</b> (.*?)</figcaption>", page.text)
    assert captions == [
        ("1", "Score of each system."),
        ("2", "Where &lt;the&gt; masks land."),
        ("3", "Score against cost."),
    ]


def test_the_tables_are_those_of_the_tables_page(inputs, page):
    original = Page(inputs["tables"] / "transfer.html")
    assert set(rows(original)) <= set(rows(page))
    assert len(rows(original)) > len(SYSTEMS)
    assert page.text.count('<div class="scroll">') == page.tags().count("table") - 2
    assert page.tags().count("h1") == 1


def test_systems_are_shown_with_their_methods_and_scales(page):
    assert "zero-shot|full|none" in rows(page)
    assert "lt-sft|lt-sft|lt-sft" in rows(page)
    assert "deft-x|deft-x|0.5 × lt-sft" in rows(page)


def test_k_is_counted_on_the_base(page):
    """Ten percent and a fortieth of 40 × 50 entries; normalisation is not maskable."""
    assert "<dd>200</dd><dd>10 % of 2,000</dd>" in page.text
    assert "<dd>50</dd><dd>2.5 % of 2,000</dd>" in page.text


def test_costs_are_readable_and_what_is_unknown_is_said(page):
    assert "full|1|2 min 5 s|2.0 MB" in rows(page)
    assert "deft-x|2|≥ 2 min 5 s|≥ 42 s|≥ 2.0 MB" in rows(page)
    assert "1 of 2 jobs left no record" in page.text


def test_provenance_is_there(page):
    for text in ("c0ffee", "feed" * 16, f"torch {version('torch')}", "snakemake --configfile mine"):
        assert text in page.text


def test_the_config_is_shown_as_it_is_and_does_nothing(page):
    assert CONFIG in "".join(page.words)
    assert page.tags().count("details") == 1


def test_a_table_of_another_stage_is_shown_as_it_is_read(inputs, page):
    assert "eng|12,000|18,000|0|1.23|−0.5" in rows(page)
    head = ["language", "words", "pieces", "unknown", "pieces per word", "gap"]
    assert table(inputs["coverage"])[0] == head


def test_a_language_that_the_tokenizer_covers_badly_is_warned_of(page):
    text = " ".join(" ".join(page.words).split())
    assert "Acehnese: 3.2 pieces a word, the source has 1.5" in text
    assert text.count("pieces a word") == 1


def test_what_became_of_the_text_is_shown_where_it_was_cleaned(inputs, page, tmp_path):
    assert "text" not in page.all("id")
    counts = {"read": 4_000, "blank": 1, "short": 2, "long": 3, "evaluation": 4, "duplicate": 5}
    (tmp_path / "ace.json").write_text(
        json.dumps({"language": "ace", "datasets": {"wiki": 4_000}, **counts, "kept": 3_985})
    )
    out = tmp_path / "index.html"
    summary(stage_params(), **inputs, cleaned=[tmp_path / "ace.parquet"], out=out)
    assert "Acehnese|wiki|4,000|1|2|3|4|5|3,985" in rows(Page(out))


def test_sections_of_what_was_not_made_are_left_out(inputs, page, path, tmp_path):
    assert "claims" not in page.all("id") and "#claims" not in page.all("href")
    summary(
        stage_params(),
        **{**inputs, "claims": claims_of_a_run(tmp_path), "coverage": None},
        out=tmp_path / "index.html",
    )
    other = Page(tmp_path / "index.html")
    assert "claims" in other.all("id") and "#claims" in other.all("href")
    assert "coverage" not in other.all("id") and "#coverage" not in other.all("href")


def claims_of_a_run(folder: Path) -> Path:
    finding = {
        "claim": "One is above the other", "task": "mood", "source": "A paper", "place": "Table 1",
        "statistic": "difference", "published": "+1.2", "ours": -4.25, "low": -5.5, "high": -2.5,
        "n": "3 languages", "verdict": "refuted",
    }  # fmt: skip
    pd.DataFrame([finding]).to_csv(folder / "claims.csv", index=False)
    return folder / "claims.csv"


def test_a_claim_is_shown_with_its_verdict_and_its_source(inputs, tmp_path):
    summary(
        stage_params(),
        **{**inputs, "claims": claims_of_a_run(tmp_path)},
        out=tmp_path / "index.html",
    )
    text = (tmp_path / "index.html").read_text(encoding="utf-8")
    for part in ("refuted", "difference", "−4.25", "−5.5 to −2.5", "A paper, Table 1"):
        assert part in text


def test_a_figure_of_words_alone_is_left_out(inputs, tmp_path):
    figures = shutil.copytree(inputs["figures"], tmp_path / "figures")
    costs_stage.save(costs_stage.notice("Nothing to draw."), figures / "mask.svg")
    summary(stage_params(), **{**inputs, "figures": figures}, out=tmp_path / "index.html")
    text = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "figure-transfer" in text and "figure-mask" not in text


def test_a_page_may_be_given_for_claims_too(inputs, tmp_path):
    summary(
        stage_params(),
        **{**inputs, "claims": inputs["tables"] / "transfer.html"},
        out=tmp_path / "index.html",
    )
    assert Page(tmp_path / "index.html").text.count("differences between systems") == 2


def test_what_is_missing_is_named(inputs, tmp_path):
    asked = stage_params(figures={**CAPTIONS, "spectrum": "Singular values."})
    with pytest.raises(ArtefactError, match=r"spectrum\.svg: no such file"):
        summary(asked, **inputs, out=tmp_path / "index.html")
    with pytest.raises(ArtefactError, match=r"costs/systems\.csv: no such file"):
        summary(stage_params(), **{**inputs, "costs": tmp_path / "costs"}, out=tmp_path / "i.html")
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_svg_is_refused(inputs, tmp_path):
    (tmp_path / "transfer.svg").write_text("<svg><path/></svg>")
    with pytest.raises(ArtefactError, match="expected an SVG with a width in points"):
        summary(stage_params(), **{**inputs, "figures": tmp_path}, out=tmp_path / "index.html")


def test_same_inputs_same_bytes(inputs, path, tmp_path):
    again = path.with_name("again.html")
    summary(stage_params(), **inputs, out=again)
    assert again.read_bytes() == path.read_bytes()


def test_ids_are_renamed_with_all_that_refers_to_them():
    given = '<a id="x"/><use xlink:href="#x"/><p clip-path="url(#x)" data-id="x"/><b href="y#x"/>'
    assert own_ids(given, "f") == (
        '<a id="f-x"/><use xlink:href="#f-x"/><p clip-path="url(#f-x)" data-id="x"/><b href="y#x"/>'
    )


def test_templates_want_every_value():
    with pytest.raises(Exception, match="is undefined"):
        render("summary.html.j2")
