"""The laws of published numbers: only equal things are compared, and the files have no slips."""

import csv
from pathlib import Path

import pytest
from conftest import PROJECT
from test_tables import LANGUAGES, page_tables, params, rows, save_evaluations

from deftx.report.published import Published, load_published
from deftx.stages.tables.run import tables
from deftx.store.errors import ArtefactError

FILES = sorted((PROJECT / "docs/results/published").glob("*.csv"))

ROW = {
    "source": "A paper",
    "place": "Table 1",
    "base_model": "large",
    "dataset": "moods",
    "labelled": "one",
    "system": "lt-sft",
    "language": "ace",
    "languages": "",
    "metric": "macro_f1",
    "value": "0.5",
    "note": "as printed",
}


def save(path: Path, *changes: dict[str, str]) -> Path:
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ROW)
        writer.writeheader()
        writer.writerows({**ROW, **change} for change in changes)
    return path


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory) -> list[Path]:
    return save_evaluations(tmp_path_factory.mktemp("results"))


def on_moods(**changes: object):
    table = {"metric": "macro_f1", "source": "eng", "languages": LANGUAGES, "dataset": "moods"}
    task = {**table, **changes}
    return params(tasks={"mood": task}, groups={"both": ["ace", "ban"]}, base_name="small")


def test_difference_is_ours_minus_the_published_one(evaluated, tmp_path):
    group = {"language": "both", "languages": "ban ace", "value": "0.9"}
    published = save(tmp_path / "paper.csv", {}, group)
    tables(on_moods(), evaluated=evaluated, published=[published], out=tmp_path / "transfer.csv")
    ours = {(row["system"], row["language"]): row for row in rows(tmp_path / "transfer.csv")}
    found = rows(tmp_path / "published.csv")
    assert [(row["language"], float(row["published"])) for row in found] == [
        ("ace", 0.5),
        ("both", 0.9),
    ]
    for row in found:
        mine = ours["lt-sft", row["language"]]
        assert (row["ours"], row["low"], row["high"]) == (mine["mean"], mine["low"], mine["high"])
        gap = float(mine["mean"]) - float(row["published"])
        assert float(row["difference"]) == pytest.approx(gap, abs=2e-6)
        inside = float(mine["low"]) <= float(row["published"]) <= float(mine["high"])
        assert row["inside_interval"] == str(inside)
        assert (row["published_base"], row["our_base"]) == ("large", "small")
        assert (row["source"], row["place"], row["note"]) == ("A paper", "Table 1", "as printed")
    shown = page_tables(tmp_path / "transfer.html")[-2]
    assert shown[0] == ["", "published in", "base model", "Acehnese", "both"]
    gaps = [f"{100 * float(row['difference']):+.1f}".replace("-", "−") for row in found]
    assert shown[1][:3] == ["lt-sft", "A paper, Table 1", "large"]
    assert [cell.strip("()") for cell in shown[1][3:]] == [f"50.0 {gaps[0]}", f"90.0 {gaps[1]}"]
    assert [cell.startswith("(") for cell in shown[1][3:]] == [
        row["inside_interval"] == "True" for row in found
    ]
    text = (tmp_path / "transfer.md").read_text(encoding="utf-8")
    assert "Our base model: small." in text


@pytest.mark.parametrize(
    ("change", "ours"),
    [
        ({"dataset": "others"}, {}),
        ({"labelled": "several"}, {}),
        ({"system": "mad-x"}, {}),
        ({"language": "sun"}, {}),
        ({"metric": "accuracy"}, {}),
        ({}, {"dataset": ""}),
    ],
)
def test_only_what_is_the_same_is_compared(evaluated, tmp_path, change, ours):
    published = save(tmp_path / "paper.csv", change)
    out = tmp_path / "transfer.csv"
    tables(on_moods(**ours), evaluated=evaluated, published=[published], out=out)
    assert rows(tmp_path / "published.csv") == []
    text = (tmp_path / "transfer.md").read_text(encoding="utf-8")
    assert "published" not in text


def test_several_labelled_languages_are_compared_with_several(evaluated, tmp_path):
    published = save(tmp_path / "paper.csv", {"value": "0.1"}, {"labelled": "several"})
    comparison = on_moods(sources=["eng", "ban"])
    tables(comparison, evaluated=evaluated, published=[published], out=tmp_path / "transfer.csv")
    assert [float(row["published"]) for row in rows(tmp_path / "published.csv")] == [0.5]


def test_group_of_the_same_name_with_other_languages_is_refused(evaluated, tmp_path):
    published = save(tmp_path / "paper.csv", {"language": "both", "languages": "ace nah"})
    with pytest.raises(ValueError, match=r"both has \['ace', 'ban'\], but in A paper, Table 1"):
        tables(on_moods(), evaluated=evaluated, published=[published], out=tmp_path / "t.csv")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"value": "58.1"}, r"paper.csv, line 3: value: .* less than or equal to 1; found '58.1'"),
        ({"metric": "f1"}, r"paper.csv, line 3: metric: "),
        ({"system": ""}, r"paper.csv, line 3: system: "),
    ],
)
def test_wrong_row_is_named(tmp_path, change, message):
    with pytest.raises(ArtefactError, match=message):
        load_published([save(tmp_path / "paper.csv", {}, change)])


def test_missing_file_and_missing_column_are_named(tmp_path):
    with pytest.raises(ArtefactError, match=r"absent.csv: No such file"):
        load_published([tmp_path / "absent.csv"])
    (tmp_path / "paper.csv").write_text("source,place\nA paper,Table 1\n", encoding="utf-8")
    with pytest.raises(ArtefactError, match=r"line 2: base_model: Field required"):
        load_published([tmp_path / "paper.csv"])


# The files of the project


@pytest.fixture(scope="module")
def published() -> list[Published]:
    return load_published(FILES)


def test_no_number_is_published_twice(published):
    keys = [
        (row.source, row.place, row.base_model, row.dataset, row.labelled, row.system, row.language)
        for row in published
    ]
    assert len(keys) == len(set(keys)) > 100


def test_published_means_are_those_of_their_languages(published):
    """A slip of the pen in one of the numbers would show; BitFit's repeated ones do not."""
    checked = 0
    for mean in published:
        single = {
            row.language: row.value
            for row in published
            if (row.source, row.place, row.system, row.labelled, row.dataset)
            == (mean.source, mean.place, mean.system, mean.labelled, mean.dataset)
        }
        members = mean.languages.split()
        if members and set(members) <= set(single):
            average = sum(single[key] for key in members) / len(members)
            assert mean.value == pytest.approx(average, abs=0.0005), mean
            checked += 1
    assert checked == 5 + 5 + 1 + 2 + 4 + 5


def test_groups_are_the_same_everywhere(published):
    found: dict[str, set[str]] = {}
    for row in published:
        found.setdefault(row.language, set()).add(row.languages)
    assert all(len(languages) == 1 for languages in found.values())
    assert {name for name, languages in found.items() if languages != {""}} == {
        "nusax-5",
        "nusax-7",
        "americasnli-5",
        "americasnli-10",
    }


def test_repeated_numbers_of_bitfit_are_marked(published):
    numbers = [row for row in published if row.system == "bitfit" and not row.languages]
    for row in numbers:
        repeated = sum(other.value == row.value for other in numbers) > 1
        assert ("probably a copying error" in row.note) == repeated
