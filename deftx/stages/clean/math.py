"""Clean unlabelled text line by line; docs/data.md describes the rule."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence

from deftx.stages.clean.settings import Cleaning
from deftx.store.items import Item

OUTCOMES = ("blank", "short", "long", "evaluation", "duplicate", "kept")
"""The outcomes of a line; the first that applies is counted."""

_WORD = re.compile(r"\w+")


def words(text: str) -> list[str]:
    """Runs of letters, digits and underscores in the text, in NFKC and lower case."""
    return _WORD.findall(unicodedata.normalize("NFKC", text).lower())


def key(text: str) -> str:
    """The words of the text joined together; two lines with equal keys are duplicates."""
    return "".join(words(text))


def tidy(text: str) -> str:
    """The text in NFC, with white space collapsed to single spaces and stripped at both ends."""
    return " ".join(unicodedata.normalize("NFC", text).split())


class Sentences:
    """Sentences that must not occur in a text. A line contains one if it has the sentence's key or
    `run` consecutive words of it; with `run` None only keys are compared."""

    def __init__(self, texts: Iterable[str], run: int | None) -> None:
        self._run = run
        self._keys: set[str] = set()
        self._runs: set[tuple[str, ...]] = set()
        for text in texts:
            found = words(text)
            self._keys.add("".join(found))
            self._runs.update(self._runs_of(found))
        self._keys.discard("")  # blank sentences drop no line

    def __contains__(self, text: str) -> bool:
        found = words(text)
        return "".join(found) in self._keys or not self._runs.isdisjoint(self._runs_of(found))

    def _runs_of(self, found: Sequence[str]) -> Iterable[tuple[str, ...]]:
        if self._run is None:
            return ()
        return zip(*(found[start:] for start in range(self._run)), strict=False)


def clean(
    items: Sequence[Item], evaluation: Iterable[str], settings: Cleaning
) -> tuple[list[Item], dict[str, int]]:
    """The tidied items that are kept, in order, and counts of lines: `read`, and one count per
    outcome, which add up to `read`. A line without a word counts as blank."""
    sentences = Sentences(evaluation if settings.evaluation else (), settings.run)
    seen: set[str] = set()
    counts = Counter(read=len(items))
    kept = []
    for item in items:
        text = tidy(item["text"])
        outcome = _outcome(text, sentences, seen, settings)
        counts[outcome] += 1
        if outcome == "kept":
            kept.append({**item, "text": text})
    return kept, {name: counts[name] for name in ("read", *OUTCOMES)}


def _outcome(text: str, sentences: Sentences, seen: set[str], settings: Cleaning) -> str:
    mine = key(text)
    if not mine:
        return "blank"
    if len(text) < settings.min_characters:
        return "short"
    if settings.max_characters is not None and len(text) > settings.max_characters:
        return "long"
    if text in sentences:
        return "evaluation"
    if settings.duplicates:
        if mine in seen:
            return "duplicate"
        seen.add(mine)
    return "kept"
