"""The laws of the tables, checked on evaluations made here."""

import csv
import html.parser
import re
import shutil
import subprocess
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from deftx.report.comparison import MEAN, Comparison
from deftx.report.evaluations import load_evaluations
from deftx.report.metrics import Metrics, measure
from deftx.report.scores import Difference, differences, draw, transfer
from deftx.report.statistics import holm, interval, p_value
from deftx.report.table_formats import PAGE, Cell, Table, latex
from deftx.report.tables import difference_tables, score_table, tidy
from deftx.stages.tables.run import Params, tables
from deftx.store.errors import ArtefactError
from deftx.store.tensors import TensorFile, save_tensors

LANGUAGES = ["eng", "ace", "ban", "nah"]
SYSTEMS = ["zero-shot", "lt-sft", "deft-x"]
SKILL = {"zero-shot": 0.2, "lt-sft": 0.5, "deft-x": 0.52}
FILES = ["scores.csv", "classes.csv", "confusions.csv", "differences.csv", "prior.csv"]
FILES += [
    "published.csv",
    "examples.json",
    "transfer.csv",
    "transfer.md",
    "transfer.tex",
    "transfer.html",
]


def save_evaluation(
    folder: Path,
    system: str,
    task: str,
    language: str,
    seed: int,
    items: int = 120,
    **provenance: object,
) -> Path:
    """An artefact as the stage `evaluate` writes it; items are parallel across languages."""
    labels = np.random.default_rng(0).integers(0, 3, items)
    generator = np.random.default_rng([SYSTEMS.index(system), LANGUAGES.index(language), seed])
    logits = generator.normal(size=(items, 3))
    known = generator.random(items) < SKILL[system]
    logits[known, labels[known]] += 9
    ids = "\n".join(f"item-{i}" for i in range(items)).encode()
    out = folder / "evaluate" / system / task / language / f"seed{seed}.safetensors"
    save_tensors(
        out,
        {
            "logits": torch.tensor(logits, dtype=torch.float32),
            "labels": torch.tensor(labels),
            "ids": torch.frombuffer(bytearray(ids), dtype=torch.uint8),
        },
        stage="evaluate",
        **{"system": system, "task": task, "language": language, "seed": seed},
        params={"classes": ["a", "b", "c"]},
        **provenance,
    )
    return out


def save_evaluations(
    folder: Path, systems=SYSTEMS, languages=LANGUAGES, seeds: int = 1
) -> list[Path]:
    """Evaluations of the task `mood` in each language with each seed."""
    every = product(systems, languages, range(seeds))
    return [save_evaluation(folder, s, "mood", language, seed) for s, language, seed in every]


def params(**changes: object) -> Params:
    task = {"metric": "macro_f1", "source": "eng", "languages": LANGUAGES}
    names = {"ace": "Acehnese", "nah": "Nahuatl"}
    settings = {"systems": SYSTEMS, "tasks": {"mood": task}, "names": names}
    return Params.model_validate({**settings, "without_text": ["nah"], **changes})


def with_group(**changes: object) -> Params:
    return params(groups={"both": ["ace", "nah"], "elsewhere": ["ace", "xyz"]}, **changes)


@pytest.fixture(scope="module", params=[1, 3], ids=["one seed", "three seeds"])
def evaluated(request, tmp_path_factory) -> list[Path]:
    return save_evaluations(tmp_path_factory.mktemp("results"), seeds=request.param)


@pytest.fixture(scope="module")
def written(evaluated, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tables")
    tables(with_group(), evaluated=evaluated, out=folder / "transfer.csv")
    return folder


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def recomputed(paths: list[Path]) -> dict[tuple[str, str, int], Metrics]:
    """Metrics from the stored logits, by the code that `evaluate` itself uses."""
    found = {}
    for path in paths:
        file = TensorFile(path)
        key = tuple(file.provenance[name] for name in ("system", "language", "seed"))
        found[key] = measure(file["logits"].numpy(), file["labels"].numpy())
    return found


MEMBERS = {MEAN: ["ace", "ban"], "both": ["ace", "nah"]}


def by_seed(metrics: dict, system: str, column: str) -> np.ndarray:
    """macro-F1 of each seed in a language, or its mean over the languages of a column."""
    seeds = sorted({seed for _, _, seed in metrics})
    languages = MEMBERS.get(column, [column])
    return np.array(
        [np.mean([metrics[system, key, seed].macro_f1 for key in languages]) for seed in seeds]
    )


class Page(html.parser.HTMLParser):
    """A page taken apart: its elements, words, and tables as rows of texts of cells. An element
    that is not closed where it should be is an error."""

    def __init__(self, path: Path):
        super().__init__()
        self.tables, self.open, self.found, self.words = [], [], [], []
        self.text = path.read_text(encoding="utf-8")
        self.feed(self.text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("th", "td"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)
        if {"th", "td"} & set(self.open):
            self.tables[-1][-1][-1] += data.replace("\xa0", "")

    def all(self, attribute: str) -> list[str]:
        return [attrs[attribute] for _, attrs in self.found if attribute in attrs]

    def tags(self) -> list[str]:
        return [tag for tag, _ in self.found]


def page_tables(path: Path) -> list[list[list[str]]]:
    return Page(path).tables


def markdown_tables(path: Path) -> list[list[list[str]]]:
    """The tables of a Markdown page, without the marks of bold."""
    text = path.read_text(encoding="utf-8").replace("**", "")
    grids = re.findall(r"(?:^\|.*\n)+", text, re.M)
    return [
        [
            [re.sub(r"\\(.)", r"\1", part.strip()) for part in re.split(r"(?<!\\)\|", line)[1:-1]]
            for line in grid.splitlines()
            if not line.startswith("|:--")
        ]
        for grid in grids
    ]


def latex_tables(path: Path) -> list[list[list[str]]]:
    """The grids of a LaTeX file as plain text."""
    text = path.read_text(encoding="utf-8")
    for old, new in ((r"$\pm$", "±"), (r"$^\dagger$", "†"), ("$-$", "−"), ("{[}", "[")):
        text = text.replace(old, new)
    text = re.sub(r"\$([<>|])\$", r"\1", text)
    text = re.sub(r"\\textbf\{([^}]*)\}", r"\1", text)
    text = re.sub(r"\{\\scriptsize ([^}]*)\}", r"\1", text)
    return [
        [
            [re.sub(r"\\(.)", r"\1", part).strip() for part in re.split(r"(?<!\\)&", line[:-2])]
            for line in body.splitlines()
            if line.endswith(r"\\")
        ]
        for body in re.findall(r"\\toprule(.*?)\\bottomrule", text, re.S)
    ]


def test_every_number_of_the_csv_files_can_be_recomputed_from_the_logits(evaluated, written):
    metrics = recomputed(evaluated)
    for row in rows(written / "scores.csv"):
        expected = metrics[row["system"], row["language"], int(row["seed"])]
        for name in ("accuracy", "macro_f1", "nll", "brier", "ece"):
            assert float(row[name]) == pytest.approx(getattr(expected, name), abs=1e-6)
    assert len(rows(written / "classes.csv")) == 3 * len(rows(written / "scores.csv"))
    for row in rows(written / "classes.csv"):
        of_all = metrics[row["system"], row["language"], int(row["seed"])].classes
        expected = of_all["abc".index(row["class_name"])]
        assert int(row["support"]) == expected.support
        assert int(row["predicted"]) == expected.predicted
        for name in ("precision", "recall", "f1"):
            assert float(row[name]) == pytest.approx(getattr(expected, name), abs=1e-6)
    for row in rows(written / "transfer.csv"):
        scores = by_seed(metrics, row["system"], row["language"])
        assert float(row["mean"]) == pytest.approx(scores.mean(), abs=1e-6)
        assert int(row["seeds"]) == len(scores)
        if len(scores) > 1:
            assert float(row["sd"]) == pytest.approx(scores.std(ddof=1), abs=1e-6)
        else:
            assert row["sd"] == ""
        assert float(row["low"]) <= float(row["mean"]) <= float(row["high"])
    for row in rows(written / "differences.csv"):
        gap = by_seed(metrics, row["system"], row["language"])
        gap = gap - by_seed(metrics, row["versus"], row["language"])
        assert float(row["difference"]) == pytest.approx(gap.mean(), abs=1e-6)


def test_wide_tables_show_the_numbers_of_the_csv_and_parentheses_where_not_significant(written):
    columns = [*LANGUAGES, MEAN, "both"]
    scores, pairs, singles, _ = page_tables(written / "transfer.html")
    mine = {(row["system"], row["language"]): row for row in rows(written / "transfer.csv")}

    def text(row: dict[str, str], value: str, sign: str = "") -> str:
        half = 50 * (float(row["high"]) - float(row["low"]))
        return f"{100 * float(row[value]):{sign}.1f} ± {half:.1f}".replace("-", "−")

    assert [line[0] for line in scores[1:]] == SYSTEMS
    for system, *cells in scores[1:]:
        assert cells[:6] == [text(mine[system, column], "mean") for column in columns]
        sd = mine[system, MEAN]["sd"]
        assert cells[6:] == ([f"{100 * float(sd):.1f}"] if sd else [])
    shown = {}
    for system, *cells in pairs[1:]:
        shown |= {(MEAN, system, versus): c for versus, c in zip(pairs[0][1:], cells, strict=True)}
    columns.remove(MEAN)
    for system, *cells in singles[1:]:
        shown |= {(key, system, "lt-sft"): c for key, c in zip(columns, cells, strict=True)}
    expected = {}
    for row in rows(written / "differences.csv"):
        cell = text(row, "difference", "+")
        key = row["language"], row["system"], row["versus"]
        expected[key] = cell if row["significant"] == "True" else f"({cell})"
    assert {key: cell for key, cell in shown.items() if cell} == expected
    page = (written / "transfer.md").read_text(encoding="utf-8")
    assert "Holm's correction for the 3 comparisons of this table" in page
    assert "Holm's correction for the 10 comparisons of this table" in page


def test_all_formats_show_the_same_cells_whatever_characters_they_have(evaluated, tmp_path):
    name = "A&B_100%|<b>$#{} [x](javascript:a)"
    changed = params(names={"ace": name})
    tables(changed, evaluated=evaluated, out=tmp_path / "transfer.csv")
    on_page = page_tables(tmp_path / "transfer.html")
    assert len(on_page) == 4
    assert on_page[0][0][2] == name
    assert markdown_tables(tmp_path / "transfer.md") == on_page
    assert latex_tables(tmp_path / "transfer.tex") == on_page


TEX = next((name for name in ("pdflatex", "lualatex", "tectonic") if shutil.which(name)), None)


@pytest.mark.skipif(TEX is None, reason="no TeX is installed")
def test_latex_compiles(evaluated, tmp_path):
    changed = params(names={"ace": r"A&B_100%|<b>$#{}~^\\"})
    tables(changed, evaluated=evaluated, out=tmp_path / "transfer.csv")
    text = "\\documentclass{article}\\usepackage{booktabs}\\begin{document}\n"
    text += (tmp_path / "transfer.tex").read_text(encoding="utf-8") + "\\end{document}\n"
    (tmp_path / "page.tex").write_text(text, encoding="utf-8")
    options = [] if TEX == "tectonic" else ["-interaction=nonstopmode", "-halt-on-error"]
    subprocess.run([TEX, *options, "page.tex"], cwd=tmp_path, check=True, capture_output=True)
    assert (tmp_path / "page.pdf").is_file()


def test_means_are_averages_resample_by_resample(evaluated):
    draws = draw(with_group(), load_evaluations(evaluated, with_group()))["mood"]
    metrics = recomputed(evaluated)
    for (system, column), scores in draws.items():
        assert scores[:, 0] == pytest.approx(by_seed(metrics, system, column), abs=1e-12)
    for system, (column, members) in product(SYSTEMS, MEMBERS.items()):
        average = sum(draws[system, key] for key in members) / 2
        assert np.allclose(draws[system, column], average, atol=1e-12)


def test_intervals_of_parallel_languages_do_not_shrink_in_the_mean(tmp_path):
    """Two languages with the same predictions hold no more than one: were items drawn for each
    language apart, the interval of their mean would be narrower by √2."""
    paths = [save_evaluation(tmp_path, "lt-sft", "mood", "ace", 0)]
    task = {"metric": "accuracy", "source": "eng", "languages": ["ace", "ban"]}
    comparison = Comparison(systems=["lt-sft"], tasks={"mood": task})
    evaluations = load_evaluations(paths, comparison)
    twin = replace(evaluations[0], language="ban")
    draws = draw(comparison, [*evaluations, twin])["mood"]
    one, mean = (interval(draws["lt-sft", key]) for key in ("ace", MEAN))
    assert mean == pytest.approx(one)


def test_differences_are_paired(evaluated):
    comparison = with_group()
    draws = draw(comparison, load_evaluations(evaluated, comparison))
    found = {(d.language, d.system, d.versus): d for d in differences(comparison, draws)}
    gap = draws["mood"]["deft-x", "ace"] - draws["mood"]["lt-sft", "ace"]
    assert found["ace", "deft-x", "lt-sft"][4:8] == (gap[:, 0].mean(), *interval(gap), p_value(gap))


def test_families_are_pairs_on_the_mean_and_the_reference_elsewhere(evaluated):
    comparison = with_group()
    found = differences(comparison, draw(comparison, load_evaluations(evaluated, comparison)))
    pairs = [d for d in found if d.language == MEAN]
    singles = [d for d in found if d.language != MEAN]
    assert {(d.system, d.versus) for d in pairs} == {
        ("lt-sft", "zero-shot"),
        ("deft-x", "zero-shot"),
        ("deft-x", "lt-sft"),
    }
    assert {(d.language, d.system, d.versus) for d in singles} == {
        (column, system, "lt-sft")
        for column in (*LANGUAGES, "both")
        for system in ("zero-shot", "deft-x")
    }
    for family in (pairs, singles):
        assert {d.comparisons for d in family} == {len(family)}
        assert [d.p_corrected for d in family] == holm([d.p for d in family])
        assert all(d.significant == (d.p_corrected < 0.05) for d in family)
    assert any(d.significant for d in found) and not all(d.significant for d in found)


def test_parentheses_follow_the_corrected_p_value_not_the_interval():
    gap = Difference("mood", MEAN, "b", "a", 0.1, 0.02, 0.18, 0.02, 0.06, 3, False)
    comparison = params(systems=["a", "b"])
    for significant in (False, True):
        gaps = [
            gap._replace(language=key, significant=significant)
            for key in comparison.columns("mood")
        ]
        tables = difference_tables(comparison, "mood", gaps, 1)
        assert len(tables) == 2
        for table in tables:
            assert table.cells.iloc[0, 0] == Cell("+10.0", "± 8.0", doubtful=not significant)


def test_captions_say_what_the_intervals_are_over(evaluated, written):
    text = (written / "transfer.md").read_text(encoding="utf-8")
    several = any("seed1" in path.name for path in evaluated)
    assert ("interval over items and seeds" in text) == several
    assert ("do not include variation between training runs" in text) != several


def test_reference_is_lt_sft_or_the_first_or_what_is_said():
    assert params().reference_system == "lt-sft"
    assert params(systems=["zero-shot", "deft-x"]).reference_system == "zero-shot"
    assert params(reference="deft-x").reference_system == "deft-x"
    with pytest.raises(ValueError, match="reference: mad-x is not among systems"):
        params(reference="mad-x")


def test_group_is_shown_where_the_task_has_all_its_languages(written):
    assert markdown_tables(written / "transfer.md")[0][0][1:7] == [
        "eng (source)",
        "Acehnese",
        "ban",
        "Nahuatl †",
        MEAN,
        "both",
    ]
    assert "both: over Acehnese, Nahuatl" in (written / "transfer.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ({"ace": ["ban"]}, "ace is the name of another column"),
        ({MEAN: ["ban"]}, "mean is the name of another column"),
        ({"few": []}, "few has no language"),
    ],
)
def test_group_that_would_hide_a_column_is_refused(groups, message):
    with pytest.raises(ValueError, match=message):
        params(groups=groups)


def test_language_without_text_is_marked_and_no_other(evaluated, written, tmp_path):
    for name in ("transfer.md", "transfer.html"):
        text = (written / name).read_text(encoding="utf-8")
        assert "Nahuatl †" in text
        assert "† no text: evaluated without a language vector" in text
    assert r"Nahuatl $^\dagger$" in (written / "transfer.tex").read_text(encoding="utf-8")
    has_text = {row["language"]: row["has_text"] for row in rows(written / "transfer.csv")}
    assert has_text == {**dict.fromkeys([*LANGUAGES, MEAN, "both"], "True"), "nah": "False"}
    tables(params(without_text=[]), evaluated=evaluated, out=tmp_path / "transfer.csv")
    assert "†" not in (tmp_path / "transfer.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(("sources", "averaged"), [([], ["ace", "ban"]), (["eng", "ban"], ["ace"])])
def test_sources_are_marked_and_left_out_of_the_mean(sources, averaged):
    table = {"metric": "macro_f1", "source": "eng", "sources": sources, "languages": LANGUAGES}
    comparison = params(tasks={"mood": table})
    assert comparison.averaged("mood") == averaged
    for language in {"eng", *sources}:
        assert comparison.heading("mood", language) == f"{language} (source)"


def test_without_targets_there_is_no_mean(evaluated, tmp_path):
    task = {"metric": "accuracy", "source": "eng", "languages": ["eng"]}
    tables(params(tasks={"mood": task}), evaluated=evaluated, out=tmp_path / "transfer.csv")
    assert markdown_tables(tmp_path / "transfer.md")[0][0] == ["", "eng (source)"]
    assert {row["language"] for row in rows(tmp_path / "transfer.csv")} == {"eng"}


def bold(comparison: Comparison, evaluated: list[Path], gaps: list[Difference] | None = None):
    """(system, column) of the bold cells."""
    draws = draw(comparison, load_evaluations(evaluated, comparison))
    frame = tidy(comparison, transfer(comparison, draws), [])
    gaps = differences(comparison, draws) if gaps is None else gaps
    table = score_table(comparison, "mood", frame, gaps)
    return {
        (system, column)
        for system, cells in table.cells.iterrows()
        for column, cell in zip(comparison.columns("mood"), cells, strict=False)
        if cell.bold
    }


def test_best_mean_is_bold_only_if_it_is_significantly_above_every_other(evaluated):
    assert bold(params(), evaluated) == set()
    for systems in (["zero-shot", "deft-x"], ["deft-x", "zero-shot"]):
        assert bold(params(systems=systems), evaluated) == {("deft-x", MEAN)}
    assert bold(params(systems=["deft-x"]), evaluated) == set()
    gaps = [
        Difference("mood", MEAN, system, versus, gap, gap, gap, 0.001, 0.003, 3, True)
        for system, versus, gap in [
            ("lt-sft", "zero-shot", 0.2),
            ("deft-x", "zero-shot", 0.1),
            ("deft-x", "lt-sft", -0.1),
        ]
    ]
    assert bold(params(), evaluated, gaps) == {("lt-sft", MEAN)}
    gaps[-1] = gaps[-1]._replace(significant=False)
    assert bold(params(), evaluated, gaps) == set()


def test_trained_parameters_stand_in_the_tables_and_are_blank_where_unknown(tmp_path):
    counts = {"task": 14_155_776, "head": 592_899}
    paths = []
    for system, language in product(["zero-shot", "lt-sft"], LANGUAGES):
        known = {"trained": {**counts, "language": 7_667_712 * (language != "nah")}}
        given = known if system == "lt-sft" else {}
        paths.append(save_evaluation(tmp_path, system, "mood", language, 0, **given))
    comparison = params(systems=["zero-shot", "lt-sft"])
    tables(comparison, evaluated=paths, out=tmp_path / "transfer.csv")
    found = {
        (row["system"], row["language"]): [
            row[f"trained_{name}"] for name in ("task", "language", "head")
        ]
        for row in rows(tmp_path / "transfer.csv")
    }
    assert found["lt-sft", MEAN] == ["14155776", "7667712", "592899"]
    assert found["lt-sft", "nah"] == ["14155776", "0", "592899"]
    assert found["zero-shot", "ace"] == ["", "", ""]
    scores = page_tables(tmp_path / "transfer.html")[0]
    assert scores[0][-2:] == ["trained: task / language", "head"]
    assert [line[-2:] for line in scores[1:]] == [["", ""], ["14.2M / 7.67M", "593k"]]


def test_folder_stands_for_what_the_comparison_asks_for(tmp_path):
    save_evaluations(tmp_path, seeds=2)
    folder = tmp_path / "evaluate"
    few = params(systems=["lt-sft", "deft-x"], seeds=[1])
    found = {e.key for e in load_evaluations([folder], few)}
    assert found == {
        ("mood", system, language, 1)
        for system, language in product(["lt-sft", "deft-x"], LANGUAGES)
    }
    assert {e.seed for e in load_evaluations([folder], params())} == {0, 1}
    files = sorted(folder.rglob("*.safetensors"))
    for name, paths in (("files", files), ("folder", [folder])):
        tables(params(), evaluated=paths, out=tmp_path / name / "transfer.csv")
    for name in ("transfer.csv", "differences.csv"):
        files, folder = ((tmp_path / way / name).read_bytes() for way in ("files", "folder"))
        assert files == folder


def test_folder_ignores_what_is_not_asked_for_even_if_it_is_broken(tmp_path):
    save_evaluation(tmp_path, "lt-sft", "mood", "ace", 0)
    save_evaluation(tmp_path, "deft-x", "mood", "ace", 0).write_bytes(b"broken")
    found = load_evaluations([tmp_path / "evaluate"], params(systems=["lt-sft"]))
    assert [e.key for e in found] == [("mood", "lt-sft", "ace", 0)]


def test_missing_evaluation_is_named(evaluated, tmp_path):
    save_evaluation(tmp_path, "lt-sft", "mood", "eng", 0)
    left = [path for path in evaluated if "lt-sft/mood/ban/seed0" not in str(path)]
    for comparison, paths, missing in (
        (params(), left, "ban with seed 0"),
        (params(systems=["lt-sft"], seeds=[0, 1]), [tmp_path / "evaluate"], "eng with seed 1"),
    ):
        with pytest.raises(ValueError, match=f"no evaluation of lt-sft on mood in {missing}"):
            tables(comparison, evaluated=paths, out=tmp_path / "transfer.csv")
        assert not (tmp_path / "transfer.csv").exists()


def test_order_is_that_of_the_config(evaluated, tmp_path):
    tables(params(systems=SYSTEMS[::-1]), evaluated=evaluated, out=tmp_path / "transfer.csv")
    scores = markdown_tables(tmp_path / "transfer.md")[0]
    assert [line[0] for line in scores[1:]] == SYSTEMS[::-1]


def test_same_inputs_same_bytes(evaluated, written, tmp_path):
    again = tmp_path / "again"
    tables(with_group(), evaluated=evaluated, out=again / "transfer.csv")
    assert sorted(path.name for path in again.iterdir()) == sorted(FILES)
    for name in FILES:
        assert (again / name).read_bytes() == (written / name).read_bytes()


def test_page_is_well_formed_and_needs_no_other_file(written):
    page = Page(written / "transfer.html")
    assert page.all("src") == page.all("href") == []


def test_wide_table_is_split_by_columns_in_latex_and_loses_nothing(tmp_path):
    columns = [f"language {i}" for i in range(22)]
    systems = ["lt-sft", "rand-sft-no-embeddings"]
    cells = [[Cell(f"{i}.{n}", "± 1.0") for i in range(22)] for n in range(2)]
    text = latex(Table("wide", "wide", "What it says.", pd.DataFrame(cells, systems, columns)))
    (tmp_path / "wide.tex").write_text(text, encoding="utf-8")
    parts = latex_tables(tmp_path / "wide.tex")
    assert len(parts) > 1
    joined = [[cell for line in lines for cell in line[1:]] for lines in zip(*parts, strict=True)]
    assert joined == [columns, *([f"{i}.{n} ± 1.0" for i in range(22)] for n in range(2))]
    for part in parts:
        assert [line[0] for line in part] == ["", *systems]
        widths = [max(map(len, column)) for column in zip(*part, strict=True)]
        assert sum(widths) <= PAGE
    assert text.count("What it says.") == text.count(r"\label{tab:wide}") == 1


def test_second_evaluation_and_artefact_of_another_stage_are_refused(evaluated, tmp_path):
    with pytest.raises(ArtefactError, match="second evaluation of mood/zero-shot/eng/0"):
        load_evaluations([*evaluated, evaluated[0]], params())
    save_tensors(tmp_path / "mask.safetensors", {}, stage="mask")
    with pytest.raises(ArtefactError, match="made by mask, expected evaluate"):
        load_evaluations([tmp_path / "mask.safetensors"], params())
