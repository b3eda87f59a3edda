"""The vectors of others keep every difference and fit their base, or an error says why not."""

import json
import logging

import numpy as np
import pytest
import torch
from conftest import sentences
from lt_sft_files import dense, drawn, write_public
from safetensors import safe_open
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForPreTraining,
    XLMRobertaConfig,
    XLMRobertaForMaskedLM,
)

from deftx.cli.main import main
from deftx.core.mask import Mask
from deftx.core.parameters import backbone_parameters, head_parameters
from deftx.core.sparse_delta import SparseDelta
from deftx.exchange.foreign import read_foreign
from deftx.exchange.lt_sft import decode
from deftx.models.base import Base
from deftx.models.load import load_classifier
from deftx.stages.base.pretrain import train_tokenizer
from deftx.store.errors import ArtefactError
from deftx.store.tensors import TensorFile

CLASSES = ["negative", "neutral", "positive"]


@pytest.fixture(autouse=True)
def _in_this_process(monkeypatch):
    """Spares the seconds of another process; test_lt_sft.py holds both to be equal."""
    monkeypatch.setattr("deftx.exchange.foreign.read_lt_sft", decode)


def differences(base, seed, share=0.05, prefix="roberta."):
    return {
        prefix + name: drawn(shape, share, seed + i)
        for i, (name, shape) in enumerate(base.maskable.items())
    }


def head_of(base, classes=3):
    model = load_classifier(base, [str(i) for i in range(classes)], seed=5)
    return {name: p.detach().clone() for name, p in head_parameters(model).items()}


LM_HEAD = {"lm_head.bias": torch.ones(150), "lm_head.dense.weight": torch.ones(32, 32)}


@pytest.mark.parametrize("prefix", ["roberta.", ""])
def test_a_language_is_converted_whole_and_its_head_left_out_with_a_log_line(
    tmp_path, base, caplog, prefix
):
    expected = differences(base, 0, prefix=prefix)
    write_public(tmp_path / "v/pytorch_diff.bin", expected, LM_HEAD)
    with caplog.at_level(logging.INFO, "deftx"):
        convert(base, tmp_path / "v", "lang-qaa", tmp_path / "out/sft_model.safetensors")
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


def convert(base, vector, target, out, *options):
    arguments = ["--method", "m", "--target", target, "--id", "of-others", "--base", base.folder,
                 "--vector", vector, "--out", out, *options]  # fmt: skip
    assert main(["convert", *map(str, arguments)]) == 0


def test_each_class_keeps_its_logit_whatever_the_order(tmp_path, base):
    stored = ["positive", "negative", "neutral"]
    expected, head = differences(base, 1), head_of(base)
    write_public(tmp_path / "v.bin", expected, head)
    convert(base, tmp_path / "v.bin", "task-x", tmp_path / "o/sft_model.safetensors",
            "--classes", str(CLASSES), "--stored-classes", str(stored))  # fmt: skip
    found = SparseDelta.load(tmp_path / "o")
    assert found.provenance["params"]["classes"] == CLASSES
    ids = torch.tensor([[0, 7, 9, 30, 2], [0, 8, 50, 51, 2]])
    model = load_classifier(base, CLASSES, seed=0).eval()
    with torch.no_grad(), found.applied(model):
        ours = model(ids).logits
    other = load_classifier(base, stored, seed=0).eval()
    with torch.no_grad():
        for name, parameter in backbone_parameters(other).items():
            if "roberta." + name in expected:
                parameter += expected["roberta." + name]
        for name, parameter in head_parameters(other).items():
            parameter.copy_(head[name])
        theirs = other(ids).logits
    for number, label in enumerate(CLASSES):
        torch.testing.assert_close(
            ours[:, number], theirs[:, stored.index(label)], rtol=1e-6, atol=1e-6
        )
    # What is ours already is converted again without loss, and records its classes itself.
    again = read_foreign(tmp_path / "o/sft_model.safetensors", base, stored)
    for name, tensor in head.items():
        assert torch.equal(again.head[name], tensor), name
    assert again.mask.index.keys() == found.mask.index.keys()
    assert all(torch.equal(again.values[n], found.values[n]) for n in found.values)


def test_what_does_not_fit_is_refused_by_name(tmp_path, base):
    path, task = tmp_path / "v.bin", {"classes": CLASSES, "stored_classes": CLASSES}

    def fails(message, diffs, whole, **classes):
        write_public(path, diffs, whole)
        with pytest.raises(ArtefactError, match=message):
            read_foreign(path, base, **classes)

    good, head = differences(base, 0), head_of(base)
    wrong = {**good, "roberta.embeddings.word_embeddings.weight": drawn((140, 32), 0.1, 0)}
    fails(r"word_embeddings.weight has shape \(140, 32\), in tiny \(150, 32\)", wrong, {})
    empty = {**good, "roberta.embeddings.word_embeddings.weight": torch.zeros(140, 32)}
    fails("word_embeddings.weight has shape", empty, {})
    fails("roberta.layers.weight: tiny has no such", {**good, "roberta.layers.weight": wrong[
        "roberta.embeddings.word_embeddings.weight"]}, {})  # fmt: skip
    name = "roberta.encoder.layer.0.output.dense.bias"
    fails(f"{name}: stored whole", good, {name: torch.ones(32)})
    fails("holds classifier.dense.bias: the vector of a task", good, head)
    fails("does not record the order", good, head, classes=CLASSES)
    fails("its classes are a, b, c, expected negative", good, head, classes=CLASSES,
          stored_classes=["a", "b", "c"])  # fmt: skip
    fails("out_proj.bias has shape|out_proj.weight has shape", good, head_of(base, 4), **task)
    fails("no classifier.dense.bias", good, {
        n: t for n, t in head.items() if n != "classifier.dense.bias"}, **task)  # fmt: skip
    fails("classifier.weight: the classifier of tiny has no such", good,
          {"classifier.weight": torch.ones(3, 32)}, **task)  # fmt: skip
    fails("lm_head.bias: the classifier of tiny has no such", good, LM_HEAD, **task)


def test_one_of_ours_for_another_base_is_refused(tmp_path, base):
    vector = SparseDelta(Mask({}, {}), {})
    vector.save(tmp_path / "sft_model.safetensors", base={"id": "other", "hash": "0" * 64})
    with pytest.raises(ArtefactError, match="made for base other"):
        read_foreign(tmp_path / "sft_model.safetensors", base)


def test_a_file_with_another_checksum_is_refused(tmp_path, base, capsys):
    write_public(tmp_path / "v.bin", differences(base, 0), {})
    arguments = ["--method", "m", "--target", "lang-qaa", "--id", "x", "--base", base.folder,
                 "--vector", tmp_path / "v.bin", "--out", tmp_path / "o/sft_model.safetensors",
                 "--content", "'" + "0" * 64 + "'"]  # fmt: skip
    assert main(["convert", *map(str, arguments)]) == 1
    assert "did it change?" in capsys.readouterr().err
    assert not (tmp_path / "o/sft_model.safetensors").exists()


# Other encoders


def made_base(folder, model, pooled=False):
    """A base of a model, as the stage makes it."""
    tokenizer = train_tokenizer(sentences(200), 150)
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    assert main(["base", "--id", "other", "--model", str(folder / "model"), "--out",
                 str(folder / "base/model.safetensors")]) == 0  # fmt: skip
    return Base.load(folder / "base")


BERT = BertConfig(
    vocab_size=150, hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
    intermediate_size=48, max_position_embeddings=40, pad_token_id=1,
)  # fmt: skip


def test_differences_of_a_pooler_become_part_of_the_head(tmp_path):
    base = made_base(tmp_path, BertForPreTraining(BERT))  # has a pooler
    theirs = load_classifier(base, CLASSES, seed=3)
    pooler = {
        name: p.detach().clone()
        for name, p in theirs.named_parameters()
        if name.startswith("bert.pooler.")
    }
    assert len(pooler) == 2
    diffs = differences(base, 0, prefix="bert.")
    moved = {name: drawn(p.shape, 0.1, 7) for name, p in pooler.items()}
    head = {"classifier.weight": drawn((3, 32), 1, 8), "classifier.bias": torch.ones(3)}
    write_public(tmp_path / "v.bin", {**diffs, **moved}, head)
    found = read_foreign(tmp_path / "v.bin", base, CLASSES, CLASSES)
    for name in pooler:
        assert torch.equal(found.head[name], pooler[name] + moved[name]), name
    write_public(tmp_path / "v.bin", diffs, head)  # one that did not train it
    found = read_foreign(tmp_path / "v.bin", base, CLASSES, CLASSES)
    assert all(torch.equal(found.head[name], pooler[name]) for name in pooler)


def test_a_pooler_that_the_base_lacks_is_an_error(tmp_path):
    base = made_base(tmp_path, BertForMaskedLM(BERT))
    head = {"classifier.weight": torch.ones(3, 32), "classifier.bias": torch.ones(3)}
    write_public(tmp_path / "v.bin", differences(base, 0, prefix="bert."), head)
    with pytest.raises(ArtefactError, match=r"pooler.* relative to that of the base"):
        read_foreign(tmp_path / "v.bin", base, CLASSES, CLASSES)


def test_converted_vectors_give_the_logits_of_the_public_code(shared, tmp_path):
    folder = shared / "oracles/lt-sft"
    file = safe_open(folder / "composed.safetensors", framework="pt")
    config = json.loads(file.metadata()["config"])
    model = XLMRobertaForMaskedLM(XLMRobertaConfig(**config, architectures=["x"]))
    with torch.no_grad():
        for name, parameter in backbone_parameters(model).items():
            parameter.copy_(file.get_tensor("base." + name))
    base = made_base(tmp_path, model)
    convert(base, folder / "lang-b", "lang-qab", tmp_path / "l/sft_model.safetensors")
    convert(base, folder / "task", "task-x", tmp_path / "t/sft_model.safetensors",
            "--classes", str(CLASSES), "--stored-classes", str(CLASSES))  # fmt: skip
    total = SparseDelta.load(tmp_path / "t") + SparseDelta.load(tmp_path / "l")
    classifier = load_classifier(base, CLASSES, seed=0).eval()
    with torch.no_grad(), total.applied(classifier):
        for name, parameter in backbone_parameters(classifier).items():
            theirs = file.get_tensor(f"composed.roberta.{name}")
            assert np.allclose(parameter.numpy(), theirs.numpy(), rtol=0, atol=3e-8), name
        logits = classifier(file.get_tensor("input_ids")).logits
    torch.testing.assert_close(logits, file.get_tensor("logits"), rtol=0, atol=1e-6)


def test_the_content_of_a_converted_file_does_not_depend_on_when_or_where(tmp_path, base):
    for zipped, folder in ((True, "a"), (False, "b")):
        write_public(tmp_path / folder / "pytorch_diff.bin", differences(base, 0), LM_HEAD, zipped)
        out = tmp_path / f"{folder}-out/sft_model.safetensors"
        convert(base, tmp_path / folder, "lang-qaa", out)
    files = [TensorFile(tmp_path / f"{n}-out/sft_model.safetensors") for n in "ab"]
    assert files[0].content == files[1].content
