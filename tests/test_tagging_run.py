"""A run of a tagging task with every family of methods, in one workflow, to the pages."""

import numpy as np
import pandas as pd
import pytest

from deftx.store.items import load_items
from deftx.store.tensors import TensorFile, decode_ids

TAGS = ["ADJ", "ADV", "DET", "NOUN", "PUNCT", "VERB"]

METHODS = {
    "rand-sft": {"score": "random"},
    "bitfit": {"score": "none", "choose_from": r"\.bias$", "layer_norm": True},
    "mad-x": {"adapter": {"task_reduction": 4, "language_reduction": 4}},
    "ada-sft": {"gate": {}},
    "lora": {"lora": {}},
}

SYSTEMS = {
    "zero-shot": {"task": "full", "language": "none"},
    "task-arithmetic": {"task": "full", "language": "full"},
    "lt-sft": {"task": "lt-sft"},
    "deft-x": {"task": "deft-x"},
    "rand-sft": {"task": "rand-sft"},
    "bitfit": {"task": "bitfit"},
    "mad-x": {"task": "mad-x"},
    "ada-sft": {"task": "ada-sft", "language": "lt-sft"},
    "lora": {"task": "lora", "language": "lt-sft"},
    "ties": {"task": "full", "language": "full", "combine": {"ties": {"density": 0.2}}},
}


@pytest.fixture(scope="module")
def tagged(workspace):
    """The finished run, with a task of tagging in place of its others."""
    config = workspace.config
    config["datasets"]["tags"] = {"world": "tags", "items": {"train": 60, "valid": 20, "test": 40}}
    part = {"dataset": "tags"}
    config["tasks"] = {
        "pos": {
            "kind": "tagging",
            "classes": TAGS,
            "source": "qaa",
            "train": {**part, "split": "train"},
            "valid": {**part, "split": "valid"},
            "test": {**part, "split": "test"},
            "prior": {
                "items": {**part, "split": "valid"},
                "languages": ["qta"],
                "target": "source",
            },
            "training": {"learning_rate": 1e-2, "batch_size": 8, "epochs": 2, "max_length": 12},
        }
    }
    config["methods"] |= METHODS
    config["systems"] = SYSTEMS
    workspace.write_config()
    workspace.run()
    return workspace


def evaluations(workspace):
    return sorted((workspace.results / "evaluate").glob("*/pos/*/seed*.safetensors"))


def test_every_family_predicts_each_word_of_each_sentence_once(tagged):
    found = evaluations(tagged)
    assert {path.parts[-4] for path in found} == {*SYSTEMS}
    for path in found:
        file, language = TensorFile(path), path.parts[-2]
        items = load_items(tagged.results / f"data/tags/{language}/test.parquet")
        words = [len(item["words"]) for item in items]
        assert file["ends"].tolist() == np.cumsum(words).tolist()
        assert file["logits"].shape == (sum(words), len(TAGS))
        assert decode_ids(file["ids"]).tolist() == [item["id"] for item in items]
        tags = [TAGS.index(tag) for item in items for tag in item["tags"]]
        assert file["labels"].tolist() == tags
        assert len(file["pooled"]) == len(items)
        assert file.provenance["params"]["kind"] == "tagging"


def test_scores_are_those_of_the_logits_over_all_words(tagged):
    scores = pd.read_csv(tagged.results / "tables/scores.csv")
    scores = scores[~scores["system"].str.endswith(" + prior")]
    assert len(scores) == len(evaluations(tagged))
    for path in evaluations(tagged):
        file, (system, _, language, seed) = TensorFile(path), path.parts[-4:]
        right = (file["logits"].argmax(1) == file["labels"]).double().mean()
        row = scores[(scores["system"] == system) & (scores["language"] == language)]
        row = row[row["seed"] == int(seed.removeprefix("seed").partition(".")[0])]
        assert row["accuracy"].item() == pytest.approx(float(right), abs=1e-6)


def test_a_trained_tagger_is_better_than_the_most_frequent_tag(tagged):
    """So what is trained is what is scored, whatever becomes of sentences in windows."""
    scores = pd.read_csv(tagged.results / "tables/scores.csv")
    file = TensorFile(evaluations(tagged)[0])
    most = np.bincount(file["labels"].numpy()).max() / len(file["labels"])
    assert scores[scores["system"] == "zero-shot"]["accuracy"].max() > most


def test_a_prior_of_the_source_is_a_bias_on_the_tags_of_words(tagged):
    found = pd.read_csv(tagged.results / "tables/prior.csv")
    assert {*found["system"]} == {f"{system} + prior" for system in SYSTEMS}
    file = TensorFile(tagged.results / "prior/lt-sft/pos/qta/seed0.safetensors")
    source = TensorFile(tagged.results / "prior/lt-sft/pos/qaa/seed0.safetensors")
    shares = (file["logits"].double() + file["bias"]).softmax(1).mean(0)
    assert shares.tolist() == pytest.approx(source["logits"].double().softmax(1).mean(0).tolist())


def test_windows_are_counted_in_coverage_and_the_page_shows_confusions(tagged):
    counts = pd.read_csv(tagged.results / "coverage/coverage.csv")
    assert counts["sentences_in_windows"].sum() > 0
    page = (tagged.results / "summary/index.html").read_text()
    assert "accuracy over all words" in page and "onfusion" in page
