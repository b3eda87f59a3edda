"""Existing vectors in a run: they replace trained ones, and nothing is trained for them."""

import copy
import json

import pytest
import torch
from loopback_hub import COMMIT
from lt_sft_files import CLASSES, dense, write_public
from tiny_config import TINY, with_key
from workspace import Workspace

from deftx.core.sparse_delta import SparseDelta
from deftx.models.base import Base
from deftx.plan.artefact import Artefact
from deftx.plan.config import check_config
from deftx.plan.plan import Plan
from deftx.stages.table import path_of
from deftx.stages.world.settings import TAGS
from deftx.store.errors import ConfigError
from deftx.store.tensors import TensorFile


def plan(vector, **changes):
    raw = with_key("methods/given", {"vector": vector})
    raw["systems"] = {"given": {"task": "given"}, "zero-shot": {"task": "full", "language": "none"}}
    raw |= copy.deepcopy(changes)
    return Plan(check_config(raw))


HUB = {
    "language": {
        "source": "some/lang-{language}",
        "revision": {"qta": COMMIT},
        "aliases": {"qta": "qa", "qtb": "none"},
    },
    "task": {"source": "some/task-{task}", "revision": COMMIT, "classes": {"sentiment": CLASSES}},
}


def test_nothing_is_trained_for_vectors_that_exist():
    found = plan(HUB)
    trained = [path_of(a) for a in found.artefacts if a.stage in ("full", "mask", "sparse")]
    assert trained == ["full/task-sentiment/base/seed0/model.safetensors"]  # zero-shot's
    converted = [a for a in found.artefacts if a.stage == "convert"]
    assert {path_of(a) for a in converted} == {
        "convert/given/task-sentiment/sft_model.safetensors",
        "convert/given/lang-qta/sft_model.safetensors",
    }
    for artefact in converted:
        params = found.params(artefact)
        assert params["revision"] == COMMIT
        assert params["id"] in ("some/lang-qa", "some/task-sentiment")
    cards = found.inputs(Artefact.of("cards"))["vectors"]
    assert set(converted) == set(cards)
    assert set(converted) <= set(found.inputs(Artefact.of("figures"))["masks"])


def test_one_file_serves_every_seed():
    found = plan(HUB, seeds=[0, 1])
    composed = [a for a in found.artefacts if a.stage == "compose" and a["system"] == "given"]
    assert {a["seed"] for a in composed} == {"0", "1"}
    used = {path_of(p) for a in composed for p in found.inputs(a)["task_vector"]}
    assert used == {"convert/given/task-sentiment/sft_model.safetensors"}


def test_a_task_is_trained_on_top_of_a_vector_that_exists():
    vector = {"language": {"source": "some/lang-{language}", "revision": COMMIT}}
    languages = {key: {"text": "none"} for key in ("qaa", "qta", "qtb")}
    systems = {"mine": {"task": "lt-sft", "language": "given"}}
    found = plan(vector, task_start="given", languages=languages, systems=systems)
    (full,) = (a for a in found.artefacts if a.stage == "full")
    assert full["target"] == "task-sentiment/given"
    (start,) = found.inputs(full)["start_vector"]
    assert path_of(start) == "convert/given/lang-qaa/sft_model.safetensors"
    assert found.params(Artefact.of("tables"))["without_text"] == []  # though none has text


def test_a_file_counts_by_its_content_and_not_by_its_path(tmp_path):
    def params(folder, data):
        (tmp_path / f"{folder}-qta").mkdir(parents=True, exist_ok=True)
        (tmp_path / f"{folder}-qta/pytorch_diff.bin").write_bytes(data)
        given = {"language": {"source": f"{folder}-{{language}}", "aliases": {"qtb": "none"}}}
        systems = {"mine": {"task": "full", "language": "given"}}
        found = plan(given, data_dir=str(tmp_path), systems=systems)
        found.check_files()
        return found.params(Artefact.of("convert", method="given", target="lang-qta"))

    assert params("a", b"one") == params("b", b"one") != params("c", b"two")


@pytest.mark.parametrize(
    ("vector", "changes", "message"),
    [
        ({"task": HUB["task"]}, {}, "systems.given.language: methods.given.vector has no vector"),
        ({"language": HUB["language"]}, {}, "systems.given.task: methods.given.vector has no vec"),
        (
            {**HUB, "task": {**HUB["task"], "classes": ["a", "b"]}},
            {},
            "methods.given.vector.classes: a, b, but tasks.sentiment.classes are negative",
        ),
        (
            {**HUB, "language": {**HUB["language"], "aliases": {}}},
            {},
            "methods.given.vector.revision: no commit for qtb",
        ),
        (
            {**HUB, "language": {**HUB["language"], "revision": "main"}},
            {},
            "methods.given.vector.language.revision",
        ),
        (
            {**HUB, "language": {**HUB["language"], "source": "/a/folder/{language}"}},
            {},
            "has a revision, but is no hub id",
        ),
        (
            HUB,
            {"systems": {"given": {"task": "given"}, "lt-sft": {"task": "lt-sft"}},
             "languages": {"qta": {"text": "none"}}},
            "languages.qta: systems.given has a vector of it, systems.lt-sft has none",
        ),
    ],
)  # fmt: skip
def test_a_config_that_cannot_work_is_an_error(vector, changes, message):
    with pytest.raises(ConfigError, match=message):
        plan(vector, **changes)


def test_other_fields_have_no_effect_and_are_refused():
    for other, message in (
        ({"budget": 0.1}, "budget has no effect on a method with vector"),
        ({"lora": {}}, "vector has no effect on a method with lora"),
    ):
        with pytest.raises(ConfigError, match=message):
            check_config(with_key("methods/given", {"vector": "x", **other}))


def test_missing_files_and_classes_are_errors_before_anything_runs(tmp_path):
    found = plan(
        "mine/{language}{task}", data_dir=str(tmp_path), languages={"qta": {"text": "none"}}
    )
    with pytest.raises(ConfigError) as caught:
        found.check_files()
    missing = (
        "methods.given.vector (lang-qta): no sft_model.safetensors and no pytorch_diff.bin at "
    )
    assert missing + str(tmp_path) in str(caught.value)
    assert "for a hub id give its revision" in str(caught.value)
    for name in ("mine/qta{task}", "mine/{language}sentiment", "mine/qtasentiment"):
        (tmp_path / name).mkdir(parents=True)
    for folder in tmp_path.glob("mine/*"):
        (folder / "pytorch_diff.bin").write_bytes(b"")
    source = {"language": "mine/qtasentiment", "task": "mine/qtasentiment"}
    with pytest.raises(ConfigError, match="does not record the order of its classes"):
        plan(source, data_dir=str(tmp_path), languages={"qta": {"text": "none"}}).check_files()


def test_tags_of_a_file_of_the_public_code_may_have_no_order_of_their_own(tmp_path):
    """They are sorted, so a config need not say it; the kind is in the parameters."""
    (tmp_path / "ner").mkdir()
    (tmp_path / "ner/pytorch_diff.bin").write_bytes(b"")
    task = TINY["tasks"]["sentiment"] | {"kind": "tagging", "classes": [*TAGS]}
    tags = {part: {"dataset": "tags", "split": part} for part in ("train", "valid", "test")}
    found = plan(
        {"language": "mine/{language}", "task": {"source": "ner", "aliases": {"ner": "ner"}}},
        data_dir=str(tmp_path),
        datasets=TINY["datasets"] | {"tags": {"world": "tags", "items": dict.fromkeys(tags, 9)}},
        tasks={"ner": {**task, **tags}},
        languages={"qta": {"text": "none"}},
    )
    with pytest.raises(ConfigError) as caught:
        found.check_files()
    assert "task-ner" not in str(caught.value) and "lang-qta" in str(caught.value)
    (converted,) = [a for a in found.artefacts if a.stage == "convert" and "task" in a["target"]]
    params = found.params(converted)
    assert (params["kind"], params["stored_classes"]) == ("tagging", None)
    assert params["classes"] == task["classes"]


@pytest.mark.workflow
def test_a_run_with_vectors_of_others_gives_the_logits_of_the_run_that_made_them(tmp_path):
    """The language's vector as ours, the task's as the public code would have written it, with its
    classes in another order."""
    made = Workspace(tmp_path, one_server=True)
    made.config["systems"] = {"lt-sft": {"task": "lt-sft"}}
    made.write_config()
    made.run()
    base = Base.load(made.results / "base")
    vector = SparseDelta.load(made.results / "sparse/lt-sft/task-sentiment/base/seed0")
    stored = CLASSES[::-1]
    diffs = {f"roberta.{n}": dense(vector, n, shape) for n, shape in base.maskable.items()}
    head = {n: t.flip(0) if "out_proj" in n else t for n, t in vector.head.items()}
    write_public(tmp_path / "theirs/pytorch_diff.bin", diffs, head)
    results = made.results
    made.config |= {
        "run": "given",
        "seeds": [0, 1],
        "data_dir": str(tmp_path),
        "base": {"model": "results/tiny/base"},
        "methods": {
            "given": {
                "vector": {
                    "language": {
                        "source": "results/tiny/sparse/lt-sft/lang-{language}/seed0",
                        "aliases": {"qtb": "none"},
                    },
                    "task": {"source": "theirs", "classes": stored},
                }
            }
        },
        "systems": {"given": {"task": "given"}},
    }
    made.write_config()
    try:
        ran = made.run()
        assert ran["convert"] == 2 and not {"full", "mask", "sparse"} & ran.keys()
        # Rows of the head in another order: at most 33 terms, of features in [-1, 1], are added up.
        head_weight = vector.head["classifier.out_proj.weight"].abs().sum(1).max()
        rounding = 33 * torch.finfo(torch.float32).eps * float(head_weight + 1)
        for language in ("qta", "qtb"):
            path = f"sentiment/{language}/seed{{}}.safetensors"
            expected = TensorFile(results / "evaluate/lt-sft" / path.format(0))
            for seed in (0, 1):
                found = TensorFile(made.results / "evaluate/given" / path.format(seed))
                assert (found["logits"] - expected["logits"]).abs().max() <= rounding
        task, lang = (made.results / "convert/given" / n for n in ("task-sentiment", "lang-qta"))
        card = (task / "README.md").read_text()
        assert "Made by others." in card and "pytorch_diff.bin" in card
        assert "method `lt-sft`" in (lang / "README.md").read_text()
        assert json.loads((task / "sft_config.json").read_text())["labels"] == CLASSES
        # Another content makes it stale, a new path does not.
        (tmp_path / "theirs").rename(tmp_path / "moved")
        made.config["methods"]["given"]["vector"]["task"]["source"] = "moved/pytorch_diff.bin"
        made.write_config()
        assert made.planned() == dict.fromkeys(("config", "costs", "cards", "summary"), 1)
    finally:
        made.close()
