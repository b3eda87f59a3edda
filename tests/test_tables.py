"""The laws of the tables, checked on evaluations made here."""

import csv
import html.parser
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch

from deftx.artefact import ArtefactError
from deftx.metrics import accuracy_and_f1
from deftx.results import MEAN, Comparison, differences, draw, load_evaluations, transfer
from deftx.stages.tables import Params, score_table, tables
from deftx.statistics import interval
from deftx.tensor_file import TensorFile, save_tensors

LANGUAGES = ["eng", "ace", "ban", "nah"]
SYSTEMS = ["zero-shot", "lt-sft", "deft-x"]
SKILL = {"zero-shot": 0.2, "lt-sft": 0.5, "deft-x": 0.52}
FILES = ["scores.csv", "differences.csv", "transfer.csv"]
FILES += ["transfer.md", "transfer.tex", "transfer.html"]


def save_evaluation(
    folder: Path, system: str, task: str, language: str, seed: int, items: int = 120
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
    )
    return out


def params(**changes: object) -> Params:
    task = {"metric": "macro_f1", "source": "eng", "languages": LANGUAGES}
    names = {"ace": "Acehnese", "nah": "Nahuatl"}
    settings = {"systems": SYSTEMS, "tasks": {"mood": task}, "names": names}
    return Params.model_validate({**settings, "without_text": ["nah"], **changes})


@pytest.fixture(scope="module", params=[1, 3], ids=["one seed", "three seeds"])
def evaluated(request, tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("results")
    return [
        save_evaluation(folder, system, "mood", language, seed)
        for system, language, seed in product(SYSTEMS, LANGUAGES, range(request.param))
    ]


@pytest.fixture
def written(evaluated, tmp_path) -> Path:
    tables(params(), evaluated=evaluated, out=tmp_path / "transfer.csv")
    return tmp_path


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def header(path: Path) -> list[str]:
    line = path.read_text(encoding="utf-8").splitlines()[2]
    return [part.strip() for part in line.strip("|").split("|")]


def recomputed(paths: list[Path]) -> dict[tuple[str, str, int], dict[str, float]]:
    """Metrics from the stored logits, by the code that `evaluate` itself uses."""
    found = {}
    for path in paths:
        file = TensorFile(path)
        key = tuple(file.provenance[name] for name in ("system", "language", "seed"))
        found[key] = accuracy_and_f1(file["logits"].numpy(), file["labels"].numpy())
    return found


def test_every_number_of_the_table_can_be_recomputed_from_the_logits(evaluated, written):
    metrics = recomputed(evaluated)
    seeds = sorted({seed for _, _, seed in metrics})
    for row in rows(written / "scores.csv"):
        expected = metrics[row["system"], row["language"], int(row["seed"])]
        assert float(row["accuracy"]) == pytest.approx(expected["accuracy"], abs=1e-6)
        assert float(row["macro_f1"]) == pytest.approx(expected["macro_f1"], abs=1e-6)
    for row in rows(written / "transfer.csv"):
        languages = ["ace", "ban"] if row["language"] == MEAN else [row["language"]]
        per_seed = [
            np.mean([metrics[row["system"], key, seed]["macro_f1"] for key in languages])
            for seed in seeds
        ]
        assert float(row["mean"]) == pytest.approx(np.mean(per_seed), abs=1e-6)
        assert int(row["seeds"]) == len(seeds)
        if len(seeds) > 1:
            assert float(row["sd"]) == pytest.approx(np.std(per_seed, ddof=1), abs=1e-6)
        else:
            assert row["sd"] == ""
        assert float(row["low"]) <= float(row["mean"]) <= float(row["high"])


def test_wide_tables_say_what_the_csv_says(written):
    markdown = (written / "transfer.md").read_text(encoding="utf-8")
    latex = (written / "transfer.tex").read_text(encoding="utf-8")
    page = (written / "transfer.html").read_text(encoding="utf-8")
    for row in rows(written / "transfer.csv"):
        mean, low, high = (100 * float(row[name]) for name in ("mean", "low", "high"))
        number, half = f"{mean:.1f}", f"{(high - low) / 2:.1f}"
        plain = markdown.replace("*", "")
        assert f"{number} ± {half}" in plain
        assert rf"{number}\,{{\scriptsize $\pm$ {half}}}" in latex.replace(r"\textbf", "")
        assert f"{number} <small>± {half}</small>" in page.replace("<b>", "").replace("</b>", "")


def test_interval_of_mean_uses_the_same_items_in_every_language(evaluated):
    comparison = params()
    draws = draw(comparison, load_evaluations(evaluated))["mood"]
    for system in SYSTEMS:
        average = (draws[system, "ace"] + draws[system, "ban"]) / 2
        assert np.allclose(draws[system, MEAN], average, atol=1e-12)


def test_intervals_of_parallel_languages_do_not_shrink_in_the_mean(tmp_path):
    """Two languages with the same predictions hold no more than one: were items drawn for each
    language apart, the interval of their mean would be narrower by √2."""
    paths = [save_evaluation(tmp_path, "lt-sft", "mood", "ace", 0)]
    evaluations = load_evaluations(paths)
    twin = type(evaluations[0])(**{**vars(evaluations[0]), "language": "ban"})
    task = {"metric": "accuracy", "source": "eng", "languages": ["ace", "ban"]}
    comparison = Comparison(systems=["lt-sft"], tasks={"mood": task})
    draws = draw(comparison, [*evaluations, twin])["mood"]
    one, mean = (interval(draws["lt-sft", key].mean(0)) for key in ("ace", MEAN))
    assert mean == pytest.approx(one)


def test_differences_are_paired(evaluated):
    comparison = params()
    draws = draw(comparison, load_evaluations(evaluated))
    found = {(d.language, d.system, d.versus): d for d in differences(comparison, draws)}
    assert len(found) == 5 * 3
    gap = draws["mood"]["deft-x", "ace"] - draws["mood"]["lt-sft", "ace"]
    assert found["ace", "deft-x", "lt-sft"][4:] == (gap[:, 0].mean(), *interval(gap.mean(0)))


def test_language_without_text_is_marked(written):
    columns = header(written / "transfer.md")
    assert columns[:6] == ["", "eng (source)", "Acehnese", "ban", "Nahuatl †", MEAN]
    for name in ("transfer.md", "transfer.html"):
        text = (written / name).read_text(encoding="utf-8")
        assert "Nahuatl †" in text
        assert "† no text: evaluated without a language vector" in text
    assert r"Nahuatl $^\dagger$" in (written / "transfer.tex").read_text(encoding="utf-8")
    has_text = {row["language"]: row["has_text"] for row in rows(written / "transfer.csv")}
    assert has_text == {**dict.fromkeys([*LANGUAGES, MEAN], "True"), "nah": "False"}


def test_no_mark_where_every_language_has_text(evaluated, tmp_path):
    tables(params(without_text=[]), evaluated=evaluated, out=tmp_path / "transfer.csv")
    assert "†" not in (tmp_path / "transfer.md").read_text(encoding="utf-8")


def test_source_is_marked_and_left_out_of_the_mean():
    comparison = params()
    assert comparison.averaged("mood") == ["ace", "ban"]
    assert comparison.heading("mood", "eng") == "eng (source)"


def test_without_targets_there_is_no_mean(evaluated, tmp_path):
    task = {"metric": "accuracy", "source": "eng", "languages": ["eng"]}
    tables(params(tasks={"mood": task}), evaluated=evaluated, out=tmp_path / "transfer.csv")
    assert header(tmp_path / "transfer.md") == ["", "eng (source)"]
    assert {row["language"] for row in rows(tmp_path / "transfer.csv")} == {"eng"}


def test_best_is_bold_only_if_its_interval_is_disjoint_from_all_others(evaluated):
    comparison = params()
    means = transfer(comparison, draw(comparison, load_evaluations(evaluated)))
    close = score_table(comparison, "mood", means)
    assert not any(cell.bold for _, cells in close.rows for cell in cells)
    two = params(systems=["zero-shot", "deft-x"])
    means = transfer(two, draw(two, load_evaluations(evaluated)))
    bold = {
        (system, column): cell.bold
        for system, cells in score_table(two, "mood", means).rows
        for column, cell in zip(two.columns("mood"), cells, strict=False)
    }
    assert bold["deft-x", MEAN]
    assert not bold["zero-shot", MEAN]


def test_order_is_that_of_the_config(evaluated, tmp_path):
    tables(params(systems=SYSTEMS[::-1]), evaluated=evaluated, out=tmp_path / "transfer.csv")
    lines = (tmp_path / "transfer.md").read_text(encoding="utf-8").splitlines()
    assert [line.split("|")[1].strip() for line in lines[4:7]] == SYSTEMS[::-1]


def test_same_inputs_same_bytes(evaluated, written, tmp_path):
    again = tmp_path / "again"
    tables(params(), evaluated=evaluated, out=again / "transfer.csv")
    assert sorted(path.name for path in again.iterdir()) == sorted(FILES)
    for name in FILES:
        assert (again / name).read_bytes() == (written / name).read_bytes()


def test_page_is_well_formed_and_needs_no_other_file(written):
    class Reader(html.parser.HTMLParser):
        def __init__(self):
            super().__init__()
            self.open, self.links = [], []

        def handle_starttag(self, tag, attrs):
            self.links += [value for name, value in attrs if name in ("src", "href")]
            if tag != "meta":
                self.open.append(tag)

        def handle_endtag(self, tag):
            assert self.open.pop() == tag

    reader = Reader()
    reader.feed((written / "transfer.html").read_text(encoding="utf-8"))
    assert reader.open == []
    assert reader.links == []


def test_latex_escapes_what_is_special_to_it(evaluated, tmp_path):
    changed = params(names={"ace": "A&B_100%"})
    tables(changed, evaluated=evaluated, out=tmp_path / "transfer.csv")
    latex = (tmp_path / "transfer.tex").read_text(encoding="utf-8")
    assert r"A\&B\_100\%" in latex
    rules = ("toprule", "midrule", "bottomrule", "begin{tabular}", "end{tabular}")
    assert {latex.count("\\" + rule) for rule in rules} == {2}


def test_missing_evaluation_is_named(evaluated, tmp_path):
    left = [path for path in evaluated if "lt-sft/mood/ban/seed0" not in str(path)]
    with pytest.raises(ValueError, match="no evaluation of lt-sft on mood in ban with seed 0"):
        tables(params(), evaluated=left, out=tmp_path / "transfer.csv")
    assert not (tmp_path / "transfer.csv").exists()


def test_second_evaluation_of_the_same_is_refused(evaluated, tmp_path):
    with pytest.raises(ArtefactError, match="second evaluation of mood/zero-shot/eng/0"):
        tables(params(), evaluated=[*evaluated, evaluated[0]], out=tmp_path / "transfer.csv")


def test_artefact_of_another_stage_is_refused(tmp_path):
    save_tensors(tmp_path / "mask.safetensors", {}, stage="mask")
    with pytest.raises(ArtefactError, match="made by mask, expected evaluate"):
        load_evaluations([tmp_path / "mask.safetensors"])
