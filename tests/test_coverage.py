"""Coverage: counts made by hand and by a plain loop, and the stage."""

import csv
import logging
from pathlib import Path

import pandas as pd
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from deftx.models.load import load_tokenizer
from deftx.report import coverage as library
from deftx.report.coverage import count, warnings
from deftx.stages.coverage.run import Params, coverage
from deftx.store.errors import ArtefactError
from deftx.store.items import write_items


@pytest.fixture(scope="module")
def tokenizer():
    """Knows `ba`, `do` and `doba` (as `do` and `ba`), and nothing else."""
    vocabulary = {"[UNK]": 0, "ba": 1, "do": 2, "##ba": 3}
    plain = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    plain.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=plain, unk_token="[UNK]")


@pytest.mark.parametrize("at_once", [1, 10_000])
@pytest.mark.parametrize(
    ("items", "expected"),
    [
        # ba, do ##ba; [UNK], ba
        ([{"text": "ba doba"}, {"text": " xyz\tba\n"}, {"text": ""}], (3, 4, 11, 5, 1)),
        ([{"text": "ba", "text_pair": "do ba"}], (1, 3, 6, 3, 0)),
        ([{"text": "  "}], (1, 0, 0, 0, 0)),
    ],
)
def test_counts_are_those_made_by_hand(tokenizer, at_once, items, expected, monkeypatch):
    monkeypatch.setattr(library, "AT_ONCE", at_once)
    number, words, characters, pieces, unknown = expected
    ratios = (pieces / words, unknown / pieces, characters / pieces) if words else (None,) * 3
    assert tuple(count(items, tokenizer).values()) == (number, words, pieces, unknown, *ratios)


def save_items(folder: Path, language: str, split: str, texts: list[str], **more) -> Path:
    out = folder / language / f"{split}.parquet"
    items = [{"id": str(i), "text": text, **more} for i, text in enumerate(texts)]
    write_items(out, items, stage="data", dataset="some", language=language, split=split)
    return out


def test_the_table_has_a_row_for_each_input_in_whatever_order(base, tmp_path):
    texts = {"ind": ["baba dodo", "le li"], "ace": ["xx qq", "ba"]}
    items = [save_items(tmp_path, key, "train", lines) for key, lines in texts.items()]
    items.append(save_items(tmp_path, "ace", "test", ["ba", ""], label="good"))
    settings = Params(sources=["ind"])
    coverage(settings, base=base.folder, data=items, out=tmp_path / "coverage.csv")
    coverage(settings, base=base.folder, data=items[::-1], out=tmp_path / "again.csv")
    assert (tmp_path / "again.csv").read_bytes() == (tmp_path / "coverage.csv").read_bytes()
    with open(tmp_path / "coverage.csv", encoding="utf-8", newline="") as file:
        rows = {(row["language"], row["split"]): row for row in csv.DictReader(file)}
    assert list(rows) == [("ace", "test"), ("ace", "train"), ("ind", "train")]
    assert [row["labelled"] for row in rows.values()] == ["True", "False", "False"]
    tokenize = load_tokenizer(base).tokenize
    for language, lines in texts.items():
        row = rows[language, "train"]
        pieces = sum(len(tokenize(line)) for line in lines)
        words = sum(len(line.split()) for line in lines)
        assert (int(row["items"]), int(row["words"])) == (2, words)
        assert int(row["pieces"]) == pieces
        assert float(row["pieces_per_word"]) == pytest.approx(pieces / words, abs=1e-6)


def test_what_is_cut_windowed_or_has_no_piece_is_counted_for_the_data_of_tasks(base, tmp_path):
    out = tmp_path / "ace/test.parquet"
    words = [
        {"id": "0", "words": ["ba be", "do"], "tags": ["X", "Y"]},
        {"id": "1", "words": ["ba"] * 20, "tags": ["X"] * 20},
        {"id": "2", "words": ["ba" * 20, ""], "tags": ["X", "Y"]},
    ]
    write_items(out, words, stage="data", dataset="tags", language="ace", split="test")
    text = save_items(tmp_path, "ind", "train", ["ba be do"])
    long = tmp_path / "ind/test.parquet"
    items = [{"id": "0", "text": "ba " * n, "label": "x"} for n in (1, 6, 7, 30)]
    write_items(long, items, stage="data", dataset="topics", language="ind", split="test")
    params = Params(sources=["ind"], lengths={"tags": 8, "topics": 8})
    coverage(params, base=base.folder, data=[out, text, long], out=tmp_path / "c.csv")
    rows = pd.read_csv(tmp_path / "c.csv", dtype=str, keep_default_na=False)
    assert rows["dataset"].tolist() == ["tags", "some", "topics"]
    assert rows["sentences_in_windows"].tolist() == ["2", "", ""]
    assert rows["words_without_piece"].tolist() == ["1", "", ""]
    assert rows["words_cut"].tolist() == ["1", "", ""]
    tokenizer = load_tokenizer(base)
    longer = sum(len(tokenizer(item["text"])["input_ids"]) > 8 for item in items)
    assert rows["items_cut"].tolist() == ["", "", str(longer)] and 0 < longer < 4
    assert rows["words"].tolist() == ["24", "3", "44"]
    assert rows["labelled"].tolist() == ["True", "False", "True"]


@pytest.mark.parametrize(
    ("words", "pieces", "unknown", "said"),
    [
        (100, 300, 0, None),
        (100, 301, 0, "3.0 pieces per word (source: 1.5)"),
        (100, 200, 2, None),
        (100, 200, 3, "1.5% of the pieces are unknown to the tokenizer (source: 0.0%)"),
        (0, 0, 0, None),
    ],
)
def test_a_language_covered_far_worse_than_the_source_gets_a_warning(words, pieces, unknown, said):
    columns = ["language", "words", "pieces", "unknown"]
    mine = [("ace", words, pieces, 0), ("ace", 0, 0, unknown)]  # all its texts together
    frame = pd.DataFrame([("ind", 100, 150, 0), *mine], columns=columns)
    found = warnings(frame, ["ind"], {"ace": "Acehnese"})
    assert [text.startswith("Acehnese: ") and said in text for text in found] == [True] * bool(said)
    assert warnings(frame, ["eng"], {}) == []


def test_warnings_are_logged(base, tmp_path, caplog):
    items = [
        save_items(tmp_path, "ind", "train", ["baba"]),
        save_items(tmp_path, "ace", "train", ["☃ ☃"]),
    ]
    with caplog.at_level(logging.WARNING):
        coverage(Params(sources=["ind"]), base=base.folder, data=items, out=tmp_path / "c.csv")
    assert any(record.message.startswith("ace: ") for record in caplog.records)


def test_an_input_that_is_not_text_is_refused(base, tmp_path):
    path = tmp_path / "x.parquet"
    write_items(path, [{"id": "0", "text": "ba"}], stage="tables")
    with pytest.raises(ArtefactError, match="made by tables, expected one of data, world"):
        coverage(Params(sources=[]), base=base.folder, data=[path], out=tmp_path / "c.csv")
