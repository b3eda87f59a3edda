"""Vectors of tasks of words, from the public LT-SFT code and from runs: converted, used on the
command line, passed on; each against a plain way to the same tags."""

import copy
import json
import logging

import pytest
import torch
from conftest import sentences
from lt_sft_files import (
    BERT,
    LM_HEAD,
    call,
    differences,
    fails,
    head_of,
    made_base,
    write_public,
)
from peft import PeftModel
from transformers import (
    AutoModelForTokenClassification,
    AutoTokenizer,
    BertForPreTraining,
    ModernBertConfig,
    ModernBertForMaskedLM,
)

from deftx.core.mask import Mask
from deftx.core.parameters import backbone_parameters
from deftx.core.sparse_delta import SparseDelta
from deftx.exchange.foreign import kinds_of, read_foreign
from deftx.exchange.model_folder import with_vectors
from deftx.models.base import Base
from deftx.models.load import load_classifier, load_tokenizer
from deftx.store.errors import ArtefactError
from deftx.store.items import write_items
from deftx.store.tensors import TensorFile, save_tensors

TAGS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
STORED = sorted(TAGS)

pytestmark = [
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated"),
    pytest.mark.filterwarnings("ignore:Sparse invariant checks"),
]


def sparse(base, seed, head, **provenance):
    """A vector with entries everywhere but in normalisation."""
    delta = {n: 0.3 * tensor for n, tensor in differences(base, seed, prefix="").items()}
    index = {n: t.flatten().nonzero().flatten() for n, t in delta.items() if t.any()}
    mask = Mask(index, {name: base.shapes[name] for name in index})
    return SparseDelta.from_dense(delta, mask, head)


def saved(base, folder, seed, classes=None, kind="tagging"):
    """As the stage `sparse` leaves it."""
    head = head_of(base, classes, 9, kind) if classes else {}
    task = {"classes": classes, "kind": kind, "task": {"max_length": 24}} if classes else {}
    sparse(base, seed, head).save(
        folder / "sft_model.safetensors",
        stage="sparse",
        method="m",
        target="task-x" if classes else "lang-qaa",
        seed=seed,
        base=base.identity,
        params=task,
        outcome={},
    )


@pytest.fixture
def run(base_folder, tmp_path):
    """A run's folder with base and vectors."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "base").symlink_to(base_folder)
    base = Base.load(folder / "base")
    saved(base, folder / "task", 1, TAGS)
    saved(base, folder / "lang", 2)
    return folder


def words_of(count, seed=4):
    return [text.split() for text in sentences(count, seed)]


def plain_logits(model, tokenizer, words):
    """Logits (words, classes) of a sentence at the first piece of each word, as the public code and
    the examples of transformers align them, in float64."""
    ids, firsts = [tokenizer.cls_token_id], []
    for word in words:
        firsts.append(len(ids))
        ids += tokenizer(word, add_special_tokens=False)["input_ids"]
    ids.append(tokenizer.sep_token_id)
    with torch.no_grad():
        return copy.deepcopy(model).double().eval()(torch.tensor([ids])).logits[0, firsts]


# Vectors of the public code


def public_model(base, classes, parts, head):
    """What the public code predicts with: the base's weights, to which every difference is added,
    and the stored head, in the order of its rows."""
    model = load_classifier(base, list(classes), 0, "tagging")
    with torch.no_grad():
        for diffs in parts:
            for name, parameter in backbone_parameters(model).items():
                if f"roberta.{name}" in diffs:
                    parameter += diffs[f"roberta.{name}"]
        for name, tensor in head.items():
            model.get_parameter(name).copy_(tensor)
    return model


def test_vectors_of_the_public_code_tag_as_in_the_public_code(tmp_path, base):
    """A token classifier's file has `classifier.weight` and `.bias` only, and its classes are
    sorted."""
    parts = [{n: 0.3 * t for n, t in differences(base, seed).items()} for seed in (1, 2)]
    head = head_of(base, STORED, kind="tagging")
    assert {n: tuple(t.shape) for n, t in head.items()} == {
        "classifier.weight": (5, 32),
        "classifier.bias": (5,),
    }
    write_public(tmp_path / "task/pytorch_diff.bin", parts[0], head)
    write_public(tmp_path / "lang/pytorch_diff.bin", parts[1], LM_HEAD)
    call("convert", "--method", "m", "--target", "task-x", "--id", "of-others", "--base",
         base.folder, "--vector", tmp_path / "task", "--classes", TAGS, "--kind", "tagging",
         "--out", tmp_path / "ours/sft_model.safetensors")  # fmt: skip
    found = SparseDelta.load(tmp_path / "ours")
    assert found.provenance["params"]["kind"] == "tagging"
    config = json.loads((tmp_path / "ours/sft_config.json").read_text())
    assert (config["task_type"], config["labels"]) == ("TOKEN_CLS", TAGS)
    model, tokenizer = public_model(base, STORED, parts, head), load_tokenizer(base)
    lines = words_of(20)
    (tmp_path / "t.txt").write_text("".join(" ".join(words) + "\n" for words in lines))
    on = ["--base", base.folder, "--file", tmp_path / "t.txt"]
    theirs, ours = tmp_path / "theirs.jsonl", tmp_path / "ours.jsonl"
    call("predict", tmp_path / "task", tmp_path / "lang", *on, "--classes", ",".join(STORED),
         "--out", theirs)  # fmt: skip
    call("predict", tmp_path / "ours", tmp_path / "lang", *on, "--out", ours)
    seen = set()
    for words, *rows in zip(lines, *(f.read_text().splitlines() for f in (theirs, ours)),
                            strict=True):  # fmt: skip
        best = plain_logits(model, tokenizer, words).softmax(1).max(1)
        for row in map(json.loads, rows):
            assert row["words"] == words
            assert row["tags"] == [STORED[i] for i in best.indices]
            assert row["p"] == pytest.approx(best.values.tolist(), abs=2e-6)
            seen.update(row["tags"])
    assert len(seen) > 2


@pytest.mark.rounding
def test_each_tag_keeps_its_logit_whatever_the_order(tmp_path, base, caplog):
    """Without an order the stored one is the sorted one, and the log says so."""
    head, diffs = head_of(base, STORED, kind="tagging"), differences(base, 1)
    head["classifier.bias"] = torch.arange(5.0)
    write_public(tmp_path / "v.bin", diffs, head)
    with caplog.at_level(logging.INFO):
        found = read_foreign(tmp_path / "v.bin", base, TAGS, None, "tagging")
    assert f"taken to be {', '.join(STORED)}" in caplog.text
    named = read_foreign(tmp_path / "v.bin", base, TAGS, STORED, "tagging")
    assert all(torch.equal(found.head[n], named.head[n]) for n in head)
    model = with_vectors(base, [found], TAGS, "tagging")
    theirs = public_model(base, STORED, [diffs], head)
    order = [STORED.index(tag) for tag in TAGS]
    for words in words_of(3):
        ours, expected = (plain_logits(m, load_tokenizer(base), words) for m in (model, theirs))
        torch.testing.assert_close(ours, expected[:, order], rtol=0, atol=1e-12)
    other = read_foreign(tmp_path / "v.bin", base, TAGS, STORED[::-1], "tagging")
    assert not torch.equal(other.head["classifier.bias"], found.head["classifier.bias"])


WEIGHT = {"classifier.weight": torch.ones(5, 32), "classifier.bias": torch.ones(5)}
BAD = {
    "for classification of tiny for 5 classes: the model has no tensor classifier.bias": (
        WEIGHT, (TAGS, TAGS)),
    "for tagging of tiny for 5 classes: the model has no tensor classifier.dense.bias": (
        TAGS, (TAGS, TAGS, "tagging")),
    r"classifier.bias has shape \(5,\), in the model \(4,\)": (
        WEIGHT, (TAGS[:4], TAGS[:4], "tagging")),
    "no classifier.weight": ({"classifier.bias": torch.ones(5)}, (TAGS, None, "tagging")),
    "holds classifier.bias: the vector of a task": (WEIGHT, ()),
    "kind of task 'parsing': expected one of classification, tagging": (
        WEIGHT, (TAGS, TAGS, "parsing")),
}  # fmt: skip


@pytest.mark.parametrize("message", BAD)
def test_a_head_of_another_kind_is_refused_by_name(tmp_path, base, message):
    head, given = BAD[message]
    write_public(tmp_path / "v.bin", differences(base, 0),
                 head if isinstance(head, dict) else head_of(base, head))  # fmt: skip
    with pytest.raises((ArtefactError, ValueError), match=message):
        read_foreign(tmp_path / "v.bin", base, *given)


def test_one_of_ours_records_its_kind(tmp_path, base):
    saved(base, tmp_path, 1, TAGS)
    found = read_foreign(tmp_path / "sft_model.safetensors", base, TAGS, None, "tagging")
    assert kinds_of(found, base) == ["tagging"]
    with pytest.raises(ArtefactError, match="of the kind tagging, expected classification"):
        read_foreign(tmp_path / "sft_model.safetensors", base, TAGS)


def modernbert():
    config = ModernBertConfig(
        vocab_size=150, hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=48, max_position_embeddings=40, pad_token_id=1, bos_token_id=0,
        eos_token_id=2, cls_token_id=0, sep_token_id=2,
    )  # fmt: skip
    return ModernBertForMaskedLM(config)


def test_the_kind_of_a_head_is_found_from_its_names_or_asked_for(tmp_path, base, capsys):
    """BERT's classifier has a pooler before the same layer, which some files do not list;
    ModernBERT has the same head for both."""
    bert = made_base(tmp_path / "bert", BertForPreTraining(BERT))
    modern = made_base(tmp_path / "modern", modernbert())
    for own, expected in ((base, 1), (bert, 1), (modern, 2)):
        for kind in ("classification", "tagging"):
            vector = SparseDelta(Mask({}, {}), {}, head_of(own, TAGS, kind=kind))
            kinds = kinds_of(vector, own)
            assert kind in kinds and len(kinds) == expected
        assert kinds_of(SparseDelta(Mask({}, {}), {}, LM_HEAD), own) == []
    diffs = differences(modern, 1, prefix="model.")
    write_public(tmp_path / "v/pytorch_diff.bin", diffs, head_of(modern, TAGS, kind="tagging"))
    ask = ["predict", tmp_path / "v", "--base", modern.folder, "--classes", ",".join(TAGS),
           "--text", "ba be"]  # fmt: skip
    assert "of the kind classification or tagging: give --kind" in fails(capsys, *ask)
    call(*ask, "--kind", "tagging")
    assert [line.split("\t")[0] for line in capsys.readouterr().out.splitlines()] == [
        "ba", "be", ""
    ]  # fmt: skip
    call(*ask, "--kind", "classification")
    assert "p_B-PER" in capsys.readouterr().out


# Passing on


@pytest.mark.rounding
def test_a_model_folder_tags_as_evaluate_does(run, tmp_path, capsys):
    call("apply", run / "task", run / "lang", "--out", tmp_path / "model")
    model = AutoModelForTokenClassification.from_pretrained(tmp_path / "model").eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    assert model.config.id2label == dict(enumerate(TAGS))
    card = (tmp_path / "model/README.md").read_text()
    assert "pipeline_tag: token-classification" in card
    assert "AutoModelForTokenClassification.from_pretrained" in card and "B-PER" in card
    lines = [*words_of(12), [word for words in words_of(9, 5) for word in words]]
    items = [
        {"id": str(n), "words": words, "tags": [TAGS[len(w) % 5] for w in words]}
        for n, words in enumerate(lines)
    ]
    write_items(tmp_path / "test.parquet", items)
    where = ["--system", "s", "--task", "x", "--language", "qaa", "--base", run / "base"]
    call("compose", *where, "--task-vector", run / "task/sft_model.safetensors",
         "--language-vector", run / "lang/sft_model.safetensors",
         "--out", tmp_path / "c.safetensors")  # fmt: skip
    call("evaluate", *where, "--classes", TAGS, "--kind", "tagging", "--max-length", 24,
         "--composed", tmp_path / "c.safetensors", "--test", tmp_path / "test.parquet",
         "--out", tmp_path / "e.safetensors")  # fmt: skip
    file = TensorFile(tmp_path / "e.safetensors")
    parts = file["logits"].tensor_split(file["ends"][:-1])
    for words, logits in list(zip(lines, parts, strict=True))[:-1]:  # the last is in windows
        plain = plain_logits(model, tokenizer, words)
        torch.testing.assert_close(logits.double(), plain, rtol=0, atol=1e-5)
    (tmp_path / "t.txt").write_text("\n".join(" ".join(words) for words in lines))
    for name, given in {"a": [run / "task", run / "lang"], "b": [tmp_path / "model"]}.items():
        call("predict", *given, "--file", tmp_path / "t.txt", "--out", tmp_path / f"{name}.jsonl")
    assert (tmp_path / "a.jsonl").read_text() == (tmp_path / "b.jsonl").read_text()
    rows = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    for words, logits, row in zip(lines, parts, rows, strict=True):
        assert row["words"] == words
        assert row["tags"] == [TAGS[i] for i in logits.argmax(1)]
        assert row["p"] == pytest.approx(logits.softmax(1).amax(1).tolist(), abs=1e-6)


def test_a_folder_whose_head_was_cut_is_refused(run, tmp_path, capsys):
    call("apply", run / "task", "--out", tmp_path / "model")
    config = json.loads((tmp_path / "model/config.json").read_text())
    config["id2label"] = {str(i): str(i) for i in range(7)}
    config["label2id"] = {str(i): i for i in range(7)}
    (tmp_path / "model/config.json").write_text(json.dumps(config))
    message = fails(capsys, "predict", tmp_path / "model", "--text", "ba")
    assert "classifier.bias is missing, or has another shape" in message


def test_inspect_and_overlap_know_tags(run, capsys):
    call("inspect", run / "task")
    out = capsys.readouterr().out
    assert "kind       tagging" in out and "O, B-PER, I-PER" in out
    assert "classifier.weight (5, 32)" in out
    call("overlap", run / "task", run / "lang")


@pytest.mark.rounding
def test_shira_of_tags_is_the_linear_part_with_the_head(run, tmp_path, base):
    call("export", run / "task", run / "lang", "--to", "shira", "--out", tmp_path / "a")
    total = SparseDelta.load(run / "task") + SparseDelta.load(run / "lang")
    expected = load_classifier(base, TAGS, 0, "tagging").eval()
    modules = dict(expected.base_model.named_modules())
    kept = [n for n in total.values
            if isinstance(modules[n.rpartition(".")[0]], torch.nn.Linear)
            and n.endswith("weight")]  # fmt: skip
    index, values, shapes = (
        {name: full[name] for name in kept}
        for full in (total.mask.index, total.values, total.mask.shapes)
    )
    plain = load_classifier(base, TAGS, 3, "tagging")  # another head
    merged = PeftModel.from_pretrained(plain, str(tmp_path / "a")).merge_and_unload().eval()
    ids = torch.tensor([[0, 7, 9, 30, 2]])
    with torch.no_grad(), SparseDelta(Mask(index, shapes), values, total.head).applied(expected):
        assert torch.equal(merged(ids).logits, expected(ids).logits)
    assert "AutoModelForTokenClassification" in (tmp_path / "a/README.md").read_text()


# Files in, files out


CONLL = """-DOCSTART- -X- O O

ba NN I-NP B-PER
#be NN I-NP O
bi NN I-NP O


da NN I-NP O
"""
CONLLU = """# sent_id = a
# text = babe bi.
1-2\tbabe\t_\t_\t_\t_\t_\t_\t_\t_
1\tba\t_\tNOUN\t_\t_\t0\troot\t_\t_
2\tbe\t_\tVERB\t_\t_\t1\tdep\t_\tSpaceAfter=No
2.1\tdu\t_\tVERB\t_\t_\t_\t_\t_\t_
3\tbi\t_\tNOUN\t_\t_\t1\tdep\t_\t_

# sent_id = b
1\tda\t_\tNOUN\t_\t_\t0\troot\t_\t_

"""
IOB2 = "# x\n1\tba\tO\t-\tme\n2\t#be\tB-PER\t-\tme\n\n1\tda\tO\t-\tme\n"


def tags_of(run, sentences):
    """The tags of each sentence, from the model as transformers computes it."""
    base = Base.load(run / "base")
    vectors = [SparseDelta.load(run / name) for name in ("task", "lang")]
    model, tokenizer = with_vectors(base, vectors, TAGS), load_tokenizer(base)
    return [
        [TAGS[i] for i in plain_logits(model, tokenizer, words).argmax(1)] if words else []
        for words in sentences
    ]


def predicted(run, file, out, *more):
    call("predict", run / "task", run / "lang", "--file", file, "--out", out, *more)
    return out.read_text(encoding="utf-8")


def test_a_file_of_columns_comes_back_with_one_more_column(run, tmp_path):
    (tmp_path / "x.conll").write_text(CONLL)
    (tmp_path / "x.iob2").write_text(IOB2)
    first, second = tags_of(run, [["ba", "#be", "bi"], ["da"]])
    found = predicted(run, tmp_path / "x.conll", tmp_path / "y.conll")
    before, after = CONLL.splitlines(), found.splitlines()
    assert [a.removeprefix(b) for a, b in zip(after, before, strict=True)] == [
        "", "", *(f" {tag}" for tag in first), "", "", f" {second[0]}"
    ]  # fmt: skip
    first, second = tags_of(run, [["ba", "#be"], ["da"]])
    found = predicted(run, tmp_path / "x.iob2", tmp_path / "y.iob2").splitlines()
    assert found[1:] == [
        f"1\tba\tO\t-\tme\t{first[0]}", f"2\t#be\tB-PER\t-\tme\t{first[1]}", "",
        f"1\tda\tO\t-\tme\t{second[0]}",
    ]  # fmt: skip
    # A name without an ending that is known, and columns between tabs.
    (tmp_path / "dev.txt").write_text("1\tba\n2\tbe\n")
    first = tags_of(run, [["ba", "be"]])[0]
    given = ["--format", "conll", "--column", 1]
    assert predicted(run, tmp_path / "dev.txt", tmp_path / "y.txt", *given) == (
        f"1\tba\t{first[0]}\n2\tbe\t{first[1]}\n"
    )
    (tmp_path / "c.conll").write_text("# a comment\nba O\n")
    with_comments = predicted(run, tmp_path / "c.conll", tmp_path / "z.conll", "--comments")
    assert with_comments == f"# a comment\nba O {tags_of(run, [['ba']])[0][0]}\n"


def test_conllu_keeps_ranges_and_empty_nodes_and_has_the_tag_in_misc(run, tmp_path):
    (tmp_path / "x.conllu").write_text(CONLLU)
    first, second = tags_of(run, [["ba", "be", "bi"], ["da"]])
    found = predicted(run, tmp_path / "x.conllu", tmp_path / "y.conllu")
    expected = CONLLU
    for line, tag in zip(("1\tba", "2\tbe", "3\tbi", "1\tda"), [*first, *second], strict=True):
        whole = next(row for row in expected.splitlines() if row.startswith(line))
        misc = f"SpaceAfter=No|Predicted={tag}" if "No" in whole else f"Predicted={tag}"
        expected = expected.replace(whole, "\t".join([*whole.split("\t")[:-1], misc]))
    assert found == expected
    again = predicted(run, tmp_path / "y.conllu", tmp_path / "z.conllu")
    assert again == found
    as_lists = predicted(run, tmp_path / "x.conllu", tmp_path / "y.jsonl")
    rows = [json.loads(line) for line in as_lists.splitlines()]
    assert [(row["id"], row["words"], row["tags"]) for row in rows] == [
        ("a", ["ba", "be", "bi"], first), ("b", ["da"], second)
    ]  # fmt: skip


def test_texts_are_tagged_word_by_word_and_blank_lines_keep_their_place(run, tmp_path, capsys):
    lines = ["ba be  bi\t\u2003da", "", " \u00a0", "de " * 200, "du"]
    first, last = tags_of(run, [["ba", "be", "bi", "da"], ["du"]])
    (tmp_path / "t.txt").write_text("\n".join(lines), encoding="utf-8")
    found = predicted(run, tmp_path / "t.txt", tmp_path / "y.conll")
    blocks = found.split("\n\n")
    assert blocks[0] == "\n".join(
        f"{word}\t{tag}" for word, tag in zip(["ba", "be", "bi", "da"], first, strict=True)
    )
    # Each sentence, also one without words, ends with a blank line; words are in several windows.
    starts = [f"de\t{tag}" for tag in TAGS]
    words = found.splitlines()
    assert words[4:7] == ["", "", ""] and words[-3:] == ["", f"du\t{last[0]}", ""]
    assert len(words[7:-3]) == 200 and all(word in starts for word in words[7:-3])
    assert found.count("\n\n") + found.count("\n\n\n") >= 3
    rows = predicted(run, tmp_path / "t.txt", tmp_path / "y.jsonl").splitlines()
    sizes = [len(json.loads(row)["tags"]) for row in rows]
    assert sizes == [4, 0, 0, 200, 1]
    capsys.readouterr()
    call("predict", run / "task", run / "lang", "--text", "du", "--text", "")
    assert capsys.readouterr().out == f"du\t{last[0]}\n\n\n"
    call("predict", run / "task", "--text", " ")
    assert capsys.readouterr().out == "\n"


def test_tables_and_lists_are_tagged(run, tmp_path, capsys):
    (tmp_path / "t.csv").write_text('nr,what\n7,"ba be"\n8,\n9,du\n')
    given = ["--column", "what", "--id-column", "nr"]
    rows = predicted(run, tmp_path / "t.csv", tmp_path / "a.jsonl", *given).splitlines()
    first, _, last = tags_of(run, [["ba", "be"], [], ["du"]])
    found = [json.loads(row) for row in rows]
    assert [(row["id"], row["tags"]) for row in found] == [("7", first), ("8", []), ("9", last)]
    # Lists of words stay as they are, blanks in a word too.
    lists = [["ba", "be"], ["a b", "\u200b", "du"]]
    (tmp_path / "t.jsonl").write_text("".join(f"{json.dumps({'words': w})}\n" for w in lists))
    capsys.readouterr()
    call("predict", run / "task", run / "lang", "--file", tmp_path / "t.jsonl")
    found = [json.loads(row) for row in capsys.readouterr().out.splitlines()]
    assert [row["words"] for row in found] == lists
    assert [len(row["tags"]) for row in found] == [2, 3] == [len(row["p"]) for row in found]
    assert found[0]["tags"] == first
    write_items(tmp_path / "t.parquet", [{"id": "x", "tokens": lists[0]}])
    given = ["--column", "tokens", "--id-column", "id"]
    row = json.loads(predicted(run, tmp_path / "t.parquet", tmp_path / "b.jsonl", *given))
    assert (row["id"], row["tags"]) == ("x", first)


def test_what_does_not_go_together_is_an_error_before_the_model_is_loaded(
    run, base, tmp_path, capsys, monkeypatch
):
    saved(base, tmp_path / "texts", 3, ["a", "b"], None)
    (tmp_path / "x.conll").write_text("ba O\n")
    (tmp_path / "bad.conll").write_text("ba O\nbe\n")
    (tmp_path / "t.txt").write_text("ba\n")
    (tmp_path / "t.jsonl").write_text('{"words": ["ba"]}\n')

    def never(*_):
        raise AssertionError("the model was loaded")

    monkeypatch.setattr("deftx.exchange.found.with_vectors", never)
    for vector, given, message in (
        ("run/task", ["--text", "a", "--pair", "b"], "a task of words, not of pairs"),
        ("run/task", ["--file", "x.conll", "--out", "y.csv"], "ends in .conll or .jsonl"),
        ("run/task", ["--file", "t.txt", "--out", "y.txt"], "ends in .conll or .jsonl"),
        ("run/task", ["--file", "t.jsonl", "--out", "y.conll"], "ends in .jsonl"),
        ("run/task", ["--file", "x.conll", "--column", "ab"], "expected the number of a column"),
        ("run/task", ["--file", "bad.conll"], "bad.conll, line 2: 1 columns, expected 2"),
        ("texts", ["--file", "x.conll"], "a word in each line; expected texts"),
        ("texts", ["--text", "a", "--out", "y.conll"], "ends in .csv or .jsonl"),
        ("run/task", ["--text", "a", "--kind", "classification"], "of the kind tagging, expected"),
        ("run/lang", ["--text", "a"], "no vector of a task"),
    ):
        given = [tmp_path / g if g.partition(".")[2] else g for g in given]
        on = ["--base", base.folder]
        assert message in fails(capsys, "predict", tmp_path / vector, *on, *given)


def test_a_prior_of_tags_is_one_of_a_run(run, tmp_path, capsys):
    """Items alone would make all tags equally frequent."""
    (tmp_path / "t.txt").write_text("ba be\n")
    for verb, more in (("predict", ["--text", "ba"]), ("apply", ["--out", tmp_path / "m"])):
        message = fails(capsys, verb, run / "task", *more, "--prior", tmp_path / "t.txt")
        assert "give a prior of a classification only" in message
    params = {"classes": TAGS, "target": "source"}
    bias = torch.tensor([-9.0, 0, 9, 0, 0], dtype=torch.float64)
    save_tensors(tmp_path / "p.safetensors", {"bias": bias, "logits": torch.zeros(7, 5)},
                 stage="prior", params=params)  # fmt: skip
    capsys.readouterr()
    call("predict", run / "task", "--text", "ba be", "--prior", tmp_path / "p.safetensors")
    assert capsys.readouterr().out == "ba\tI-PER\nbe\tI-PER\n\n"
    call("apply", run / "task", "--prior", tmp_path / "p.safetensors", "--out", tmp_path / "m")
    capsys.readouterr()
    call("predict", tmp_path / "m", "--text", "ba be")
    assert capsys.readouterr().out == "ba\tI-PER\nbe\tI-PER\n\n"
