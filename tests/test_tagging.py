"""Tagging: each word has exactly one prediction, at its first piece, whatever the sentence."""

import random
from itertools import accumulate, groupby, pairwise

import numpy as np
import pytest
import torch
from conftest import WORDS
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from training import task_settings
from transformers import PreTrainedTokenizerFast

from deftx.engine.task import classification
from deftx.models.load import load_classifier, load_tokenizer
from deftx.models.predict import evaluate, predict
from deftx.models.token_arrays import IGNORED
from deftx.models.tokens import encode, load_tokens
from deftx.stages.base.trial import check_works
from deftx.stages.tokens.run import Params, tokens
from deftx.store.errors import ArtefactError, InputError
from deftx.store.items import write_items
from deftx.tasks.tagging.math import entities, entity_f1, scheme
from deftx.tasks.tagging.tokens import blank_between, windows

CLASSES = ["B-LOC", "B-PER", "I-LOC", "I-PER", "O"]

HOSTILE = [
    ["one"],
    ["New", "\u200b", "York"],
    ["", "a", ""],
    ["\u00ad"],
    ["東京", "x" * 70, "🦊🦊", "a b", " c"],
    ["e\u0301", "ﬁ", "İ", "ʼa"],
]
"""Words that have no piece in some tokenizers, unknown ones, long ones, and with blanks in them."""

SPECIAL = {"unk_token": "<u>", "pad_token": "<p>", "cls_token": "<s>", "sep_token": "</s>",
           "mask_token": "<m>"}  # fmt: skip


@pytest.mark.parametrize("seed", range(60))
def test_every_word_is_predicted_once_where_it_fits_and_has_context(seed):
    draw = random.Random(seed)
    room = draw.choice([3, 8, 20, 100])
    counts = [draw.randint(1, min(room, 6)) for _ in range(draw.choice([1, 2, 50, 400, 2000]))]
    found, bounds = windows(counts, room), [0, *accumulate(counts)]
    assert [word for w in found for word in range(w.first, w.last)] == list(range(len(counts)))
    for window in found:
        assert bounds[window.end] - bounds[window.start] <= room
        assert window.start <= window.first < window.last <= window.end
    # A word is at least a quarter of a window from a cut, but for what large words take.
    for window in found:
        for word in range(window.first, window.last):
            left = bounds[word] - bounds[window.start] if window.start else room
            right = bounds[window.end] - bounds[word + 1] if window.end < len(counts) else room
            assert min(left, right) >= room // 4 - 2 * max(counts)


def test_a_sentence_that_fits_is_one_window_and_no_limit_means_one():
    assert windows([2, 3, 1], 6) == [(0, 3, 0, 3)] == windows([2, 3, 1], None)
    assert len(windows([2, 3, 1], 5)) > 1


def plain_entities(tags):
    """conlleval's rules, word by word: a dictionary of start → (end, type)."""
    found, start, kind = [], None, None
    for at, tag in enumerate([*tags, "O"]):
        prefix, _, this = tag.partition("-")
        if start is not None and (prefix == "O" or prefix == "B" or this != kind):
            found.append((start, at, kind))
            start = None
        if prefix != "O" and start is None:
            start, kind = at, this
    return found


def sentences(seed, number=30):
    draw = random.Random(seed)
    return [[draw.choice(CLASSES) for _ in range(draw.randint(1, 9))] for _ in range(number)]


def numbers(tagged):
    return np.array([CLASSES.index(tag) for tags in tagged for tag in tags])


@pytest.mark.parametrize("seed", range(30))
def test_entities_are_those_of_conlleval_and_end_with_their_sentence(seed):
    tagged, of = sentences(seed), scheme(CLASSES)
    ends = np.cumsum([len(tags) for tags in tagged])
    starts = ends - [len(tags) for tags in tagged]
    expected = [
        (first + start, first + end, of.types.index(kind))
        for first, tags in zip(starts, tagged, strict=True)
        for start, end, kind in plain_entities(tags)
    ]
    assert [*map(tuple, entities(numbers(tagged), ends, of).tolist())] == expected


@pytest.mark.parametrize("seed", range(10))
def test_f1_of_entities_counts_exact_words_and_types(seed):
    gold, found = sentences(seed), sentences(seed + 100)
    found = [(tags * 9)[: len(g)] for tags, g in zip(found, gold, strict=True)]
    mine, theirs = (
        {(n, *e) for n, tags in enumerate(tagged) for e in plain_entities(tags)}
        for tagged in (gold, found)
    )
    ends = np.cumsum([len(tags) for tags in gold])
    expected = 2 * len(mine & theirs) / (len(mine) + len(theirs))
    assert entity_f1(numbers(found), numbers(gold), ends, scheme(CLASSES)) == expected
    nothing = np.full(3, CLASSES.index("O"))
    assert entity_f1(nothing, nothing, np.array([3]), scheme(CLASSES)) == 0


@pytest.mark.parametrize("classes", [["NOUN", "O"], ["B-PER", "I-PER"], ["O"], ["B-", "O"]])
def test_classes_without_o_or_types_mark_no_entities(classes):
    assert scheme(classes) is None


# Pieces


def built(kind):
    """A tokenizer of one of the kinds that encoders have, trained on a few words."""
    if kind == "WordPiece":
        own = Tokenizer(models.WordPiece(unk_token="<u>"))
        own.normalizer = normalizers.BertNormalizer()
        own.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer = trainers.WordPieceTrainer
    elif kind.startswith("Unigram"):
        own = Tokenizer(models.Unigram())
        own.normalizer = normalizers.Sequence(
            [normalizers.Replace(Regex("[\u200b\u00ad]"), ""), normalizers.NFKC()]
        )
        scheme = kind.partition(" ")[2] or "always"
        own.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
        trainer = trainers.UnigramTrainer
    else:
        own = Tokenizer(models.BPE())
        prefix = kind.endswith("with prefix")
        own.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
        trainer = trainers.BpeTrainer
    more = {"unk_token": "<u>"} if trainer is trainers.UnigramTrainer else {}
    own.train_from_iterator(
        [" ".join(WORDS), "The quick Fox isn't it New York one a b c"],
        trainer(vocab_size=120, special_tokens=[*SPECIAL.values()], **more),
    )
    ends = [(name, own.token_to_id(name)) for name in ("<s>", "</s>")]
    own.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=ends)
    return PreTrainedTokenizerFast(tokenizer_object=own, **SPECIAL)


KINDS = ["WordPiece", "Unigram", "Unigram first", "Unigram always", "BPE", "BPE with prefix"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_pieces_of_words_are_those_of_their_text(kind):
    tokenizer = built(kind)
    for words in (["a", "b"], ["The", "quick", "Fox"], WORDS):
        found = encode([{"words": words}], tokenizer, None)
        assert found[0]["input_ids"].tolist() == tokenizer(" ".join(words))["input_ids"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_word_has_its_place_at_its_first_piece_even_without_a_piece(kind):
    tokenizer = built(kind)
    blank = blank_between(tokenizer)
    for words in HOSTILE:
        example = encode([{"words": words, "tags": [*range(len(words))]}], tokenizer, None)[0]
        # The plain way: each word by itself.
        each = []
        nothing = tokenizer.backend_tokenizer.encode(
            [blank], is_pretokenized=True, add_special_tokens=False
        ).ids
        for number, word in enumerate(words):
            alone = tokenizer.backend_tokenizer.encode(
                [blank * (number > 0) + word], is_pretokenized=True, add_special_tokens=False
            )
            has_piece = alone.ids and alone.ids != nothing
            each.append(alone.ids if has_piece else [tokenizer.unk_token_id])
        flat = [id for ids in each for id in ids]
        firsts = list(accumulate((len(ids) for ids in each[:-1]), initial=1))
        assert example["input_ids"].tolist() == [
            tokenizer.cls_token_id, *flat, tokenizer.sep_token_id
        ]  # fmt: skip
        assert example["places"].nonzero().squeeze(1).tolist() == firsts
        assert example["labels"][firsts].tolist() == [*range(len(words))]
        assert (example["labels"] != IGNORED).sum() == len(words)


def test_a_tokenizer_that_does_not_separate_words_at_blanks_is_refused():
    own = Tokenizer(models.BPE(unk_token="<u>"))
    own.pre_tokenizer = pre_tokenizers.Split(Regex(r"\s*$"), "isolated")
    own.train_from_iterator(
        ["a b " * 50], trainers.BpeTrainer(vocab_size=60, special_tokens=["<u>"])
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=own, unk_token="<u>")
    with pytest.raises(InputError, match=r"other pieces of the words \['a', 'b'\]"):
        blank_between(tokenizer)


def test_the_trial_of_a_base_includes_the_kinds_of_tasks(base, monkeypatch):
    check_works(base, ["classification", "tagging"])

    def joined(*arguments, **options):
        raise InputError("other pieces")

    monkeypatch.setattr("deftx.tasks.tagging.tokens.blank_between", joined)
    check_works(base)
    with pytest.raises(InputError, match="other pieces"):
        check_works(base, ["tagging"])


# Windows in a model


def tagged_items(count, seed=0, longest=12):
    draw = random.Random(seed)
    made = [[draw.choice(WORDS) for _ in range(draw.randint(1, longest))] for _ in range(count)]
    return [
        {"id": str(n), "words": words, "tags": [len(set(word)) + (word < "g") for word in words]}
        for n, words in enumerate(made)
    ]


TAGS = ["X", "A", "B", "C"]


def in_names(made):
    return [{**item, "tags": [TAGS[tag] for tag in item["tags"]]} for item in made]


@pytest.mark.parametrize("length", [6, 9, 32])
def test_predictions_have_a_row_for_each_word_in_order_whatever_the_windows(base, length):
    tokenizer = load_tokenizer(base)
    model = load_classifier(base, TAGS, 0, "tagging").double()
    made = [*tagged_items(25), {"words": WORDS * 8, "tags": [0] * 8 * len(WORDS)}]
    found = encode(made, tokenizer, length)
    logits = predict(model, made, tokenizer, length, batch_size=4)
    assert logits.shape == (sum(len(item["words"]) for item in made), len(TAGS))
    assert found.words.tolist() == [*accumulate(len(item["words"]) for item in made)]
    assert found.labels.tolist() == [tag for item in made for tag in item["tags"]]
    # One window at a time, without padding, and its words where its places are.
    rows, owner = [], []
    for window in range(len(found)):
        example = found[window]
        with torch.no_grad():
            out = model(input_ids=example["input_ids"][None]).logits[0]
        assert len(example["input_ids"]) <= length
        rows.append(out[example["places"]])
        owner.append(int((found.windows <= window).sum()))
        right = example["labels"][example["places"]]
        assert (right != IGNORED).all() and (example["labels"] != IGNORED).sum() == len(right)
    assert torch.allclose(logits, torch.cat(rows).float(), atol=1e-6)
    assert [n for n, _ in groupby(owner)] == [*range(len(made))]


def test_scores_of_a_model_are_over_all_words(base):
    tokenizer = load_tokenizer(base)
    model = load_classifier(base, CLASSES, 0, "tagging")
    made = [{**item, "tags": [tag % 5 for tag in item["tags"]]} for item in tagged_items(30)]
    found = predict(model, made, tokenizer, 9).argmax(1).numpy()
    tags = np.array([tag for item in made for tag in item["tags"]])
    ends = np.cumsum([len(item["words"]) for item in made])
    scores = evaluate(model, made, tokenizer, 9)
    assert scores["accuracy"] == (found == tags).mean()
    assert scores["entity_f1"] == entity_f1(found, tags, ends, scheme(CLASSES))


@pytest.mark.parametrize("length", [9, 32])
def test_tokens_of_a_file_are_those_of_the_items(base, tmp_path, length):
    made = in_names(tagged_items(20, longest=40))
    write_items(tmp_path / "x.parquet", made)
    tokens(Params(of="x", length=length), base=base.folder, data=tmp_path / "x.parquet",
           out=tmp_path / "x.safetensors")  # fmt: skip
    one, other = (load_tokens(tmp_path / f"x.{e}", base, length, TAGS)
                  for e in ("parquet", "safetensors"))  # fmt: skip
    assert len(one) == len(other) and one.labels.equal(other.labels)
    for mine, theirs in zip(one, other, strict=True):
        assert mine.keys() == theirs.keys()
        assert all(mine[name].equal(theirs[name]) for name in mine)
    assert one.words.equal(other.words) and one.windows.equal(other.windows)
    pooled = torch.arange(len(one)).float()[:, None]
    firsts = [0, *one.windows.tolist()]
    means = [(a + b - 1) / 2 for a, b in pairwise(firsts)]
    assert other.of_items(pooled).squeeze(1).tolist() == means


def test_a_tag_that_is_no_class_is_named_with_its_sentence(base, tmp_path):
    write_items(tmp_path / "x.parquet", in_names(tagged_items(5)))
    for suffix in ("parquet", "safetensors"):
        if suffix == "safetensors":
            tokens(Params(of="x", length=32), base=base.folder, data=tmp_path / "x.parquet",
                   out=tmp_path / "x.safetensors")  # fmt: skip
        with pytest.raises(ArtefactError, match=r"item 0 has the label '[ABC]'"):
            load_tokens(tmp_path / f"x.{suffix}", base, 32, ["X", "Y"])


def test_the_loss_is_the_mean_over_the_words_of_a_step(base):
    """As transformers computes it for a token classifier, in one batch."""
    tokenizer = load_tokenizer(base)
    model = load_classifier(base, TAGS, 0, "tagging").double().eval()
    objective = classification(tagged_items(8), tagged_items(2), tokenizer, task_settings())
    examples = [objective.examples([i], 0)[0] for i in range(8)]
    batch = objective.collate(examples)
    labels = sum(map(objective.labels, examples))
    assert labels == sum(len(item["words"]) for item in tagged_items(8))
    ours = objective.learner(model)(**batch) / labels
    assert torch.allclose(ours, model(**batch).loss, atol=1e-12)
    filled = objective.collate(examples, rows=11)
    assert torch.allclose(objective.learner(model)(**filled) / labels, ours, atol=1e-12)
