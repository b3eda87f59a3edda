"""Cleaning unlabelled text: one documented rule, line by line (docs/data.md)."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence

from deftx.stages.clean.settings import Cleaning
from deftx.store.items import Item

OUTCOMES = ("blank", "short", "long", "evaluation", "duplicate", "kept")
"""What can become of a line; the first that applies is counted."""

_WORD = re.compile(r"\w+")


def words(text: str) -> list[str]:
    """Runs of letters, digits and underscores, of the text in NFKC and lower case."""
    return _WORD.findall(unicodedata.normalize("NFKC", text).lower())


def key(text: str) -> str:
    """What makes two lines the same: the text's words without what is between them."""
    return "".join(words(text))


def tidy(text: str) -> str:
    """The text in NFC, white space collapsed to single blanks, none at the ends."""
    return " ".join(unicodedata.normalize("NFC", text).split())


class Sentences:
    """Sentences that must not be in a text, known by their key and by each `run` of words."""

    def __init__(self, texts: Iterable[str], run: int | None) -> None:
        self._run = run
        self._keys: set[str] = set()
        self._runs: set[tuple[str, ...]] = set()
        for text in texts:
            found = words(text)
            self._keys.add("".join(found))
            self._runs.update(self._runs_of(found))
        self._keys.discard("")  # a blank sentence is no reason to drop a line

    def __contains__(self, text: str) -> bool:
        found = words(text)
        if "".join(found) in self._keys:
            return True
        return any(run in self._runs for run in self._runs_of(found))

    def _runs_of(self, found: Sequence[str]) -> Iterable[tuple[str, ...]]:
        if self._run is None:
            return ()
        return zip(*(found[start:] for start in range(self._run)), strict=False)


def clean(
    items: Sequence[Item], evaluation: Iterable[str], settings: Cleaning
) -> tuple[list[Item], dict[str, int]]:
    """The items that stay, tidied and in their order, and how many lines were read and what became
    of them: `read`, then OUTCOMES, which add up to it. A line without a word is blank."""
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
