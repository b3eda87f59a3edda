"""Clean unlabelled text line by line; docs/data.md describes the rule."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from deftx.stages.clean.settings import Cleaning
from deftx.store.items import Item

OUTCOMES = ("blank", "short", "long", "evaluation", "duplicate", "kept")
"""The outcomes of a line; the first that applies is counted."""


def words(text: str) -> list[str]:
    """Runs of letters, digits and underscores in the text, in NFKC and lower case."""
    return re.findall(r"\w+", unicodedata.normalize("NFKC", text).lower())


def tidy(text: str) -> str:
    """The text in NFC, with white space collapsed to single spaces and stripped at both ends."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def runs(found: Sequence[str], length: int | None) -> set[tuple[str, ...]]:
    """All runs of this many consecutive words; none if the length is None."""
    return set(zip(*(found[start:] for start in range(length or 0)), strict=False))


class Judged(NamedTuple):
    """A line after cleaning: its tidied text, its words, and one of OUTCOMES."""

    text: str
    words: list[str]
    outcome: str


def judged(texts: Iterable[str], evaluation: Iterable[str], settings: Cleaning) -> Iterator[Judged]:
    """What cleaning makes of each line, in order. A line without a word counts as blank. Lines are
    equal if their words joined together are."""
    sentences = [words(text) for text in evaluation] if settings.evaluation else []
    keys = {"".join(sentence) for sentence in sentences}
    forbidden = {run for sentence in sentences for run in runs(sentence, settings.run)}
    seen: set[str] = set()
    for given in texts:
        text = tidy(given)
        found = words(text)
        key = "".join(found)
        if not key:
            outcome = "blank"
        elif len(text) < settings.min_characters:
            outcome = "short"
        elif settings.max_characters is not None and len(text) > settings.max_characters:
            outcome = "long"
        elif key in keys or (forbidden and not forbidden.isdisjoint(runs(found, settings.run))):
            outcome = "evaluation"
        elif settings.duplicates and key in seen:
            outcome = "duplicate"
        else:
            outcome = "kept"
            seen.add(key)
        yield Judged(text, found, outcome)


def clean(
    items: Sequence[Item], evaluation: Iterable[str], settings: Cleaning
) -> tuple[list[Item], dict[str, int]]:
    """The tidied items that are kept, in order, and counts of lines: `read`, and one count per
    outcome, which add up to `read`."""
    counts = Counter(read=len(items))
    kept = []
    texts = (item["text"] for item in items)
    for item, line in zip(items, judged(texts, evaluation, settings), strict=True):
        counts[line.outcome] += 1
        if line.outcome == "kept":
            kept.append({**item, "text": line.text})
    return kept, {name: counts[name] for name in ("read", *OUTCOMES)}
