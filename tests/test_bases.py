"""What the stage `base` takes, mends and refuses; what is known of a base; what protects it."""

import ast
import json
import logging
import shutil

import pytest
import torch
from conftest import PROJECT, sentences
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from torch import save as write_pickle
from training import CLASSES
from transformers import BertConfig, BertForMaskedLM, XLMRobertaForSequenceClassification

from deftx.cli.main import main
from deftx.models.base import Base
from deftx.models.load import load_classifier, load_masked_lm, load_tokenizer
from deftx.plan.feasible import Uses, check_uses
from deftx.stages.base.pretrain import train_tokenizer
from deftx.store import tensors as store_tensors
from deftx.store.errors import ArtefactError, InputError
from deftx.store.tensors import TensorFile, save_tensors

WEIGHTS = "model.safetensors"


@pytest.fixture
def model(base_folder, tmp_path):
    """A copy of the tiny base's model, to be changed."""
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", WEIGHTS):
        shutil.copyfile(base_folder / name, folder / name)
    return folder


def make(model, *more, out="base"):
    """The status of the stage `base` on a folder."""
    to = model.parent / out / WEIGHTS
    return main(["base", "--id", "x", "--model", str(model), "--out", str(to), *more])


def made(model, *more, out="base"):
    assert make(model, *more, out=out) == 0
    return Base.load(model.parent / out)


def edit(path, change):
    facts = json.loads(path.read_text(encoding="utf-8"))
    change(facts)
    path.write_text(json.dumps(facts), encoding="utf-8")


def rewrite(model, change):
    """Write the weights again with other names or values."""
    save_file(change(load_file(model / WEIGHTS)), model / WEIGHTS, metadata={"format": "pt"})


def without_head(tensors):
    return {name: t for name, t in tensors.items() if not name.startswith("lm_head")}


def bert(folder):
    """A BERT without tokenizer."""
    torch.manual_seed(0)
    shape = {"vocab_size": 150, "hidden_size": 32, "num_hidden_layers": 1, "pad_token_id": 1}
    config = BertConfig(**shape, num_attention_heads=2, intermediate_size=48)
    BertForMaskedLM(config).save_pretrained(folder)
    return folder


def refused(model, capsys, *words, more=()):
    assert make(model, *more) == 1
    message = capsys.readouterr().err
    assert all(word in message for word in words), message
    assert not (model.parent / "base/backbone.json").exists()


def test_a_model_that_fits_is_copied_byte_for_byte(model, base):
    found = made(model)
    for name in ("config.json", "tokenizer.json", WEIGHTS):
        assert (found.folder / name).read_bytes() == (model / name).read_bytes()
    assert found.identity == {**base.identity, "id": "x"}


# The weights


def test_a_missing_head_is_refused_unless_it_is_drawn_from_a_seed(model, capsys):
    rewrite(model, without_head)
    refused(model, capsys, "no language-model head", "lm_head.dense.weight", "head: fresh")
    first, again, other = (
        made(model, "--head", "fresh", "--head-seed", str(seed), out=f"base{number}")
        for number, seed in enumerate((0, 0, 1))
    )
    weights = [(b.folder / WEIGHTS).read_bytes() for b in (first, again, other)]
    assert weights[0] == weights[1] != weights[2]
    assert first.identity == again.identity == other.identity, "of the backbone alone"
    head = "lm_head.dense.weight"
    assert torch.equal(
        load_masked_lm(first).get_parameter(head), load_masked_lm(again).get_parameter(head)
    )


@pytest.mark.parametrize("classes", [2, 5])
def test_a_classifier_as_base_is_logged_and_its_head_is_drawn_from_the_seed(model, caplog, classes):
    caplog.set_level(logging.INFO)
    torch.manual_seed(classes)
    tuned = XLMRobertaForSequenceClassification.from_pretrained(model, num_labels=classes)
    tuned.save_pretrained(model)
    found = made(model, "--head", "fresh")
    assert "the checkpoint of a classifier" in caplog.text
    heads = [load_classifier(found, CLASSES, seed).classifier.out_proj.weight for seed in (1, 1, 2)]
    assert torch.equal(heads[0], heads[1]) and not torch.equal(heads[0], heads[2])
    stored = tuned.classifier.dense.weight
    assert not torch.equal(load_classifier(found, CLASSES, 1).classifier.dense.weight, stored)


def test_both_heads_in_one_file_do_not_make_the_classifiers_the_fresh_one(model):
    tuned = XLMRobertaForSequenceClassification.from_pretrained(model)
    own = {n: t.detach() for n, t in tuned.state_dict().items() if n.startswith("classifier")}
    rewrite(model, lambda tensors: tensors | own)
    found = made(model)
    assert not any(name.startswith("classifier") for name in load_file(found.folder / WEIGHTS))


def test_names_of_old_versions_are_mapped(model, base):
    def old(tensors):
        return {
            name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
                "LayerNorm.bias", "LayerNorm.beta"
            ): tensor
            for name, tensor in tensors.items()
        }

    rewrite(model, old)
    found = made(model)
    assert found.identity["hash"] == base.identity["hash"]


def test_a_pooler_outlives_the_writing_of_weights(tmp_path):
    torch.manual_seed(0)
    shape = {"vocab_size": 150, "hidden_size": 32, "num_hidden_layers": 1, "pad_token_id": 1}
    config = BertConfig(**shape, num_attention_heads=2, intermediate_size=48)
    model = tmp_path / "model"
    BertForMaskedLM(config).save_pretrained(model)
    train_tokenizer(sentences(200), 150).save_pretrained(model)
    pooler = {
        "bert.pooler.dense.weight": torch.randn(32, 32),
        "bert.pooler.dense.bias": torch.ones(32),
    }
    rewrite(model, lambda tensors: tensors | pooler | {"classifier.weight": torch.ones(2, 32)})
    classifier = load_classifier(made(model), CLASSES, seed=0)
    for name, tensor in pooler.items():
        assert torch.equal(classifier.get_parameter(name), tensor)


def test_shards_are_read(model, base):
    tensors = load_file(model / WEIGHTS)
    names = sorted(tensors)
    first, second = (f"model-0000{number}-of-00002.safetensors" for number in (1, 2))
    parts = {first: names[:9], second: names[9:]}
    for file, own in parts.items():
        save_file({n: tensors[n] for n in own}, model / file, metadata={"format": "pt"})
    (model / WEIGHTS).unlink()
    index = {"metadata": {}, "weight_map": {n: file for file, own in parts.items() for n in own}}
    (model / f"{WEIGHTS}.index.json").write_text(json.dumps(index))
    assert made(model).identity["hash"] == base.identity["hash"]


def test_an_index_of_shards_names_files_beside_it_only(model, capsys):
    (model / WEIGHTS).rename(model.parent / WEIGHTS)
    (model / f"{WEIGHTS}.index.json").write_text(json.dumps({"weight_map": {"x": f"../{WEIGHTS}"}}))
    refused(model, capsys, f"'../{WEIGHTS}'")


class Evil:
    def __reduce__(self):
        return (print, ("code ran",))


def test_a_pickle_is_read_on_request_only_and_as_tensors_only(model, base, capsys):
    write_pickle(load_file(model / WEIGHTS), model / "pytorch_model.bin")
    (model / WEIGHTS).unlink()
    refused(model, capsys, "no model.safetensors", "allow_pickle: true")
    found = made(model, "--allow-pickle", "true")
    assert found.identity["hash"] == base.identity["hash"]
    write_pickle({"x": Evil()}, model / "pytorch_model.bin")
    assert make(model, "--allow-pickle", "true", out="evil") == 1
    output = capsys.readouterr()
    assert "code ran" not in output.out and "cannot be read" in output.err


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_named(model, capsys, value):
    name = "roberta.encoder.layer.1.output.dense.bias"
    rewrite(model, lambda tensors: tensors | {name: torch.full_like(tensors[name], value)})
    refused(model, capsys, name, "NaN or infinity")


def test_damaged_weights_are_one_message(model, capsys):
    (model / WEIGHTS).write_bytes(b"garbage" * 99)
    refused(model, capsys, "the weights cannot be read")


def test_a_tensor_that_is_missing_or_has_another_shape_is_named(model, capsys):
    name = "roberta.encoder.layer.0.output.dense.bias"
    kept = load_file(model / WEIGHTS)
    rewrite(model, lambda tensors: {n: t for n, t in tensors.items() if n != name})
    refused(model, capsys, name)
    rewrite(model, lambda tensors: kept | {name: torch.ones(7)})
    refused(model, capsys, name, "(7,)", "(32,)")


# The tokenizer


def test_a_tokenizer_that_is_not_its_files_is_refused_with_the_first_piece(tmp_path, capsys):
    """Without a config, transformers makes BERT's tokenizer anew, and lowers all letters."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abTt", *(f"##{x}" for x in "abehHE")]
    own = Tokenizer(models.WordPiece({w: n for n, w in enumerate(words)}, unk_token="[UNK]"))
    own.normalizer = normalizers.BertNormalizer(lowercase=False)
    own.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    bert(tmp_path / "model")
    own.save(str(tmp_path / "model/tokenizer.json"))
    words = ("is not that of tokenizer.json", "piece", "by the file", "tokenizer_class")
    refused(tmp_path / "model", capsys, *words)


def test_a_tokenizer_that_splits_otherwise_than_for_the_base_is_refused(model, monkeypatch):
    base = made(model)
    load_tokenizer(base)
    monkeypatch.setattr("deftx.models.load.read_tokenizer", lambda _: lowered(base))
    with pytest.raises(ArtefactError, match=r"is not that of tokenizer\.json: piece"):
        load_tokenizer(base)


def lowered(base):
    from deftx.models.tokenizer import read_tokenizer

    tokenizer = read_tokenizer(base.folder)
    tokenizer.backend_tokenizer.normalizer = normalizers.Replace("b", "d")
    return tokenizer


def test_vectors_of_another_tokenizer_are_refused(base):
    base.check({"base": base.identity}, "v")
    with pytest.raises(ArtefactError, match="another tokenizer"):
        base.check({"base": {**base.identity, "canary": "0"}}, "v")


def test_more_pieces_than_rows_are_refused_with_both_numbers(model, capsys):
    more = train_tokenizer(
        [f"{line} {chr(1000 + n)}" for n, line in enumerate(sentences(200))], 300
    )
    more.save_pretrained(model)
    refused(model, capsys, "pieces, but the word embeddings have", f"{len(more)} pieces")


@pytest.mark.parametrize("token", ["pad_token", "mask_token"])
def test_a_missing_token_is_named(model, capsys, token):
    edit(model / "tokenizer_config.json", lambda facts: facts.pop(token))
    refused(model, capsys, f"no {'padding' if token == 'pad_token' else 'mask'} token ({token})")


def test_a_padding_token_must_be_the_row_for_padding(model, capsys):
    edit(model / "config.json", lambda facts: facts.update(pad_token_id=3))
    refused(model, capsys, "is piece 1, but row 3")


@pytest.mark.parametrize("text", ["{}", "[", "null"])
def test_a_damaged_tokenizer_is_one_message(model, capsys, text):
    (model / "tokenizer.json").write_text(text)
    refused(model, capsys, "okenizer")


def test_a_vocabulary_that_transformers_cannot_convert_names_the_command(model, capsys):
    (model / "tokenizer.json").unlink()
    (model / "sentencepiece.bpe.model").write_bytes(b"no model")
    refused(model, capsys, "no tokenizer.json", "save_pretrained")


# What is known of it


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json"])
def test_a_changed_file_of_a_base_is_refused_and_set_aside(model, name):
    base = made(model)
    (base.folder / name).write_bytes((base.folder / name).read_bytes() + b" ")
    with pytest.raises(ArtefactError, match=f"{name}: corrupt"):
        Base.load(base.folder)
    assert (base.folder / f"{name}.corrupt").exists()


def test_a_file_that_was_not_there_is_refused(model):
    base = made(model)
    (base.folder / "added_tokens.json").write_text("{}")
    with pytest.raises(ArtefactError, match=r"added_tokens\.json: no file of this base"):
        Base.load(base.folder)


def test_code_of_a_base_never_runs(model, capsys):
    (model / "own.py").write_text("print('code ran')")
    edit(model / "config.json", lambda facts: facts.update(
        model_type="own", auto_map={"AutoConfig": "own.Config", "AutoModelForMaskedLM": "own.M"}
    ))  # fmt: skip
    refused(model, capsys, "config.json: transformers cannot use it")
    assert "code ran" not in capsys.readouterr().out


def test_every_loader_of_transformers_is_called_without_trust_in_code():
    loaders = ("from_pretrained", "from_config")
    for path in (PROJECT / "deftx").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and vars(node.func).get("attr") in loaders:
                trust = [k.value for k in node.keywords if k.arg == "trust_remote_code"]
                assert [ast.literal_eval(each) for each in trust] == [False], path


def test_what_cannot_work_is_known_before_anything_trains(base):
    assert base.positions == 32
    check_uses(base, Uses(lengths={"a": 32}, swaps={"b": {"bottom": 1, "top": 1}}))
    cases = {
        "language_training: max_length is 33, the base has room for 32": {
            "lengths": {"language_training": 33}
        },
        "systems.s.combine: layer_swap: .* take 3 layers, but there are 2": {
            "swaps": {"systems.s.combine": {"bottom": 2, "top": 1}}
        },
        r"methods.m \(for a task\): adapter.drop_last is 2": {
            "methods": {"m": {"task": {"adapter": {"drop_last": 2}}}}
        },
    }
    for message, uses in cases.items():
        with pytest.raises(InputError, match=message):
            check_uses(base, Uses(**uses))


def test_versions_are_recorded_and_others_are_warned_of_once(tmp_path, monkeypatch, caplog):
    for name in "ab":
        save_tensors(tmp_path / f"{name}.safetensors", {"x": torch.ones(1)}, stage="full")
    known = TensorFile(tmp_path / "a.safetensors").provenance["libraries"]
    assert known.keys() == {"torch", "transformers", "tokenizers"} and not caplog.records
    monkeypatch.setattr(store_tensors, "libraries", lambda: {**known, "torch": "1.0"})
    for name in "ab":
        TensorFile(tmp_path / f"{name}.safetensors")
    (warning,) = caplog.records
    assert f"torch {known['torch']}" in warning.message and "torch 1.0" in warning.message
