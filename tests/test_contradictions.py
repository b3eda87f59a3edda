"""What contradicts in several files shows in the stage `data`, before anything is trained."""

import json

import pytest
import yaml
from conftest import PROJECT
from tiny_config import with_change

from deftx.data.contradictions import disagreements, leaked
from deftx.plan.artefact import Artefact
from deftx.plan.config import check_config, read_config
from deftx.plan.plan import Plan
from deftx.stages.data.plan import others
from deftx.stages.data.run import Params, data
from deftx.store.errors import DataError


def items(*texts, **more):
    return [{"id": str(n), "text": text, "label": "x", **more} for n, text in enumerate(texts)]


def lines(*texts):
    return [{"id": str(n), "text": text} for n, text in enumerate(texts)]


def test_test_items_in_training_data_are_counted_whatever_their_case_and_spaces():
    tests = items("Ba be!", "bo bu", "...", "da de")
    assert leaked(tests, items("ba  be", "do du", "DA DE")) == 2
    assert leaked(tests, lines("ba be", "bo, bu.", "...")) == 2
    pairs = items("ba be", "bo bu", text_pair="da de")
    assert leaked(pairs, items("ba be", text_pair="di di")) == 0
    assert leaked(pairs, items("ba be", text_pair="da de")) == 1
    assert leaked(pairs, lines("da de")) == 2


def test_ids_that_contradict_those_of_another_language_are_counted():
    other = [{"id": n, "label": label} for n, label in (("a1", "x"), ("a2", "y"), ("a3", "x"))]
    mine = [{"id": n, "label": label} for n, label in (("a1", "x"), ("a2", "x"), ("A3", "x"))]
    assert list(disagreements(other, other)) == []
    assert list(disagreements(mine, other)) == [
        "1 of 2 shared ids have another label, 'a2' first",
        "1 ids differ in case only, 'A3' first",
    ]


def from_files(raw):
    columns = {"columns": {"text": "text", "label": "label", "id": "id"}}
    raw["datasets"]["mine"] = {"files": "{language}.{split}.csv", **columns}
    raw["datasets"]["lines"] = {"files": "{language}.txt"}
    for part in ("train", "valid", "test"):
        raw["tasks"]["sentiment"][part] = {"dataset": "mine", "split": part}
    source = raw["tasks"]["sentiment"]["source"]
    raw["tasks"]["sentiment"]["languages"] = [source, "qta", "qtb"]
    raw["languages"] = {key: {"text": "lines"} for key in (source, "qta", "qtb")}


@pytest.fixture
def mine(tmp_path, monkeypatch):
    monkeypatch.setenv("DEFTX_DATA", str(tmp_path))
    config = check_config(with_change(from_files))
    return Plan(config), config.tasks["sentiment"].source


def split(language, split, dataset="mine"):
    return Artefact.of("data", dataset=dataset, language=language, split=split)


def test_each_split_is_compared_with_what_could_contradict_it(mine):
    plan, source = mine

    def found(artefact):
        return [(other["role"], other["name"]) for other in others(plan, artefact)]

    test = [("test", f"mine (test of {source})")]
    assert found(split(source, "train")) == found(split(source, "valid")) == test
    assert found(split("qta", "train", "lines")) == [("test", "mine (test of qta)")]
    first = [("parallel", f"mine (test of {source})")]
    assert found(split("qta", "test")) == [("train", "lines (train of qta)"), *first]
    assert found(split(source, "test")) == [
        *(("train", f"mine ({part} of {source})") for part in ("train", "valid")),
        ("train", f"lines (train of {source})"),
        ("parallel", "mine (test of qta)"),
        ("parallel", "mine (test of qtb)"),
    ]
    cleaned = with_change(lambda raw: from_files(raw) or raw.update(cleaning={}))
    assert others(Plan(check_config(cleaned)), split("qta", "train", "lines")) == []


def test_the_stage_warns_with_counts_and_refuses_other_labels(mine, tmp_path, caplog):
    plan, source = mine
    classes = plan.config.tasks["sentiment"].classes
    a, b = classes[:2]

    def made(artefact):
        params = {**plan.params(artefact), "others": others(plan, artefact)}
        del params["code"]
        params = Params.model_validate(json.loads(json.dumps(params)))
        caplog.clear()
        data(params, file=plan.user_files.of(artefact), out=tmp_path / "out.parquet")
        return caplog.text

    (tmp_path / f"{source}.test.csv").write_text(f"id,text,label\n1,ba be,{a}\n2,bo bu,{b}\n")
    assert made(split(source, "test")) == ""  # the others are not there yet
    (tmp_path / f"{source}.train.csv").write_text(f"id,text,label\n7,Ba be!,{a}\n")
    for artefact in (split(source, "train"), split(source, "test")):
        assert "1 of 2 test items are in the training data" in made(artefact)
    (tmp_path / "qta.test.csv").write_text(f"id,text,label\n1,da de,{b}\n2,di do,{b}\n")
    message = "qta.test.csv: 1 of 2 shared ids have another label, '1' first, compared with mine"
    assert message in made(split("qta", "test"))
    (tmp_path / "qta.txt").write_text("di, do\nla le\n")
    assert "1 of 2 test items are in the training data" in made(split("qta", "train", "lines"))
    (tmp_path / "qtb.test.csv").write_text(f"id,text,label\n1,da de,{a.upper()}\n")
    with pytest.raises(DataError, match=rf"line 2: the label '{a.upper()}': none of the classes"):
        made(split("qtb", "test"))


def test_every_task_of_a_dataset_gives_its_classes(mine):
    plan, source = mine
    for part in ("train", "valid", "test"):
        expected = {"sentiment": plan.config.tasks["sentiment"].classes}
        assert plan.params(split(source, part))["classes"] == expected
    assert plan.params(split("qta", "train", "lines"))["classes"] == {}


def test_smsa_is_compared_with_nusax_only_after_it_was_trimmed():
    plan = Plan(read_config(PROJECT / "config.yaml"))
    assert others(plan, split("ind", "train", "smsa")) == []


def test_text_holds_the_test_sentences_of_sib_200(shared):
    """All of them in Acehnese, which is what cleaning removes."""
    from deftx.data.read import read_items
    from deftx.stages.data.settings import Dataset, Layout

    described = yaml.safe_load((PROJECT / "workflow/datasets/sib200.yaml").read_text())
    dataset = Dataset.model_validate(described)
    tests = read_items(shared / dataset.fill(dataset.files, "ace", "test"), dataset)
    text = read_items(shared / "data/text/ace.txt.xz", Layout())
    assert leaked(tests, text) == len(tests) == 204
    jawi = read_items(shared / dataset.fill(dataset.files, "ace_Arab", "test"), dataset)
    assert leaked(jawi, text) == 0 and list(disagreements(jawi, tests)) == []
