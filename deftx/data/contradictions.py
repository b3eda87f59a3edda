"""What one file alone does not show: training data that hold test sentences, and test sets of
several languages whose ids disagree."""

from collections.abc import Iterator, Sequence

from deftx.stages.clean.math import words
from deftx.store.items import Item, texts_of


def _words(item: Item) -> tuple[str, ...]:
    return tuple("".join(words(text)) for text in texts_of(item))


def leaked(tests: Sequence[Item], trained: Sequence[Item]) -> int:
    """How many test items occur among items that a model is trained on: a labelled item as a whole,
    or, among lines of unlabelled text, one of its texts. Case, spaces and punctuation do not count,
    as in cleaning."""
    known = {_words(item) for item in trained}
    if "label" in trained[0]:
        return sum(any(words := _words(item)) and words in known for item in tests)
    return sum(any(word and (word,) in known for word in _words(item)) for item in tests)


def disagreements(mine: Sequence[Item], other: Sequence[Item]) -> Iterator[str]:
    """Messages about the ids of two languages' test sets: items with the same id count as
    translations of each other, which have the same label, if they have one as a whole."""
    labels = {item["id"]: item.get("label") for item in other}
    shared = [item for item in mine if item["id"] in labels]
    differ = [item["id"] for item in shared if item.get("label") != labels[item["id"]]]
    if differ:
        yield f"{len(differ)} of {len(shared)} shared ids have another label, {differ[0]!r} first"
    folded = {name.casefold() for name in labels}
    cases = [i["id"] for i in mine if i["id"] not in labels and i["id"].casefold() in folded]
    if cases:
        yield f"{len(cases)} ids differ in case only, {cases[0]!r} first"
