"""Cleaning: each line has one outcome, the same as in a plain oracle."""

import json
import lzma
import re
import unicodedata

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deftx.stages.clean.math import OUTCOMES, clean, tidy, words
from deftx.stages.clean.run import Params
from deftx.stages.clean.run import clean as stage
from deftx.stages.clean.settings import Cleaning
from deftx.store.errors import ArtefactError
from deftx.store.items import load_items, load_text, write_items

WORDS = st.sampled_from(["a", "B", "ab", "É", "e\u0301", "c-d", "!", "\u00a0", "1"])
LINES = st.lists(st.lists(WORDS, max_size=8).map(" ".join), max_size=12)


def plain_words(text):
    return re.findall(r"\w+", unicodedata.normalize("NFKC", text).lower())


def plain_outcome(text, before, evaluation, settings):
    """The rule of docs/data.md, one sentence and one window at a time."""
    mine = plain_words(text)
    if not mine:
        return "blank"
    if len(text) < settings.min_characters:
        return "short"
    if settings.max_characters is not None and len(text) > settings.max_characters:
        return "long"
    for sentence in evaluation if settings.evaluation else ():
        theirs = plain_words(sentence)
        if theirs and "".join(mine) == "".join(theirs):
            return "evaluation"
        run = settings.run or len(theirs) + len(mine) + 1
        for i in range(len(mine) - run + 1):
            for j in range(len(theirs) - run + 1):
                if mine[i : i + run] == theirs[j : j + run]:
                    return "evaluation"
    if settings.duplicates and "".join(mine) in before:
        return "duplicate"
    return "kept"


@given(
    lines=LINES,
    evaluation=LINES,
    run=st.sampled_from([None, 2, 3]),
    switches=st.tuples(st.booleans(), st.booleans()),
    lengths=st.sampled_from([(1, None), (3, 9)]),
)
def test_every_line_has_the_outcome_of_the_plain_rule(lines, evaluation, run, switches, lengths):
    settings = Cleaning(
        run=run,
        duplicates=switches[0],
        evaluation=switches[1],
        min_characters=lengths[0],
        max_characters=lengths[1],
    )
    items = [{"id": str(n), "text": line} for n, line in enumerate(lines)]
    kept, counts = clean(items, evaluation, settings)
    before, expected, outcomes = set(), [], dict.fromkeys(OUTCOMES, 0)
    for item in items:
        text = " ".join(unicodedata.normalize("NFC", item["text"]).split())
        outcome = plain_outcome(text, before, evaluation, settings)
        outcomes[outcome] += 1
        if outcome == "kept":
            before.add("".join(plain_words(text)))
            expected.append({**item, "text": text})
    assert kept == expected
    assert counts == {"read": len(lines), **outcomes}
    assert counts["read"] == sum(counts[name] for name in OUTCOMES)


def test_case_spacing_and_punctuation_make_no_difference():
    assert words("Ba, be!") == words("ba be") == words("BA\u00a0BE.") == ["ba", "be"]
    assert tidy("e\u0301 \t x\u3000y ") == "\u00e9 x y"
    items = [{"id": "0", "text": "Ba, be!"}, {"id": "1", "text": "ba be"}]
    kept, counts = clean(items, [], Cleaning())
    assert [item["text"] for item in kept] == ["Ba, be!"] and counts["duplicate"] == 1


def saved(path, texts, **more):
    items = [{"id": str(n), "text": text, **more} for n, text in enumerate(texts)]
    write_items(path, items, stage="data")
    return path


def test_texts_are_joined_in_order_and_counted(tmp_path):
    a = saved(tmp_path / "a.parquet", ["eka dui", "tina cari", "..."])
    b = saved(tmp_path / "b.parquet", ["Tina cari!", "panca chah sapta"])
    pair = saved(tmp_path / "test.parquet", ["eka"], text_pair="Panca chah, sapta?", label="x")
    params = Params(language="qta", datasets=["a", "b"])
    for name in ("x", "y"):
        stage(params, text=[a, b], evaluation=[pair], out=tmp_path / f"{name}/qta.parquet")
    out = tmp_path / "x/qta.parquet"
    kept = [{"id": "a.0", "text": "eka dui"}, {"id": "a.1", "text": "tina cari"}]
    dropped = {"blank": 1, "short": 0, "long": 0, "evaluation": 1, "duplicate": 1}
    counts = {"language": "qta", "datasets": {"a": 3, "b": 2}, "read": 5, **dropped, "kept": 2}
    assert load_items(out) == kept
    assert json.loads((tmp_path / "x/qta.json").read_text()) == counts
    assert out.read_bytes() == (tmp_path / "y/qta.parquet").read_bytes()


def test_evaluation_sentences_that_drop_nothing_leave_the_same_bytes(tmp_path):
    """So an added test set does not retrain a language whose text it does not touch."""
    text = saved(tmp_path / "a.parquet", ["eka dui", "tina cari"])
    test = saved(tmp_path / "test.parquet", ["panca chah"], label="x")
    params = Params(language="qta", datasets=["a"])
    stage(params, text=[text], evaluation=[], out=tmp_path / "x/qta.parquet")
    stage(params, text=[text], evaluation=[test], out=tmp_path / "y/qta.parquet")
    x, y = ((tmp_path / f"{name}/qta.parquet").read_bytes() for name in "xy")
    assert x == y


def test_text_without_a_kept_line_is_an_error_with_the_counts(tmp_path):
    text = saved(tmp_path / "a.parquet", ["eka dui", "..."])
    test = saved(tmp_path / "test.parquet", ["Eka dui"], label="x")
    params = Params(language="qta", datasets=["a"])
    with pytest.raises(ArtefactError, match=r"qta: no line of text is left.*1 blank.*1 evaluation"):
        stage(params, text=[text], evaluation=[test], out=tmp_path / "out.parquet")


def test_real_text_that_was_cleaned_by_the_same_rule_is_kept(shared, tmp_path):
    """These texts contain neither evaluation sentences nor duplicates by this rule. The text of
    Ngaju is its training set, so it is dropped if that counts as evaluation."""
    nusax = shared / "data/nusax/datasets/sentiment"

    def sentences(language, split):
        frame = pd.read_csv(nusax / language / f"{split}.csv", dtype=str, keep_default_na=False)
        return list(frame["text"])

    for language, name, known in (("ace", "acehnese", 0), ("nij", "ngaju", 500)):
        with lzma.open(shared / f"data/text/{language}.txt.xz", "rt", encoding="utf-8") as file:
            items = [{"id": "0", "text": line} for line in file.read().split("\n") if line]
        settings = Cleaning(min_characters=1)
        tests = [*sentences(name, "test"), *sentences(name, "valid")]
        kept, counts = clean(items, tests, settings)
        assert [item["text"] for item in kept] == [item["text"] for item in items]
        _, counts = clean(items, sentences(name, "train"), settings)
        assert counts["evaluation"] >= known
        assert counts["evaluation"] == 0 or known
    assert load_text(saved(tmp_path / "x.parquet", ["eka"])) == ["eka"]
