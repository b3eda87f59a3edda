"""How well a tokenizer covers a text: words, the pieces that they become, and unknown ones."""

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

AT_ONCE = 10_000
"""Texts that are tokenised at a time."""


@dataclass(frozen=True)
class Coverage:
    """Counts over texts; they can be added.

    Attributes:
        items: how many texts; a pair counts once.
        words: what stands between white space.
        characters: all but white space.
        pieces: the tokenizer's, without special ones; unknown: those that stand for anything.
    """

    items: int = 0
    words: int = 0
    characters: int = 0
    pieces: int = 0
    unknown: int = 0

    def __add__(self, other: "Coverage") -> "Coverage":
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return Coverage(*(mine + theirs for mine, theirs in pairs))

    @property
    def pieces_per_word(self) -> float | None:
        """Fertility; None without a word."""
        return self.pieces / self.words if self.words else None

    @property
    def unknown_share(self) -> float | None:
        """The part of the pieces that is unknown; None without a piece."""
        return self.unknown / self.pieces if self.pieces else None

    @property
    def characters_per_piece(self) -> float | None:
        """How long a piece is on average; None without a piece."""
        return self.characters / self.pieces if self.pieces else None


def count(items: Sequence[dict[str, str]], tokenizer: PreTrainedTokenizerBase) -> Coverage:
    """Count the texts of items, `text` and perhaps `text_pair`.

    A word is what `str.split` separates: so a language written without spaces has long ones, and
    its fertility says little.
    """
    texts = [item[name] for item in items for name in ("text", "text_pair") if name in item]
    total = Coverage(items=len(items))
    for start in range(0, len(texts), AT_ONCE):
        some = texts[start : start + AT_ONCE]
        words = [word for text in some for word in text.split()]
        encoded = tokenizer(some, add_special_tokens=False, verbose=False)["input_ids"]
        total += Coverage(
            words=len(words),
            characters=sum(map(len, words)),
            pieces=sum(map(len, encoded)),
            unknown=sum(ids.count(tokenizer.unk_token_id) for ids in encoded),
        )
    return total
