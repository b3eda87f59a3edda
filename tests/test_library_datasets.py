"""The library takes a `datasets.Dataset` wherever it takes a list of items, and needs none."""

import subprocess
import sys

import datasets
import pytest
import torch
from conftest import sentences

import deftx
from deftx.store.errors import ArtefactError, InputError
from deftx.store.items import write_items

CLASSES = ["bad", "good"]
LABELS = ["good", "bad", "good", "good"]
ITEMS = [
    {"id": str(n), "text": text, "label": label}
    for n, (text, label) in enumerate(zip(sentences(4), LABELS, strict=True))
]


def as_dataset(items, names=None):
    found = datasets.Dataset.from_list(items)
    return found.cast_column("label", datasets.ClassLabel(names=names)) if names else found


@pytest.mark.parametrize("names", [None, ["good", "bad"], ["bad", "good"]])
def test_labels_of_a_dataset_are_numbered_by_name(names):
    loaded = deftx.load_labelled(as_dataset(ITEMS, names), CLASSES)
    assert isinstance(loaded, datasets.Dataset)
    assert loaded.features["label"].names == CLASSES
    assert loaded.to_list() == deftx.load_labelled(ITEMS, CLASSES)
    assert loaded["label"][:] == [1, 0, 1, 1]
    with pytest.raises(ArtefactError, match="the given items: item 1 has the label 'bad'"):
        deftx.load_labelled(as_dataset(ITEMS, names), ["good", "neutral"])


def test_a_dataset_trains_and_predicts_as_the_list_of_its_rows_does(base):
    tokenizer = deftx.load_tokenizer(base)
    listed = deftx.load_labelled(ITEMS, CLASSES)
    given = deftx.load_labelled(as_dataset(ITEMS), CLASSES)
    model = deftx.load_classifier(base, CLASSES, seed=0)
    assert deftx.evaluate(model, given, tokenizer) == deftx.evaluate(model, listed, tokenizer)
    predicted = [deftx.predict(model, items, tokenizer) for items in (given, listed)]
    assert torch.equal(*predicted)
    settings = deftx.TaskTraining(max_length=32)
    made = [deftx.classification(x, x, tokenizer, settings) for x in (given, listed)]
    a, b = (m.collate(m.examples(range(4), 0)) for m in made)
    assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in b)
    text = deftx.LanguageTraining(max_length=32)
    lines = [item["text"] for item in ITEMS]
    made = [
        deftx.masked_language_modelling(x, tokenizer, text)
        for x in (lines, listed, given, given.remove_columns("label"))
    ]
    blocks = [m.examples([0], seed=3)[0]["input_ids"] for m in made]
    assert all(torch.equal(blocks[0], other) for other in blocks[1:])


def test_a_dataset_that_numbers_its_classes_otherwise_is_refused(base):
    model = deftx.load_classifier(base, CLASSES, seed=0)
    given = as_dataset(ITEMS, CLASSES[::-1])
    with pytest.raises(InputError, match=r"numbers of \['good', 'bad'\].*load_labelled first"):
        deftx.evaluate(model, given, deftx.load_tokenizer(base))


def run(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_planning_and_the_package_import_neither_datasets_nor_torch():
    code = "import sys, deftx, deftx.plan.plan; deftx.read_config; deftx.load_labelled;"
    assert run(f"{code} print({{'datasets', 'torch'}} & {{*sys.modules}})") == "set()\n"


def test_training_and_evaluation_need_no_datasets(base, tmp_path):
    """On a GPU machine without the library, from artefacts and lists."""
    write_items(tmp_path / "x.parquet", ITEMS)
    run(f"""if True:
        import sys
        from pathlib import Path
        sys.modules["datasets"] = None  # as if it were not installed
        import deftx
        from deftx.stages.table import STAGES
        for stage in STAGES:
            __import__(f"deftx.stages.{{stage}}.run")
        base = deftx.Base.load({str(base.folder)!r})
        tokenizer = deftx.load_tokenizer(base)
        items = deftx.load_labelled({str(tmp_path / "x.parquet")!r}, {CLASSES})
        model = deftx.load_classifier(base, {CLASSES}, seed=0)
        settings = deftx.TaskTraining(max_length=32, epochs=1, batch_size=2)
        deftx.fit(model, deftx.classification(items, items, tokenizer, settings), settings)
        print(deftx.evaluate(model, items, tokenizer))
    """)
