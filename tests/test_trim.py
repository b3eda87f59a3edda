"""Removing the items that another dataset was made from: equal to a plain search, and SmSA compared
with the copy that the papers' code produced."""

from collections import Counter

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deftx.data.read import read_items
from deftx.stages.data.settings import Columns, Layout
from deftx.stages.trim.run import Params, detokenised, nearest, trim
from deftx.store.errors import ArtefactError
from deftx.store.items import load_items, write_items

TEXTS = st.text(alphabet="abc ", max_size=7)


def plain_distance(a, b):
    """Edit distance by the whole table."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        before, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (x != y))
    return row[-1]


@settings(max_examples=200)
@given(text=TEXTS, others=st.lists(TEXTS, min_size=1, max_size=8))
def test_the_nearest_is_the_first_of_the_smallest_distance(text, others):
    distances = [plain_distance(text, other) for other in others]
    assert nearest(text, others) == distances.index(min(distances))


def test_spaces_of_a_tokenizer_do_not_count():
    assert detokenised("Enak , sekali ( murah ) !") == "enak, sekali (murah)!"


def saved(path, texts):
    write_items(path, [{"id": str(n), "text": t, "label": "x"} for n, t in enumerate(texts)])
    return path


def test_the_nearest_item_among_all_splits_is_removed_once(tmp_path):
    splits = {"train": ["ba be", "di do du", "ka ki"], "valid": ["ba bi ."], "test": ["zzz"]}
    items = [saved(tmp_path / f"{name}.parquet", texts) for name, texts in splits.items()]
    other = saved(tmp_path / "other.parquet", ["BA BI.", "di do da", "Di do du"])
    left = {}
    for split in splits:
        params = Params(dataset="s", language="qaa", split=split, among=list(splits))
        if split == "valid":
            with pytest.raises(ArtefactError, match=r"s \(valid\): no item is left"):
                trim(params, splits=items, made_from=other, out=tmp_path / "x.parquet")
            continue
        trim(params, splits=items, made_from=other, out=tmp_path / "x.parquet")
        left[split] = [(item["id"], item["text"]) for item in load_items(tmp_path / "x.parquet")]
    assert left == {"train": [("0", "ba be"), ("2", "ka ki")], "test": [("0", "zzz")]}


def test_smsa_is_trimmed_as_in_the_papers_except_for_four_sentences(shared, tmp_path):
    """396 of the 400 removed sentences are the same. The other four have no counterpart in SmSA:
    their nearest sentence is at least 43 edits away, and spaces around punctuation decide which it
    is."""
    smsa = shared / "data/smsa"
    labels = {name: name for name in ("negative", "neutral", "positive")}
    layout = Layout(
        columns=Columns(text="0", label="1"), labels=labels, quoting=False, header=False
    )
    whole, items = {}, []
    for split in ("train", "valid", "test"):
        file = smsa / f"dataset/smsa_doc-sentiment-prosa/{split}_preprocess.tsv"
        whole[split] = read_items(file, layout)
        items.append(tmp_path / f"{split}.parquet")
        write_items(items[-1], whole[split], stage="data")
    assert [len(part) for part in whole.values()] == [11_000, 1_260, 500]
    file = shared / "data/nusax/datasets/sentiment/indonesian/test.csv"
    nusax = Layout(columns=Columns(label="label", id="id"), labels=labels)
    write_items(tmp_path / "nusax.parquet", read_items(file, nusax))
    differing, ours, papers = 0, [], []
    names = dict(zip("012", labels, strict=True))  # theirs: 0 negative, 1 neutral, 2 positive
    for split, name in zip(whole, ("train", "validation", "test"), strict=True):
        params = Params(dataset="smsa", language="ind", split=split, among=list(whole))
        out, path = tmp_path / "trimmed.parquet", smsa / f"smsa-trimmed/{name}.tsv"
        trim(params, splits=items, made_from=tmp_path / "nusax.parquet", out=out)
        theirs = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
        pairs = zip(theirs["text"], theirs["label"], strict=True)
        mine = Counter(("".join(i["text"].split()), i["label"]) for i in load_items(out))
        other = Counter(("".join(text.split()), names[label]) for text, label in pairs)
        differing += (other - mine).total()
        ours.append(mine.total())
        papers.append(other.total())
    assert differing == 4
    assert ours == [10_616, 1_251, 493] and papers == [10_617, 1_251, 492]
