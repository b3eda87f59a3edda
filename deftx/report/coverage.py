"""How well a tokenizer covers a text: words, the pieces that they become, and unknown ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # importing it takes longer than making a page
    from transformers import PreTrainedTokenizerBase

AT_ONCE = 10_000
"""Texts that are tokenised at a time."""


FAR = 2.0
"""Times the source's fertility from which on a language is warned of. Design choice: XLM-R base
cuts languages that it was pretrained on into 1.2 to 2 pieces a word."""

UNKNOWN = 0.01
"""Unknown share above the source's from which on a language is warned of. Design choice: a model
reads every hundredth piece as nothing."""


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


def count(items: Sequence[dict[str, str]], tokenizer: "PreTrainedTokenizerBase") -> Coverage:
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


def warnings(
    whole: Mapping[str, Coverage], sources: Sequence[str], names: Mapping[str, str]
) -> list[str]:
    """A sentence for each language that is covered much worse than the sources, in which tasks are
    learnt: in all its texts together FAR times as many pieces a word, or an unknown share larger
    by UNKNOWN."""
    known_best = sum((whole[key] for key in sources if key in whole), Coverage())
    usual, known = known_best.pieces_per_word, known_best.unknown_share
    if usual is None or known is None:
        return []
    found = []
    for language in sorted(whole.keys() - set(sources)):
        mine = whole[language]
        name = names.get(language, language)
        if mine.unknown_share is not None and mine.unknown_share > known + UNKNOWN:
            found.append(
                f"{name}: the tokenizer does not know {mine.unknown_share:.1%} of the pieces, of "
                f"the source's {known:.1%}: is its script in the base's vocabulary?"
            )
        if mine.pieces_per_word is not None and mine.pieces_per_word > FAR * usual:
            found.append(
                f"{name}: {mine.pieces_per_word:.1f} pieces a word, the source has {usual:.1f}: "
                "texts are cut off earlier at max_length, and pieces mean less"
            )
    return found
