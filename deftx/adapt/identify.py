"""Lines of a text that look like another, big language.

An identifier of 139 languages (py3langid; its model is in its wheel, and nothing is downloaded)
does not know most small languages, and calls them by a relative's name: three quarters of genuine
Banjarese lines are Indonesian or Malay to it. So a line counts as of a big language by two signs:
the identifier's probability, and the share of its words that are among this language's commonest.
docs/look.md has the error rates, measured, with the command."""

from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from deftx.store.yaml_files import read_yaml

SURE = 0.8
"""A line is called by a language's name from this probability on. Measured: see docs/look.md."""

COMMON = 0.15
"""The share of a line's words that are to be among the language's commonest."""

TRUE = 0.5
"""If this part of the lines that are called X have the words of X too, the others are of X as well:
they are short, or lists. If fewer have, the text's own language is a relative of X."""

OF_A_RELATIVE = 0.12
"""COMMON for a relative, whose words that the text's own language shares do not count."""

SHARED = 0.005
"""A word is shared if it has this share of the words of the lines that are not called X."""

RELATIVE = 0.1
"""A relative is worth a remark if this part of the lines is called by its name."""

ENOUGH = 20
"""Characters. A shorter line is not judged. Design choice: a name or a heading has no language."""

PUNCTUATION = "\"'.,;:!?()[]{}<>-–—…“”‘’«»*/\\|،؛؟।"


class Big(NamedTuple):
    """A language that texts in small languages are often mixed with: its name, the labels of the
    identifier that are it, and its commonest words."""

    name: str
    labels: frozenset[str]
    words: frozenset[str]


class Other(NamedTuple):
    """A line that looks like a big language: the identifier's probability, and the share of its
    words that are among the language's commonest."""

    line: int
    language: str
    probability: float
    common: float


class Languages(NamedTuple):
    """What an identifier finds in the lines of a text.

    judged: lines of ENOUGH characters. others: those that look like a big language, with most of
    its words first. relatives: big languages to which the identifier assigns many lines of this
    text; their lines are in `others` only if their words agree. called: name of a
    language → how many lines the identifier is SURE of, for the five commonest. own: how many lines
    it takes for the text's own language; None if it does not know that.
    """

    judged: int
    others: list[Other]
    relatives: list[str]
    called: dict[str, int]
    own: int | None


@cache
def known_languages() -> tuple[list[Big], dict[str, str], dict[str, str]]:
    """The big languages; ISO 639-3 code → label of the identifier; label → name."""
    read = read_yaml(Path(__file__).with_name("big_languages.yaml"))
    big = [
        Big(each["name"], frozenset(each["labels"]), frozenset(each["words"].split()))
        for each in read["big"]
    ]
    labels = {code: label for label, (codes, _) in read["labels"].items() for code in codes.split()}
    return big, labels, {label: name for label, (_, name) in read["labels"].items()}


@cache
def identifier_of_languages() -> Any:
    """py3langid's identifier with its own model, which gives probabilities."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # half a second

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def language_name(language: str) -> str:
    """The English name of a language by its ISO 639-3 code, perhaps with a script (`ace_Arab`); the
    code itself if the identifier does not know the language."""
    _, labels, names = known_languages()
    return names[labels[code]] if (code := language.partition("_")[0]) in labels else language


def languages_of(lines: Sequence[str], language: str) -> Languages:
    """What an identifier finds in lines of a text in `language`, an ISO 639-3 code. The language
    itself, and what the identifier cannot distinguish from it, never count as another one."""
    identifier = identifier_of_languages()
    every, labels, names = known_languages()
    own = labels.get(language.partition("_")[0])
    big = [each for each in every if own not in each.labels]
    as_own = next((each.labels for each in every if own in each.labels), {own})
    group_of = {label: each for each in big for label in each.labels}
    called: Counter[str] = Counter()
    own_lines = judged = 0
    sure: dict[str, list[tuple[int, float]]] = {each.name: [] for each in big}
    for number, line in enumerate(lines):
        if len(line) < ENOUGH:
            continue
        judged += 1
        label, probability = identifier.classify(line)
        own_lines += label in as_own
        group = group_of.get(label)
        if group and len(group.labels) > 1 and probability < SURE:
            ranked = dict(identifier.rank(line))
            probability = sum(ranked[each] for each in group.labels)
        if probability >= SURE:
            called[group.name if group else names[label]] += 1
            if group:
                sure[group.name].append((number, probability))
    others: list[Other] = []
    relatives = []
    for name, _, words in big:
        found = [Other(n, name, p, common_share(lines[n], words)) for n, p in sure[name]]
        if sum(other.common >= COMMON for other in found) < TRUE * len(found):
            own_words = words - _shared(lines, {other.line for other in found}, words)
            found = [o._replace(common=common_share(lines[o.line], own_words)) for o in found]
            if len(found) > judged * RELATIVE:
                relatives.append(name)
            found = [other for other in found if other.common >= OF_A_RELATIVE]
        others += found
    return Languages(
        judged,
        sorted(others, key=lambda other: -other.common),
        relatives,
        dict(called.most_common(5)),
        own_lines if own else None,
    )


def _shared(lines: Sequence[str], called: set[int], words: frozenset[str]) -> set[str]:
    """Those of the words that the lines use which are not called by the language's name."""
    count: Counter[str] = Counter()
    for number, line in enumerate(lines):
        if number not in called:
            count.update(_words(line))
    least = max(3, SHARED * count.total())
    return {word for word in words if count[word] >= least}


def _words(line: str) -> list[str]:
    """Words in lower case, without punctuation at their ends."""
    return [word.strip(PUNCTUATION) for word in line.lower().split()]


def common_share(line: str, words: frozenset[str]) -> float:
    """The share of a line's words, in lower case and without punctuation, that are among others."""
    mine = _words(line)
    return sum(word in words for word in mine) / max(1, len(mine))
