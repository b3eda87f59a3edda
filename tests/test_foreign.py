"""The vectors of others keep every difference and fit their base, or an error says why not."""

import copy
import json
import logging

import pytest
import torch
from lt_sft_files import (
    BERT,
    CLASSES,
    LM_HEAD,
    convert,
    dense,
    differences,
    drawn,
    fails,
    head_of,
    made_base,
    write_public,
)
from safetensors import safe_open
from training import assert_close
from transformers import (
    BertForMaskedLM,
    BertForPreTraining,
    XLMRobertaConfig,
    XLMRobertaForMaskedLM,
)

from deftx.core.mask import Mask
from deftx.core.parameters import backbone_parameters, put_head
from deftx.core.sparse_delta import SparseDelta
from deftx.exchange.foreign import read_foreign
from deftx.exchange.lt_sft import decode
from deftx.models.load import load_classifier
from deftx.store.errors import ArtefactError
from deftx.store.tensors import TensorFile


@pytest.fixture(autouse=True)
def _in_this_process(monkeypatch):
    """Spares the seconds of another process; test_lt_sft.py checks that both give the same."""
    monkeypatch.setattr("deftx.exchange.foreign.read_lt_sft", decode)


@pytest.mark.parametrize("prefix", ["roberta.", ""])
def test_a_language_is_converted_whole_and_its_head_left_out_with_a_log_line(
    tmp_path, base, caplog, prefix
):
    expected = differences(base, 0, prefix=prefix)
    write_public(tmp_path / "v/pytorch_diff.bin", expected, LM_HEAD)
    with caplog.at_level(logging.INFO, "deftx"):
        convert(base, tmp_path / "v", "lang-qaa", tmp_path / "out")
    assert "left out" in caplog.text and "lm_head.bias, lm_head.dense.weight" in caplog.text
    found = SparseDelta.load(tmp_path / "out")
    assert not found.head
    for name, shape in base.maskable.items():
        assert torch.equal(dense(found, name, shape), expected[prefix + name]), name
    source = found.provenance["source"]
    assert source["file"] == "pytorch_diff.bin" and source["id"] == "of-others"
    assert found.provenance["base"] == base.identity
    assert found.provenance["k"] == len(found) == found.provenance["outcome"]["trained"]
    config = json.loads((tmp_path / "out/sft_config.json").read_text())
    assert config["source"] == {k: v for k, v in source.items() if k != "made"}
    assert config["task_type"] == "MASKED_LM" and config["base_hash"] == base.identity["hash"]


@pytest.mark.rounding
def test_each_class_keeps_its_logit_whatever_the_order(tmp_path, base):
    stored = ["positive", "negative", "neutral"]
    expected, head = differences(base, 1), head_of(base)
    write_public(tmp_path / "v.bin", expected, head)
    convert(base, tmp_path / "v.bin", "task-x", tmp_path / "o", stored)
    found = SparseDelta.load(tmp_path / "o")
    assert found.provenance["params"]["classes"] == CLASSES
    ids = torch.tensor([[0, 7, 9, 30, 2], [0, 8, 50, 51, 2]])
    model = load_classifier(base, CLASSES, seed=0).eval()
    other = load_classifier(base, stored, seed=0).eval()
    put_head(other, head)
    with torch.no_grad(), found.applied(model):
        for name, parameter in backbone_parameters(other).items():
            if "roberta." + name in expected:
                parameter += expected["roberta." + name]
        # The weights were added up in float32.
        ours, theirs = (copy.deepcopy(m).double()(ids).logits for m in (model, other))
    order = [stored.index(label) for label in CLASSES]
    assert_close({"logits": ours}, {"logits": theirs[:, order]})
    # What is ours already is converted again without loss, and records its classes itself.
    again = read_foreign(tmp_path / "o/sft_model.safetensors", base, stored)
    assert all(torch.equal(again.head[name], tensor) for name, tensor in head.items())
    assert again.mask.index.keys() == found.mask.index.keys()
    assert all(torch.equal(again.values[n], found.values[n]) for n in found.values)
    with pytest.raises(ArtefactError, match="classes are negative, neutral, positive, expected p"):
        read_foreign(tmp_path / "o/sft_model.safetensors", base, CLASSES, stored)


WORDS = "roberta.embeddings.word_embeddings.weight"
BIAS = "roberta.encoder.layer.0.output.dense.bias"
TASK = (CLASSES, CLASSES)
BAD = {
    r"word_embeddings.weight has shape \(140, 32\), in the model \(150, 32\)": (
        {WORDS: drawn((140, 32), 0.1, 0)}, {}, ()),
    "base other than tiny: .*weight has shape": ({WORDS: torch.zeros(140, 32)}, {}, ()),
    "no tensor roberta.layers.weight": ({"roberta.layers.weight": torch.ones(2)}, {}, ()),
    f"{BIAS}: stored whole": ({}, {BIAS: torch.ones(32)}, ()),
    "holds classifier.dense.bias: the vector of a task": ({}, CLASSES, ()),
    "does not record the order": ({}, CLASSES, (CLASSES,)),
    "its classes are a, b, c, expected": ({}, CLASSES, (CLASSES, ["a", "b", "c"])),
    "3 classes: classifier.out_proj.weight has shape": ({}, [*CLASSES, "x"], TASK),
    "no classifier.dense.bias": ({}, {"classifier.dense.weight": torch.ones(32, 32)}, TASK),
    "no tensor classifier.weight": ({}, {"classifier.weight": torch.ones(3, 32)}, TASK),
    "of tiny for 3 classes: the model has no tensor lm_head.bias": ({}, LM_HEAD, TASK),
}  # fmt: skip


@pytest.mark.parametrize("message", BAD)
def test_what_does_not_fit_is_refused_by_name(tmp_path, base, message):
    diffs, head, classes = BAD[message]
    whole = head if isinstance(head, dict) else head_of(base, head)
    write_public(tmp_path / "v.bin", {**differences(base, 0), **diffs}, whole)
    with pytest.raises(ArtefactError, match=message):
        read_foreign(tmp_path / "v.bin", base, *classes)


def test_one_of_ours_for_another_base_is_refused(tmp_path, base):
    vector = SparseDelta(Mask({}, {}), {})
    vector.save(tmp_path / "sft_model.safetensors", base={"id": "other", "hash": "0" * 64})
    with pytest.raises(ArtefactError, match="made for base other"):
        read_foreign(tmp_path / "sft_model.safetensors", base)


def test_a_file_with_another_checksum_is_refused(tmp_path, base, capsys):
    write_public(tmp_path / "v.bin", differences(base, 0), {})
    out = tmp_path / "o/sft_model.safetensors"
    assert "did it change?" in fails(
        capsys, "convert", "--method", "m", "--target", "lang-qaa", "--base", base.folder,
        "--vector", tmp_path / "v.bin", "--out", out, "--content", "'" + "0" * 64 + "'"
    )  # fmt: skip
    assert not out.exists()


def test_differences_of_a_pooler_become_part_of_the_head(tmp_path):
    base = made_base(tmp_path, BertForPreTraining(BERT))  # has a pooler
    pooler = {n: p for n, p in head_of(base, seed=3).items() if n.startswith("bert.pooler.")}
    assert len(pooler) == 2
    diffs = differences(base, 0, prefix="bert.")
    moved = {name: drawn(p.shape, 0.1, 7) for name, p in pooler.items()}
    head = {"classifier.weight": drawn((3, 32), 1, 8), "classifier.bias": torch.ones(3)}
    untrained = {name: torch.zeros_like(p) for name, p in pooler.items()}
    for change, given in ((moved, {**diffs, **moved}), (untrained, diffs)):
        write_public(tmp_path / "v.bin", given, head)
        found = read_foreign(tmp_path / "v.bin", base, CLASSES, CLASSES)
        for name in pooler:
            assert torch.equal(found.head[name], pooler[name] + change[name]), name


def test_a_pooler_that_the_base_lacks_is_an_error(tmp_path):
    base = made_base(tmp_path, BertForMaskedLM(BERT))
    head = {"classifier.weight": torch.ones(3, 32), "classifier.bias": torch.ones(3)}
    write_public(tmp_path / "v.bin", differences(base, 0, prefix="bert."), head)
    with pytest.raises(ArtefactError, match=r"pooler.* relative to that of the base"):
        read_foreign(tmp_path / "v.bin", base, CLASSES, CLASSES)


@pytest.mark.rounding
def test_converted_vectors_give_the_logits_of_the_public_code(shared, tmp_path):
    folder = shared / "oracles/lt-sft"
    file = safe_open(folder / "composed.safetensors", framework="pt")
    config = json.loads(file.metadata()["config"])
    model = XLMRobertaForMaskedLM(XLMRobertaConfig(**config, architectures=["x"]))
    with torch.no_grad():
        for name, parameter in backbone_parameters(model).items():
            parameter.copy_(file.get_tensor("base." + name))
    base = made_base(tmp_path, model)
    convert(base, folder / "lang-b", "lang-qab", tmp_path / "l")
    convert(base, folder / "task", "task-x", tmp_path / "t")
    total = SparseDelta.load(tmp_path / "t") + SparseDelta.load(tmp_path / "l")
    classifier = load_classifier(base, CLASSES, seed=0).eval()
    with torch.no_grad(), total.applied(classifier):
        for name, parameter in backbone_parameters(classifier).items():
            theirs = file.get_tensor(f"composed.roberta.{name}")
            # Three terms added up in two orders: an ulp of the largest.
            ulp = torch.finfo(torch.float32).eps * max(parameter.abs().max(), theirs.abs().max())
            assert (parameter - theirs).abs().max() <= ulp, name
        # In float64, so that the difference is the rounding of the other side: data, on any CPU.
        logits = copy.deepcopy(classifier).double()(file.get_tensor("input_ids")).logits
    torch.testing.assert_close(logits, file.get_tensor("logits").double(), rtol=0, atol=1e-6)


def test_the_content_of_a_converted_file_does_not_depend_on_when_or_where(tmp_path, base):
    for zipped, folder in ((True, "a"), (False, "b")):
        write_public(tmp_path / folder / "pytorch_diff.bin", differences(base, 0), LM_HEAD, zipped)
        convert(base, tmp_path / folder, "lang-qaa", tmp_path / f"{folder}-out")
    files = [TensorFile(tmp_path / f"{n}-out/sft_model.safetensors") for n in "ab"]
    assert files[0].content == files[1].content
