"""Laws of tokens: what an item becomes is what the tokenizer makes of it alone, however it is
stored, and training reads the same batches from memory and from a file."""

import copy
import json
import shutil
from pathlib import Path

import pytest
import torch
from conftest import sentences
from tiny_config import with_change
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from training import CLASSES, LANGUAGE, TASK, classifier, items, task_settings, write_data
from transformers import PreTrainedTokenizerFast

from benchmarks.tokens import encode_plainly
from deftx.engine.task import classification_of_sources
from deftx.models.base import Base
from deftx.models.load import load_tokenizer
from deftx.models.predict import predict
from deftx.models.tokens import encode, encode_text, load_tokens
from deftx.plan.artefact import Artefact
from deftx.plan.config import check_config
from deftx.plan.plan import Plan
from deftx.stages.full.run import Params as Training
from deftx.stages.full.run import full
from deftx.stages.table import path_of
from deftx.stages.tokens.run import Params, tokens
from deftx.stages.tokens.settings import WHOLE
from deftx.store.artefact import file_sha256
from deftx.store.errors import ArtefactError
from deftx.store.tensors import TensorFile, decode_ids, save_tensors


def with_sentence_numbers():
    """A tokenizer that numbers the two texts of a pair, as BERT's does."""
    words = {word: i for i, word in enumerate(["[PAD]", "[CLS]", "[SEP]", "[UNK]", "la", "ba"])}
    tokenizer = Tokenizer(WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 1), ("[SEP]", 2)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


def paired(count=50):
    """Pairs of texts, the first or the second one longer."""
    made = [{**item, "text_pair": other["text"]} for item, other in zip(
        items(count), items(count, 1)[::-1], strict=True)]  # fmt: skip
    return [*made, {**made[0], "text": "", "text_pair": ""}]


def equal(ours, plain):
    """Whether examples are equal, with their names, dtypes and shapes."""
    return len(ours) == len(plain) and all(
        one.keys() == other.keys()
        and all(torch.equal(one[k], other[k]) and one[k].dtype == other[k].dtype for k in one)
        for one, other in zip(ours, plain, strict=True)
    )


def tokenised(base, path, length=WHOLE):
    """The file of the stage, beside the items."""
    out = path.with_name(f"{path.stem}-{length}.safetensors")
    tokens(Params(length=length), base=base.folder, data=path, out=out)
    return out


@pytest.mark.parametrize("length", [6, 128])
@pytest.mark.parametrize("made", [items(50), paired()], ids=["texts", "pairs"])
@pytest.mark.parametrize("numbered", [False, True], ids=["xlm-r", "bert"])
def test_an_item_is_what_the_tokenizer_makes_of_it_alone(base, made, length, numbered, monkeypatch):
    monkeypatch.setattr("deftx.models.tokens.AT_ONCE", 7)
    tokenizer = with_sentence_numbers() if numbered else load_tokenizer(base)
    plain = [encode_plainly([item], tokenizer, length)[0] for item in made]
    assert equal(encode(made, tokenizer, length), plain)
    assert ("token_type_ids" in plain[0]) == numbered


@pytest.mark.parametrize("length", [8, None])
def test_a_line_is_what_the_tokenizer_makes_of_it_alone(base, length, monkeypatch):
    monkeypatch.setattr("deftx.models.tokens.AT_ONCE", 7)
    lines, tokenizer = [*sentences(40), ""], load_tokenizer(base)
    cut = {} if length is None else {"truncation": True, "max_length": length}
    plain = [tokenizer(line, return_special_tokens_mask=True, **cut) for line in lines]
    columns = {"input_ids": torch.int64, "special_tokens_mask": torch.bool}
    expected = [{k: torch.tensor(line[k], dtype=columns[k]) for k in columns} for line in plain]
    assert equal(encode_text(lines, tokenizer, length), expected)


@pytest.mark.parametrize("length", [5, 16, 10_000])
def test_blocks_are_the_text_cut_every_so_many_tokens(base, length):
    text = encode_text(sentences(30), load_tokenizer(base), None)[3:20]
    whole = {k: torch.cat([line[k] for line in text]) for k in text[0]}
    count = len(whole["input_ids"])
    starts = [max(0, min(at, count - length)) for at in range(0, count, length)]
    assert equal(
        text.blocks(length), [{k: whole[k][s : s + length] for k in whole} for s in starts]
    )


def test_a_file_holds_the_items_that_memory_holds(base, tmp_path):
    write_data(tmp_path, items(40))
    for name, length, classes in (("labelled", 12, CLASSES), ("text", None, None)):
        path = tmp_path / f"{name}.parquet"
        kept, mapped = (
            load_tokens(file, base, length, classes)
            for file in (path, tokenised(base, path, length or WHOLE))
        )
        assert equal(mapped, kept)
        assert classes is None or torch.equal(mapped.ids, kept.ids)
        assert decode_ids(mapped.ids).tolist() == [str(i) for i in range(40)]


def test_a_file_is_mapped_and_not_read_into_memory(base, tmp_path):
    maps = Path("/proc/self/maps")
    if not maps.exists():
        pytest.skip("no /proc")
    path = tokenised(base, write_data(tmp_path, items(40)) / "labelled.parquet", 12)
    loaded = load_tokens(path, base, 12, CLASSES)
    address = loaded.columns["input_ids"].data_ptr()
    ranges = [
        line.split()[0].split("-") for line in maps.read_text().splitlines() if str(path) in line
    ]
    assert any(int(low, 16) <= address < int(high, 16) for low, high in ranges)


def test_labels_are_those_of_the_task_in_its_order(base, tmp_path):
    made = items(20)
    path = tokenised(base, write_data(tmp_path, made) / "labelled.parquet", 32)
    for classes in (CLASSES, CLASSES[::-1], ["other", *CLASSES]):
        labels = load_tokens(path, base, 32, classes).labels.tolist()
        assert [classes[i] for i in labels] == [CLASSES[item["label"]] for item in made]


def test_a_label_that_the_task_does_not_have_is_the_error_of_the_items(base, tmp_path):
    write_data(tmp_path, items(20))
    for name in ("labelled", "text"):
        path, messages = tmp_path / f"{name}.parquet", []
        for file in (path, tokenised(base, path, 32)):
            with pytest.raises(ArtefactError, match=r"the task's classes are 'high'$") as error:
                load_tokens(file, base, 32, ["high"])
            messages.append(str(error.value).removeprefix(f"{file}: "))
        assert messages[0] == messages[1]


def test_tokens_of_another_length_tokenizer_or_stage_are_refused(base, tmp_path):
    path = tokenised(base, write_data(tmp_path, items(20)) / "labelled.parquet", 32)
    with pytest.raises(ArtefactError, match="length 32, expected 16"):
        load_tokens(path, base, 16, CLASSES)
    other = tmp_path / "base"
    shutil.copytree(base.folder, other)
    (other / "tokenizer.json").write_text((other / "tokenizer.json").read_text() + "\n")
    facts = json.loads((other / "backbone.json").read_text())
    facts["files"]["tokenizer.json"] = file_sha256(other / "tokenizer.json")
    (other / "backbone.json").write_text(json.dumps(facts))
    with pytest.raises(ArtefactError, match=r"tokenizer .*, expected"):
        load_tokens(path, Base.load(other), 32, CLASSES)
    save_tensors(tmp_path / "x.safetensors", {"a": torch.ones(1)}, stage="full")
    with pytest.raises(ArtefactError, match="stage full, expected tokens"):
        load_tokens(tmp_path / "x.safetensors", base, 32, CLASSES)


@pytest.mark.parametrize("packed", [True, False])
def test_training_on_tokens_has_the_bits_of_that_on_items(base, tmp_path, packed):
    write_data(tmp_path, items(30))
    language = {**LANGUAGE, "epochs": 1, "packed": packed}
    task = {"target": "task-x", "classes": CLASSES, "task": {**TASK, "epochs": 1}}
    cases = {
        "text": ({"target": "lang-qaa", "language": language}, WHOLE if packed else 16),
        "labelled": (task, 32),
    }
    for name, (params, length) in cases.items():
        found = []
        path = tmp_path / f"{name}.parquet"
        for file in (path, tokenised(base, path, length)):
            out = tmp_path / "full.safetensors"
            valid = {"valid": file} if name == "labelled" else {}
            full(Training(**params), base=base.folder, train=file, **valid, out=out)
            found.append(TensorFile(out).content)
        assert found[0] == found[1], name


def test_several_sources_read_their_own_files(base, tmp_path):
    tokenizer = load_tokenizer(base)
    parts = [items(10), items(7, 1), items(5, 2)]
    made = classification_of_sources(parts, parts[0], tokenizer, task_settings())
    plain = [e for part in parts for e in encode_plainly(part, tokenizer, 32)]
    assert made.sources == (10, 7, 5)
    assert equal(made.examples(range(22), 0), plain)


def test_predictions_for_tokens_are_those_for_items(base, tmp_path):
    path = write_data(tmp_path, made := items(30)) / "labelled.parquet"
    mapped = load_tokens(tokenised(base, path, 32), base, 32, CLASSES)
    model, tokenizer = classifier(base), load_tokenizer(base)
    assert torch.equal(predict(model, mapped, tokenizer, 32), predict(model, made, tokenizer, 32))


def test_all_that_reads_the_same_items_with_the_same_length_shares_a_file():
    def another_task(raw):
        raw["tasks"]["other"] = copy.deepcopy(raw["tasks"]["sentiment"])
        raw["tasks"]["shorter"] = copy.deepcopy(raw["tasks"]["sentiment"])
        raw["tasks"]["shorter"]["training"]["max_length"] = 16

    plan = Plan(check_config(with_change(another_task)))
    made = [path_of(artefact) for artefact in plan.artefacts if artefact.stage == "tokens"]
    splits = [f"data/sentiment/qaa/{split}" for split in ("train", "valid")]
    splits += [f"data/sentiment/{language}/test" for language in ("qta", "qtb")]
    assert sorted(made) == sorted(
        [
            "tokens/whole/data/text/qta/train.safetensors",
            *(f"tokens/{n}/{split}.safetensors" for n in (16, 32) for split in splits),
        ]
    )


@pytest.mark.parametrize("length", [WHOLE, "24"])
def test_unpacked_lines_are_cut_and_packed_ones_are_not(length):
    def pack(raw):
        raw["language_training"] |= {"packed": length == WHOLE, "max_length": 24}

    plan = Plan(check_config(with_change(pack)))
    read = plan.inputs(Artefact.of("full", target="lang-qta", seed=0))["train"]
    assert [path_of(part) for part in read] == [f"tokens/{length}/data/text/qta/train.safetensors"]
    assert plan.params(read[0])["length"] == (length if length == WHOLE else int(length))
