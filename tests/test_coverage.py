"""Coverage, counted by hand and by a plain loop."""

import csv
import logging
from pathlib import Path

import pandas as pd
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from deftx.models.load import load_tokenizer
from deftx.report import coverage as library
from deftx.report.coverage import Coverage, count, warnings
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
def test_counts_are_those_of_a_hand(tokenizer, at_once, monkeypatch):
    monkeypatch.setattr(library, "AT_ONCE", at_once)
    items = [
        {"text": "ba doba", "label": "x"},  # ba, do ##ba
        {"text": " xyz\tba\n", "label": "x"},  # [UNK], ba
        {"text": "", "label": "y"},
    ]
    found = count(items, tokenizer)
    assert found == Coverage(items=3, words=4, characters=11, pieces=5, unknown=1)
    assert found.pieces_per_word == 5 / 4
    assert found.unknown_share == 1 / 5
    assert found.characters_per_piece == 11 / 5


def test_both_texts_of_a_pair_count_and_the_pair_is_one_item(tokenizer):
    pair = count([{"text": "ba", "text_pair": "do ba", "label": "x"}], tokenizer)
    assert pair == Coverage(items=1, words=3, characters=6, pieces=3, unknown=0)


def test_texts_without_a_word_have_no_ratios(tokenizer):
    blank = count([{"text": "  "}], tokenizer)
    assert blank == Coverage(items=1, words=0, characters=0, pieces=0, unknown=0)
    ratios = blank.pieces_per_word, blank.unknown_share, blank.characters_per_piece
    assert ratios == (None, None, None)


def save_items(folder: Path, language: str, split: str, texts: list[str], **more) -> Path:
    out = folder / language / f"{split}.parquet"
    items = [{"id": str(i), "text": text, **more} for i, text in enumerate(texts)]
    write_items(out, items, stage="data", dataset="some", language=language, split=split)
    return out


def test_the_table_has_a_row_for_each_input(base, tmp_path):
    texts = {"ind": ["baba dodo", "le li"], "ace": ["xx qq", "ba"]}
    items = [save_items(tmp_path, key, "train", lines) for key, lines in texts.items()]
    items.append(save_items(tmp_path, "ace", "test", ["ba", ""], label="good"))
    coverage(Params(sources=["ind"]), base=base.folder, items=items, out=tmp_path / "coverage.csv")
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


def test_same_items_same_bytes_in_whatever_order(base, tmp_path):
    items = [save_items(tmp_path, key, "train", ["ba do"]) for key in ("ind", "ace")]
    for name, paths in (("a.csv", items), ("b.csv", items[::-1])):
        coverage(Params(sources=["ind"]), base=base.folder, items=paths, out=tmp_path / name)
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


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
        coverage(Params(sources=["ind"]), base=base.folder, items=items, out=tmp_path / "c.csv")
    assert any(record.message.startswith("ace: ") for record in caplog.records)


def test_an_input_that_is_no_text_is_refused(base, tmp_path):
    path = tmp_path / "x.parquet"
    write_items(path, [{"id": "0", "text": "ba"}], stage="tables")
    with pytest.raises(ArtefactError, match="made by tables, expected one of data, world"):
        coverage(Params(sources=[]), base=base.folder, items=[path], out=tmp_path / "c.csv")
