"""The verbs for people with a vector and a text, each against a plain way to the same result."""

import copy
import csv
import json
import math

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import sentences
from lt_sft_files import (
    BERT,
    CLASSES,
    LM_HEAD,
    call,
    convert,
    dense,
    differences,
    fails,
    head_of,
    made_base,
    write_public,
)
from peft import PeftModel
from training import one_forward_pass
from transformers import (
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertForPreTraining,
    ModernBertConfig,
    ModernBertForMaskedLM,
)

from deftx.core.mask import Mask
from deftx.core.parameters import backbone_parameters, weights_of
from deftx.core.sparse_delta import SparseDelta
from deftx.exchange.prior import add_bias
from deftx.exchange.shira import save_shira
from deftx.models.base import Base
from deftx.models.load import load_classifier, load_masked_lm
from deftx.models.predict import predict
from deftx.report.anatomy import anatomy, common
from deftx.report.places import place
from deftx.stages.prior.math import prior_bias
from deftx.store.errors import InputError
from deftx.store.items import write_items
from deftx.store.tensors import TensorFile, save_tensors

# Warnings about how PEFT uses transformers and PyTorch.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated"),
    pytest.mark.filterwarnings("ignore:Sparse invariant checks"),
]

IDS = torch.tensor([[0, 7, 9, 30, 2], [0, 8, 50, 51, 2]])


def saved(base, folder, seed, classes=None):
    """A vector as the stage `sparse` leaves it, with entries everywhere but in normalisation."""
    delta = {n: 0.1 * tensor for n, tensor in differences(base, seed, prefix="").items()}
    index = {n: t.flatten().nonzero().flatten() for n, t in delta.items() if t.any()}
    mask = Mask(index, {name: base.shapes[name] for name in index})
    head = head_of(base, classes, seed=9) if classes else {}
    SparseDelta.from_dense(delta, mask, head).save(
        folder / "sft_model.safetensors",
        stage="sparse",
        method="m",
        target="task-x" if classes else "lang-qaa",
        start="base",
        seed=seed,
        base=base.identity,
        params={"classes": classes, "task": {"max_length": 24} if classes else None},
        outcome={},
    )


MODELS = {
    "xlm-roberta": None,
    "bert": lambda: BertForPreTraining(BERT),
    "modernbert": lambda: ModernBertForMaskedLM(
        ModernBertConfig(
            vocab_size=150, hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
            intermediate_size=48, max_position_embeddings=40, pad_token_id=1, bos_token_id=0,
            eos_token_id=2, cls_token_id=0, sep_token_id=2,
        )
    ),
}  # fmt: skip


@pytest.fixture(scope="module", params=MODELS)
def run(request, base_folder, tmp_path_factory):
    """A run's folder with base, vectors and a test set; and the base."""
    folder = tmp_path_factory.mktemp("run")
    if MODELS[request.param] is None:
        (folder / "base").symlink_to(base_folder)
    else:
        made_base(folder, MODELS[request.param]())
    base = Base.load(folder / "base")
    saved(base, folder / "task", 1, CLASSES)
    saved(base, folder / "lang", 2)
    items = [
        {"id": str(i), "text": text, "label": CLASSES[i % 3]}
        for i, text in enumerate(sentences(20, seed=4))
    ]
    write_items(folder / "test.parquet", items)
    return folder, base


def evaluated(folder, tmp_path):
    """The logits of the stages `compose` and `evaluate`."""
    where = ["--system", "s", "--task", "x", "--language", "qaa", "--base", folder / "base"]
    call("compose", *where, "--task-vector", folder / "task/sft_model.safetensors",
         "--language-vector", folder / "lang/sft_model.safetensors",
         "--out", tmp_path / "c.safetensors")  # fmt: skip
    call("evaluate", *where, "--classes", CLASSES, "--max-length", 24, "--composed",
         tmp_path / "c.safetensors", "--test", folder / "test.parquet",
         "--out", tmp_path / "e.safetensors")  # fmt: skip
    return TensorFile(tmp_path / "e.safetensors")["logits"]


@pytest.mark.rounding
def test_a_model_folder_is_what_evaluate_evaluates(run, tmp_path):
    folder, _ = run
    call("apply", folder / "task", folder / "lang", "--out", tmp_path / "model")
    assert not [*(tmp_path / "model").glob("*.bin"), *(tmp_path / "model").glob("*.pkl")]
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model").eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    assert model.config.id2label == dict(enumerate(CLASSES))
    assert model.config.label2id == {label: i for i, label in enumerate(CLASSES)}
    items = [{"text": text} for text in sentences(20, seed=4)]
    logits = predict(model, items, tokenizer, max_length=24)
    assert torch.equal(logits, evaluated(folder, tmp_path))
    # As anyone calls it, one text at a time and without anything of ours.
    one, bound = one_forward_pass(model, tokenizer(items[0]["text"], return_tensors="pt"))
    assert (one[0] - logits[0]).abs().max() <= bound


@pytest.mark.rounding
def test_a_language_alone_becomes_a_masked_language_model(run, tmp_path):
    folder, base = run
    call("apply", folder / "lang", "--out", tmp_path / "model")
    model = AutoModelForMaskedLM.from_pretrained(tmp_path / "model").eval()
    expected = load_masked_lm(base).eval()
    with torch.no_grad(), SparseDelta.load(folder / "lang").applied(expected):
        torch.testing.assert_close(model(IDS).logits, expected(IDS).logits, rtol=0, atol=0)
        bare = AutoModel.from_pretrained(tmp_path / "model").eval()
        states = expected.base_model(IDS).last_hidden_state
        torch.testing.assert_close(bare(IDS).last_hidden_state, states, rtol=0, atol=0)


@pytest.mark.rounding
def test_predictions_need_no_label_and_are_those_of_the_model_folder(run, tmp_path, capsys):
    folder, _ = run
    texts = sentences(20, seed=4)
    (tmp_path / "t.txt").write_text("\n".join(texts))
    call("apply", folder / "task", folder / "lang", "--out", tmp_path / "model")
    for name, given in {"a": [folder / "task", folder / "lang"], "b": [tmp_path / "model"]}.items():
        call("predict", *given, "--file", tmp_path / "t.txt", "--out", tmp_path / f"{name}.csv")
    assert (tmp_path / "a.csv").read_text() == (tmp_path / "b.csv").read_text()
    rows = list(csv.DictReader((tmp_path / "a.csv").read_text().splitlines()))
    assert [row["text"] for row in rows] == texts
    expected = evaluated(folder, tmp_path).softmax(1)
    for row, probabilities in zip(rows, expected, strict=True):
        assert row["label"] == CLASSES[int(probabilities.argmax())]
        found = [float(row[f"p_{label}"]) for label in CLASSES]
        assert found == pytest.approx(probabilities.tolist(), abs=1e-6)  # six digits
    capsys.readouterr()
    call("predict", folder / "task", folder / "lang", "--text", texts[0], "--text", texts[1])
    printed = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    # In another batch, so to rounding: the last of six digits, and what a pass in float32 may be
    # wrong by; softmax makes differences no larger.
    for row, again in zip(rows[:2], printed, strict=True):
        assert [row[c] for c in ("id", "text", "label")] == [again[c] for c in list(row)[:3]]
        bound = 1e-6 + 2 * one_forward_pass(model, tokenizer(row["text"], return_tensors="pt"))[1]
        assert all(abs(float(row[f"p_{c}"]) - float(again[f"p_{c}"])) <= bound for c in CLASSES)


@pytest.mark.rounding
def test_a_prior_is_in_predictions_and_in_the_model_folder(run, tmp_path):
    """From a file of texts and from a file of the stage `prior`; both are the same bias."""
    folder, _ = run
    given, out = [folder / "task", folder / "lang"], tmp_path / "c.safetensors"
    logits = evaluated(folder, tmp_path).double().numpy()
    bias = prior_bias(logits, np.full(3, 1 / 3))
    (tmp_path / "t.txt").write_text("\n".join(sentences(20, seed=4)))
    call("prior", "--system", "s", "--task", "x", "--language", "qaa", "--base", folder / "base",
         "--classes", CLASSES, "--max-length", 24, "--composed", out, "--target", "uniform",
         "--unlabelled", folder / "test.parquet", "--out", tmp_path / "p.safetensors")  # fmt: skip
    stored = TensorFile(tmp_path / "p.safetensors")
    assert stored["bias"].numpy() == pytest.approx(bias, abs=1e-8)
    expected = torch.from_numpy(logits + bias).softmax(1)
    for name in ("t.txt", "p.safetensors"):
        to, prior = tmp_path / f"{name}.csv", ["--prior", tmp_path / name]
        call("predict", *given, "--file", tmp_path / "t.txt", *prior, "--out", to)
        call("apply", *given, *prior, "--out", tmp_path / f"{name} model")
        carried = tmp_path / f"{name}.again.csv"
        call("predict", tmp_path / f"{name} model", "--file", tmp_path / "t.txt", "--out", carried)
        for path in (to, carried):
            found = pd.read_csv(path).filter(like="p_").to_numpy()
            assert found == pytest.approx(expected.numpy(), abs=2e-6)  # six digits and float32
        card = (tmp_path / f"{name} model/README.md").read_text()
        assert "**With a prior.**" in card and f"`{name}`" in card and "20" in card
        facts = json.loads((tmp_path / f"{name} model/config.json").read_text())["deftx"]["prior"]
        assert facts["bias"] == pytest.approx(bias.tolist(), abs=1e-5)
        assert (facts["target"], facts["items"]) == ("uniform", 20)
    call("apply", *given, "--out", tmp_path / "plain")
    assert "prior" not in (tmp_path / "plain/README.md").read_text()


def test_a_folder_that_cannot_carry_a_prior_is_refused(base):
    model = load_classifier(base, CLASSES, seed=0)
    model.classifier.out_proj = torch.nn.Linear(32, 3, bias=False)
    with pytest.raises(InputError, match="XLMRobertaForSequenceClassification: no linear layer"):
        add_bias(model, np.zeros(3))


@pytest.mark.rounding
def test_shira_is_the_linear_part_and_lists_what_is_lost(run, tmp_path, capsys):
    folder, base = run
    call("export", folder / "task", folder / "lang", "--to", "shira", "--out", tmp_path / "a")
    total = SparseDelta.load(folder / "task") + SparseDelta.load(folder / "lang")
    expected = load_classifier(base, CLASSES, seed=0).eval()
    modules = dict(expected.base_model.named_modules())
    linear = {f"{n}.weight" for n, m in modules.items() if isinstance(m, torch.nn.Linear)}
    kept = [name for name in total.values if name in linear]
    index, values, shapes = (
        {name: full[name] for name in kept}
        for full in (total.mask.index, total.values, total.mask.shapes)
    )
    part = SparseDelta(Mask(index, shapes), values, total.head)
    assert 0 < len(part) < len(total)
    plain = load_classifier(base, CLASSES, seed=3)  # another head
    adapted = PeftModel.from_pretrained(plain, str(tmp_path / "a")).eval()
    with torch.no_grad():
        unmerged = copy.deepcopy(adapted).double()(IDS).logits
        merged = adapted.merge_and_unload()
        with part.applied(expected):
            exact, bound = one_forward_pass(expected, {"input_ids": IDS})
            assert (unmerged - exact).abs().max() <= bound  # PEFT adds up in float32
            theirs = backbone_parameters(merged)
            for name, parameter in backbone_parameters(expected).items():
                assert torch.equal(theirs[name], parameter), name
            assert torch.equal(merged(IDS).logits, expected(IDS).logits)
    counted = f"{len(part):,} of {len(total):,} entries"
    assert counted in capsys.readouterr().out
    card = (tmp_path / "a/README.md").read_text()
    assert f"{len(part):,} of the vector's" in card
    lost = {name: len(values) for name, values in total.values.items() if name not in kept}
    for name, entries in lost.items():
        assert f"| `{name}` | {entries:,} |" in card
    config = json.loads((tmp_path / "a/adapter_config.json").read_text())
    assert config["peft_type"] == "SHIRA"
    assert config["base_model_name_or_path"] == base.identity["id"]


def test_shira_of_a_language_goes_onto_a_classifier_too(run, tmp_path):
    folder, base = run
    call("export", folder / "lang", "--to", "shira", "--out", tmp_path / "a")
    plain = load_classifier(base, CLASSES, seed=3)
    before = weights_of(dict(plain.named_parameters()))
    merged = PeftModel.from_pretrained(plain, str(tmp_path / "a")).merge_and_unload()
    vector = SparseDelta.load(folder / "lang")
    changed = {n for n, p in merged.named_parameters() if not torch.equal(p, before[n])}
    assert changed and all(any(name.endswith(own) for own in vector.values) for name in changed)


def test_a_matrix_too_small_for_shira_is_left_out_and_listed(tmp_path, base):
    """The fullest layer needs r = 19; the other one has 1,024 entries, less than 19 · (32 + 32)."""
    names = [f"encoder.layer.0.{n}.weight" for n in ("intermediate.dense", "attention.self.query")]
    index = {names[0]: torch.arange(1500), names[1]: torch.arange(3)}
    shapes = {name: base.shapes[name] for name in names}
    vector = SparseDelta(Mask(index, shapes), {n: torch.ones(len(p)) for n, p in index.items()})
    carried = save_shira(base, vector, [], tmp_path / "a")
    assert (carried.r, carried.entries, carried.lost) == (19, 1500, {names[1]: 3})
    assert f"| `{names[1]}` | 3 |" in (tmp_path / "a/README.md").read_text()
    expected = dict(load_masked_lm(base).named_parameters())
    adapted = PeftModel.from_pretrained(load_masked_lm(base), str(tmp_path / "a"))
    merged = dict(adapted.merge_and_unload().named_parameters())
    with torch.no_grad():
        expected[f"roberta.{names[0]}"].view(-1)[:1500] += 1
    assert all(torch.equal(merged[n], expected[n]) for n in expected)


# Of one architecture


@pytest.fixture
def vectors(tmp_path, base):
    """A task's vector, a language's, and one of another task, beside each other."""
    saved(base, tmp_path / "task", 1, CLASSES)
    saved(base, tmp_path / "lang", 2)
    saved(base, tmp_path / "other", 3, CLASSES[::-1])
    return tmp_path


def test_a_table_of_a_vector_adds_up_to_it(vectors, base):
    vector = SparseDelta.load(vectors / "task")
    for by, of in (("layer", lambda n: place(n)[1]), ("module", lambda n: place(n)[0]),
                   ("tensor", str)):  # fmt: skip
        frame = anatomy(vector, by, base.maskable)
        assert frame["entries"].sum() == len(vector)
        assert frame["of"].sum() == sum(map(math.prod, base.maskable.values()))
        for row in frame.itertuples():
            own = [v for n, v in vector.values.items() if of(n) == getattr(row, by)]
            joined = torch.cat([torch.zeros(1), *own]).double()
            assert row.entries == len(joined) - 1
            assert row.norm == pytest.approx(float(joined.norm()))
            assert row.largest == pytest.approx(float(joined.abs().max()))
            assert row.share == row.entries / row.of
    layers = anatomy(vector, "layer")["layer"].tolist()
    assert layers == ["emb.", "0", "1"]


def test_what_two_vectors_share_is_counted_as_with_dense_tensors(vectors, base):
    a, b = (SparseDelta.load(vectors / name) for name in ("task", "lang"))
    frame = common(a, b, "tensor")
    shared = same = 0
    for name, shape in base.maskable.items():
        first, second = (dense(vector, name, shape) for vector in (a, b))
        both = (first != 0) & (second != 0)
        shared += int(both.sum())
        same += int((both & (first * second > 0)).sum())
        if name in frame["tensor"].tolist():
            row = frame[frame["tensor"] == name].iloc[0]
            assert row["shared"] == int(both.sum())
    whole = common(a, b).iloc[0]
    assert (whole["a"], whole["b"], whole["shared"]) == (len(a), len(b), shared)
    assert whole["overlap"] == shared / min(len(a), len(b))
    assert whole["same_sign"] == pytest.approx(same / shared)
    assert common(a, a).iloc[0][["overlap", "same_sign", "cosine"]].tolist() == pytest.approx(
        [1, 1, 1]
    )


def test_inspect_prints_origin_classes_and_entries(vectors, base, capsys):
    call("inspect", vectors / "task", "--by", "tensor")
    out = capsys.readouterr().out
    vector = SparseDelta.load(vectors / "task")
    assert f"{len(vector):,} in {len(vector.values)} tensors" in out
    assert base.identity["hash"] in out and "negative, neutral, positive" in out
    assert all(name in out for name in vector.values)
    assert "classifier.out_proj.weight (3, 32)" in out
    call("inspect", vectors / "task/sft_model.safetensors")
    assert "attention query" in capsys.readouterr().out


def test_overlap_compares_both_formats(vectors, base, capsys):
    vector = SparseDelta.load(vectors / "lang")
    theirs = {f"roberta.{n}": dense(vector, n, shape) for n, shape in base.maskable.items()}
    write_public(vectors / "theirs/pytorch_diff.bin", theirs, LM_HEAD)
    call("overlap", vectors / "lang", vectors / "theirs", "--by", "layer")
    out = capsys.readouterr().out
    assert out.count("100.00 %") >= 2 * 4  # of all, and of each layer
    call("inspect", vectors / "theirs")
    assert "public LT-SFT format" in capsys.readouterr().out


def test_vectors_of_the_public_code_predict_like_converted_ones(tmp_path, base):
    write_public(tmp_path / "task/pytorch_diff.bin", differences(base, 1), head_of(base))
    write_public(tmp_path / "lang/pytorch_diff.bin", differences(base, 2), LM_HEAD)
    (tmp_path / "t.txt").write_text("\n".join(sentences(5)))
    for name, target in {"task": "task-x", "lang": "lang-qaa"}.items():
        convert(base, tmp_path / name, target, tmp_path / f"ours-{name}")
    call("predict", tmp_path / "task", tmp_path / "lang", "--base", base.folder,
         "--classes", ",".join(CLASSES), "--file", tmp_path / "t.txt",
         "--out", tmp_path / "theirs.csv")  # fmt: skip
    call("predict", tmp_path / "ours-task", tmp_path / "ours-lang", "--base", base.folder,
         "--file", tmp_path / "t.txt", "--out", tmp_path / "ours.csv")  # fmt: skip
    assert (tmp_path / "theirs.csv").read_text() == (tmp_path / "ours.csv").read_text()


def test_tables_in_and_json_out(vectors, base, tmp_path):
    (tmp_path / "t.csv").write_text('nr,first,second\n7,"ba be, bi",bo bu\n9,da de,di do\n')
    call("predict", vectors / "task", "--base", base.folder, "--file", tmp_path / "t.csv",
         "--column", "first", "--pair-column", "second", "--id-column", "nr",
         "--out", tmp_path / "p.jsonl")  # fmt: skip
    rows = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text().splitlines()]
    assert [row["id"] for row in rows] == ["7", "9"]
    assert [row["text_pair"] for row in rows] == ["bo bu", "di do"]
    assert all(abs(sum(row[f"p_{c}"] for c in CLASSES) - 1) < 1e-5 for row in rows)


def test_every_row_has_one_prediction_under_its_own_id(vectors, base, tmp_path):
    """Cells with line breaks stay whole, and blank rows are answered as blank."""
    texts = {"a1": "ba be", "a2": "bi bo\nbu da\rde", "a3": " \n", "a4": 'di "do', "a5": ""}
    file, out = tmp_path / "t.csv", tmp_path / "p.csv"
    with open(file, "w", newline="") as opened:
        csv.writer(opened).writerows([["id", "text"], *texts.items()])
    task = ["predict", vectors / "task", "--base", base.folder]
    call(*task, "--file", file, "--id-column", "id", "--out", out)
    with open(out, newline="") as opened:
        rows = list(csv.DictReader(opened))
    assert [row["id"] for row in rows] == list(texts)
    assert rows[1]["text"] == "bi bo\nbu da\nde"
    assert [row["id"] for row in rows if not row["label"]] == ["a3", "a5"]
    assert rows[2][f"p_{CLASSES[0]}"] == "" and rows[0]["label"] in CLASSES
    (tmp_path / "t.txt").write_text("\n\n")
    call(*task, "--file", tmp_path / "t.txt", "--out", tmp_path / "p.jsonl")
    blank = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text().splitlines()]
    assert [(row["id"], row["label"]) for row in blank] == [("0", None), ("1", None)]
    odd = tmp_path / "odd"
    odd.write_text('7\t"ba be"\n9\t"bi\n')
    call(*task, "--file", odd, "--format", "tsv", "--no-header", "--id-column", "0", "--column",
         "1", "--out", out)  # fmt: skip
    assert '7,"""ba be""",' in out.read_text()


def test_any_model_folder_is_a_base(vectors, base, tmp_path):
    plain = tmp_path / "plain"
    plain.mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        if (base.folder / name).is_file():
            (plain / name).write_bytes((base.folder / name).read_bytes())
    arguments = [vectors / "task", vectors / "lang", "--text", "ba be"]
    call("predict", *arguments, "--base", plain, "--out", tmp_path / "a.csv")
    call("predict", *arguments, "--base", base.folder, "--out", tmp_path / "b.csv")
    assert (tmp_path / "a.csv").read_text() == (tmp_path / "b.csv").read_text()


TEXT, NEW = ["--text", "ba be"], ["--out", "new"]
WRONG = {
    "nothing to predict": ["predict", "lang", *TEXT],
    "expected a name that ends in .csv": ["predict", "task", *TEXT, "--out", "a.txt"],
    "its classes are": ["apply", "task", "other", *NEW],
    "both vectors carry a head": ["apply", "task", "same", *NEW],
    "no vector carries a head": ["apply", "lang", "--classes", "a,b", *NEW],
    "there: exists already": ["apply", "lang", "--out", "there"],
    "exists already": ["export", "lang", "--to", "shira", "--out", "there"],
    "give --classes": ["predict", "public.bin", *TEXT],
    "SHiRA can hold no entry": ["export", "embedded.safetensors", "--to", "shira", *NEW],
    "no vector of a task": ["apply", "lang", "--prior", "texts.txt", *NEW],
    "made by sparse, expected prior": [
        "apply",
        "task",
        "--prior",
        "task/sft_model.safetensors",
        *NEW,
    ],
    "its classes are ['a', 'b']": ["predict", "task", *TEXT, "--prior", "of-others.safetensors"],
    "goes with no vector": ["predict", "base", *TEXT],
}
"""Message → arguments, to which the base is added."""


@pytest.fixture
def mistaken(vectors, base, monkeypatch):
    """The folder of the vectors with more files, as the working folder."""
    monkeypatch.chdir(vectors)
    (vectors / "base").symlink_to(base.folder)
    saved(base, vectors / "same", 4, CLASSES)
    (vectors / "there").mkdir()
    (vectors / "there/file").write_text("mine")
    write_public(vectors / "public.bin", differences(base, 1), head_of(base))
    of = {"stage": "prior", "params": {"classes": ["a", "b"], "target": "uniform"}}
    save_tensors("of-others.safetensors", {"bias": torch.zeros(2)}, **of)
    name = "embeddings.word_embeddings.weight"
    mask = Mask({name: torch.tensor([3])}, {name: (150, 32)})
    SparseDelta(mask, {name: torch.ones(1)}).save("embedded.safetensors", base=base.identity)


@pytest.mark.parametrize("message", WRONG)
def test_wrong_arguments_are_one_message_and_write_nothing(mistaken, capsys, tmp_path, message):
    assert message in fails(capsys, *WRONG[message], "--base", "base")
    assert (tmp_path / "there/file").read_text() == "mine"
    assert not (tmp_path / "new").exists() and not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        ("no such file or folder", ["inspect", "absent"]),
        ("not a vector", ["inspect", "there"]),
        ("no mask in it", ["inspect", "base/model.safetensors"]),
        ("expected a classifier", ["predict", "base", *TEXT]),
        ("do not record which base", ["predict", "public.bin", *TEXT]),
    ],
)
def test_a_wrong_name_is_one_message(mistaken, capsys, message, arguments):
    assert message in fails(capsys, *arguments)


@pytest.mark.parametrize("given", [[], [*TEXT, "--file", "t.txt"]])
def test_predict_takes_texts_or_a_file(given, capsys):
    with pytest.raises(SystemExit):
        call("predict", "task", *given)
    assert "--text" in capsys.readouterr().err


def test_a_vector_of_another_base_is_not_added(vectors, tmp_path, capsys):
    other = made_base(tmp_path / "bert", BertForPreTraining(BERT))
    assert "made for base" in fails(
        capsys, "apply", vectors / "task", "--base", other.folder, "--out", tmp_path / "o"
    )
