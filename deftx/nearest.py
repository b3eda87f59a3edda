"""The nearest text by edit distance."""

import re
from collections.abc import Sequence

from rapidfuzz.distance import Levenshtein
from rapidfuzz.process import extractOne

_BEFORE = re.compile(r"\s+([.,!?;:%)\]])")
_AFTER = re.compile(r"([(\[])\s+")


def detokenised(text: str) -> str:
    """The text in lower case, without the blanks that a tokenizer puts around punctuation."""
    return _AFTER.sub(r"\1", _BEFORE.sub(r"\1", text.lower()))


def nearest(text: str, others: Sequence[str]) -> int:
    """Position of the text among `others`, of which there is one at least, that the fewest
    insertions, deletions and substitutions of characters make of it; of several, the first."""
    _, _, position = extractOne(text, others, scorer=Levenshtein.distance)
    return int(position)
