"""Search for the nearest text by edit distance."""

import re
from collections.abc import Sequence

import numpy as np
from rapidfuzz.distance import Levenshtein

_BEFORE = re.compile(r"\s+([.,!?;:%)\]])")
_AFTER = re.compile(r"([(\[])\s+")


def detokenised(text: str) -> str:
    """The text in lower case, without the spaces that a tokenizer puts around punctuation."""
    return _AFTER.sub(r"\1", _BEFORE.sub(r"\1", text.lower()))


class Nearest:
    """A search among one or more texts."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = texts
        self._lengths = np.array([len(text) for text in texts])

    def to(self, text: str) -> int:
        """Position of the text with the smallest edit distance (insertions, deletions and
        substitutions of characters) to this one; the first of several."""
        # The difference in length is a lower bound of the distance: the search can end early.
        apart = np.abs(self._lengths - len(text))
        best, found = max(len(text), int(self._lengths.max())) + 1, -1
        for position in np.argsort(apart, kind="stable").tolist():
            if apart[position] > best:
                break
            distance = Levenshtein.distance(text, self._texts[position], score_cutoff=best)
            if distance < best or (distance == best and position < found):
                best, found = distance, position
        return found
