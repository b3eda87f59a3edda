"""Sentences of words as tokens, so that each word has exactly one place where it is predicted.

A word is predicted at its first piece. A sentence that is longer than the limit is read in several
windows, which are cut between words, and each word counts in the window where it has the most
context. Source: the first piece as in the public LT-SFT code and in transformers; the windows are a
design choice, since those drop what is behind the limit.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from deftx.models.token_arrays import IGNORED, STORED, Example, Tokens
from deftx.store.errors import InputError
from deftx.tasks.tagging.math import entity_f1, scheme

PROBES = (
    ("a", "b"),
    ("The", "quick", "Fox", ",", "isn't", "it", "?"),
    ("Ünïcödé", "e\u0301", "Đặng", "ɓɗƙ", "ʼa", "2,5", "…"),
    ("Быстрая", "ЛИСА", "كتاب", "हिन्दी", "አማርኛ", "ᏣᎳᎩ", "🙂"),
)
"""Words that are to have the same pieces in a list as in a text."""

BLANKS = ("", " ")
"""What may stand before each word but the first, in tokenizers that take words one by one."""


class Pieces(NamedTuple):
    """The pieces of a sentence's words, one after the other.

    Attributes:
        ids: (pieces,).
        counts: (words,), how many of them each word has, at least one.
        unread: how many words had none, and got the unknown piece.
        cut: how many words were longer than the limit, and lost their last pieces.
    """

    ids: list[int]
    counts: list[int]
    unread: int
    cut: int


class Window(NamedTuple):
    """A part of a sentence: its words from `start` to before `end`, which is read at once, and
    those from `first` to before `last`, which are predicted there."""

    start: int
    end: int
    first: int
    last: int


@dataclass(frozen=True, eq=False)
class WordTokens(Tokens):
    """Sentences as tokens. Example i is a window: beside its tokens it has `places`, bool
    (length,), true where a word is predicted, and, if there are tags, `labels`, int64 (length,),
    their numbers there and IGNORED elsewhere. Windows and their words are in the order of the
    sentences, so the predictions of all examples, one after the other, are those of all words.

    Attributes:
        labels: number of each word's class, int64 (words,); None for sentences without tags.
        windows: number of examples up to the end of each sentence, int64 (sentences,).
        words: number of words up to the end of each sentence, int64 (sentences,).
    """

    windows: torch.Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))
    words: torch.Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))

    @cached_property
    def _before(self) -> torch.Tensor:
        """How many words are predicted before each token."""
        places = self.columns["places"].long()
        return places.cumsum(0) - places

    def example(self, which: int) -> Example:
        """Window `which`."""
        example = super().example(which)
        if self.labels is None:
            return example
        places, first = example["places"], int(self._before[int(self.starts[which])])
        labels = torch.full(places.shape, IGNORED)
        labels[places] = self.labels[first : first + int(places.sum())]
        return {**example, "labels": labels}

    def tensors(self) -> dict[str, torch.Tensor]:
        """With `windows` and `words`."""
        return {**super().tensors(), "windows": self.windows, "words": self.words}

    @property
    def grouping(self) -> dict[str, torch.Tensor]:
        """By the number of words."""
        return {"ends": self.words}

    def of_items(self, pooled: torch.Tensor) -> torch.Tensor:
        """The mean over the windows of each sentence."""
        parts = pooled.tensor_split(self.windows[:-1])
        return torch.stack([part.mean(0) for part in parts])

    def more_scores(self, found: np.ndarray, classes: Sequence[str]) -> dict[str, float]:
        """`entity_f1` of predicted tags (words,), if the classes mark entities."""
        assert self.labels is not None
        marks = scheme(classes)
        if marks is None:
            return {}
        return {"entity_f1": entity_f1(found, self.labels.numpy(), self.words.numpy(), marks)}


def word_tokens(found: Tokens, windows: torch.Tensor, words: torch.Tensor) -> WordTokens:
    """Tokens of a file as sentences of words, with their numbers of windows and of words."""
    parts = (found.columns, found.starts, found.ends, found.labels, found.ids)
    return WordTokens(*parts, windows=windows, words=words)


def encode_words(
    items: Sequence[Mapping[str, Any]],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int | None,
) -> WordTokens:
    """Sentences with `words` and perhaps `tags`, their numbers, in windows of at most `max_length`
    tokens. Raises InputError if the tokenizer cannot take words as they are in a text."""
    before, after = _special(tokenizer)
    room = None if max_length is None else max_length - len(before) - len(after)
    if room is not None and room < 1:
        raise InputError(f"max_length: {max_length} tokens, all of which are special ones")
    found = _pieces([item["words"] for item in items], tokenizer, room)
    ids: list[np.ndarray] = []
    places: list[np.ndarray] = []
    number: list[int] = []
    for sentence in found:
        bounds = np.cumsum([0, *sentence.counts])
        few = windows(sentence.counts, room)
        number.append(len(few))
        for start, end, first, last in few:
            begin, stop = bounds[start], bounds[end]
            ids.append(np.array([*before, *sentence.ids[begin:stop], *after]))
            here = np.zeros(len(ids[-1]), dtype=bool)
            here[bounds[first:last] - begin + len(before)] = True
            places.append(here)
    ends = torch.tensor(list(map(len, ids))).cumsum(0)
    columns = {"input_ids": np.concatenate(ids), "places": np.concatenate(places)}
    if "token_type_ids" in tokenizer.model_input_names:
        columns["token_type_ids"] = np.zeros(len(columns["input_ids"]))
    tags = [tag for item in items for tag in item.get("tags", ())]
    return WordTokens(
        {name: torch.from_numpy(values).to(STORED[name]) for name, values in columns.items()},
        torch.cat([ends.new_zeros(1), ends[:-1]]),
        ends,
        torch.tensor(tags) if "tags" in items[0] else None,
        counts={
            "sentences_in_windows": sum(few > 1 for few in number),
            "words_without_piece": sum(sentence.unread for sentence in found),
            "words_cut": sum(sentence.cut for sentence in found),
        },
        windows=torch.tensor(number).cumsum(0),
        words=torch.tensor([len(sentence.counts) for sentence in found]).cumsum(0),
    )


def windows(counts: Sequence[int], room: int | None) -> list[Window]:
    """How a sentence whose words have so many pieces is read with room for `room` of them: in one
    window, or in several, each beginning half a window after the one before, the last as early as
    it can. A word counts where it is farther from the nearer cut; the ends of the sentence are no
    cuts. No window is without words that count in it."""
    bounds, size = [0, *accumulate(counts)], len(counts)
    if room is None or bounds[-1] <= room:
        return [Window(0, size, 0, size)]
    parts: list[tuple[int, int]] = []
    start = 0
    while (end := bisect_right(bounds, bounds[start] + room) - 1) < size:
        parts.append((start, end))
        start = min(max(bisect_left(bounds, bounds[start] + room / 2), start + 1), end)
    parts.append((bisect_left(bounds, bounds[size] - room), size))
    best, most = [0] * size, [-1] * size
    for number, (start, end) in enumerate(parts):
        for word in range(start, end):
            left = bounds[word] - bounds[start] if start else bounds[size]
            right = bounds[end] - bounds[word + 1] if end < size else bounds[size]
            if (context := min(left, right)) > most[word]:
                best[word], most[word] = number, context
    cuts = [0, *(w for w in range(1, size) if best[w] != best[w - 1]), size]
    return [Window(*parts[best[first]], first, last) for first, last in pairwise(cuts)]


def _special(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """The special tokens before and after a text."""
    whole, plain = (
        list(tokenizer("a", add_special_tokens=special)["input_ids"]) for special in (True, False)
    )
    at = next(n for n in range(len(whole)) if whole[n : n + len(plain)] == plain)
    return whole[:at], whole[at + len(plain) :]


def blank_between(tokenizer: PreTrainedTokenizerBase) -> str:
    """What has to stand before each word but the first so that the pieces of words are those of
    their text. Raises InputError if no element of BLANKS does that."""
    for blank in BLANKS:
        pieces = _ids(PROBES, tokenizer, blank)
        wrong = [
            (words, mine, texts)
            for words, mine in zip(PROBES, pieces, strict=True)
            if mine != (texts := _of_text(tokenizer, words))
        ]
        if not wrong:
            return blank
    words, mine, texts = wrong[0]
    found, expected = map(tokenizer.convert_ids_to_tokens, (mine, texts))
    raise InputError(
        f"the tokenizer makes other pieces of the words {list(words)} than of their text: {found}, "
        f"expected {expected}; tagging needs a tokenizer that separates words at blanks"
    )


def _of_text(tokenizer: PreTrainedTokenizerBase, words: Sequence[str]) -> list[int]:
    return list(tokenizer(" ".join(words), add_special_tokens=False)["input_ids"])


def _ids(
    sentences: Sequence[Sequence[str]], tokenizer: PreTrainedTokenizerBase, blank: str
) -> list[list[int]]:
    return [found.ids for found in _encoded(sentences, tokenizer, blank)]


def _encoded(
    sentences: Sequence[Sequence[str]], tokenizer: PreTrainedTokenizerBase, blank: str
) -> list[Any]:
    """The library's encodings of words, each word by itself. transformers would refuse words for
    some tokenizers, so this asks the library below it, which may still cut as it did last."""
    backend: Any = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    marked = [[blank * (n > 0) + word for n, word in enumerate(words)] for words in sentences]
    found: list[Any] = backend.encode_batch(marked, is_pretokenized=True, add_special_tokens=False)
    return found


def _pieces(
    sentences: Sequence[Sequence[str]], tokenizer: PreTrainedTokenizerBase, room: int | None
) -> list[Pieces]:
    """The pieces of each sentence's words. A word without a piece, but for those of the blank
    before it, is read as the unknown piece, or the mask where a tokenizer has none; of a word with
    more pieces than there is room for, the first ones."""
    blank = blank_between(tokenizer)
    (alone,) = _encoded([["a", ""]], tokenizer, blank)
    nothing = [id for id, word in zip(alone.ids, alone.word_ids, strict=True) if word == 1]
    unknown = tokenizer.unk_token_id
    instead = tokenizer.mask_token_id if unknown is None else unknown
    made = []
    for words, encoding in zip(sentences, _encoded(sentences, tokenizer, blank), strict=True):
        each: list[list[int]] = [[] for _ in words]
        for id, word in zip(encoding.ids, encoding.word_ids, strict=True):
            each[word].append(id)
        each = [[] if ids == nothing else ids for ids in each]
        unread = sum(not ids for ids in each)
        cut = sum(room is not None and len(ids) > room for ids in each)
        each = [(ids or [instead])[:room] for ids in each]
        flat = [id for ids in each for id in ids]
        made.append(Pieces(flat, list(map(len, each)), unread, cut))
    return made
