"""The embedded world: related artificial languages with text and three labelled tasks.

The content of a sentence is drawn first and does not depend on a language: which thing does what,
how, and with which polarity. A language only turns contents into words. So test sets are parallel
without translation, and an item with the same id has the same content and label in every language.

Every random draw uses its own stream, which is seeded by the world's seed, the purpose and, where
it concerns one language, the language's key. Adding a language therefore changes no other one.
Distances are only compared with drawn numbers: a language that is moved away from the source
replaces more words and keeps its earlier replacements.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from random import Random
from typing import Any, Literal, NamedTuple, TypeVar

from deftx.stages.world.settings import INFERENCE, SENTIMENT, World
from deftx.store.errors import InputError

DOCUMENT = 5  # sentences; long enough that a short block of tokens rarely mixes two documents
STREAMS = ("text", "train", "valid", "test")

CONSONANTS, VOWELS = "ptkbdgmnlrsvzw", "aeiou"
# Each shift leads to a letter that the source lacks, so different words stay different.
SHIFTS = (("p", "f"), ("t", "c"), ("k", "h"), ("g", "j"), ("s", "x"), ("e", "y"))
# International words use every letter, so a tokenizer trained on any language knows all letters.
LETTERS = CONSONANTS + "fchjx", VOWELS + "y"
# Nouns fall into classes, and each class has its own article. With a single article for all nouns a
# model misreads the article of another language.
CLASSES = ("round", "long", "small")
ROLES = {"subject": "NOUN", "verb": "VERB", "object": "NOUN", "quality": "ADJ", "manner": "ADV"}
ORDERS = ("subject verb object", "subject object verb", "verb subject object")

T = TypeVar("T")
Word = tuple[str, int, int]  # kind, topic or polarity, number


class Sentence(NamedTuple):
    """The content of one sentence: its topic, its polarity and the numbers of its words."""

    topic: int
    polarity: int
    subject: int
    verb: int
    object: int
    quality: int
    manner: int
    place: int  # 0: the quality belongs to the subject, 1: to the object

    @property
    def stream(self) -> str:
        """The only stream that may contain this sentence, by a check digit over its words.

        So no test sentence can occur in training data or in text, whatever their sizes.
        """
        return STREAMS[sum(self) % len(STREAMS)]


@dataclass(frozen=True)
class Language:
    """The words, endings and word order that turn a content into a sentence; the name under which
    all of this is drawn."""

    name: str
    words: dict[Word, str]
    articles: dict[str, str]
    endings: dict[str, str]
    order: str
    quality_first: bool

    def say(
        self, sentence: Sentence, other: "Language | None" = None, borrowed: Iterable[str] = ()
    ) -> str:
        """The sentence in this language; words in the `borrowed` roles come from `other`."""
        return " ".join(word for word, _ in self.tagged(sentence, other, borrowed)) + "."

    def tagged(
        self, sentence: Sentence, other: "Language | None" = None, borrowed: Iterable[str] = ()
    ) -> list[tuple[str, str]]:
        """The words of the sentence as `say` has them, each with its part of speech."""
        lender = other or self
        word = {
            role: ((lender if role in borrowed else self).word(sentence, role), tag)
            for role, tag in ROLES.items()
        }
        nouns = [[word["subject"]], [word["object"]]]
        nouns[sentence.place].insert(0 if self.quality_first else 1, word["quality"])
        articles = [
            (self.articles[CLASSES[noun % len(CLASSES)]], "DET")
            for noun in (sentence.subject, sentence.object)
        ]
        parts = {
            "subject": (articles[0], *nouns[0]),
            "verb": (word["verb"], word["manner"]),
            "object": (articles[1], *nouns[1]),
        }
        return [word for part in self.order.split() for word in parts[part]]

    def word(self, sentence: Sentence, role: str) -> str:
        """The word in this role with its ending. International words take no ending."""
        number = getattr(sentence, role)
        if role in ("subject", "object"):
            word = self.words["noun", sentence.topic, number]
        else:
            word = self.words[role, sentence.polarity, number]
        return word + self.endings.get(role, "") if word[-1] in LETTERS[1] else word


def text(world: World, language: str, lines: int) -> list[str]:
    """Unlabelled documents, one per line, each of a few sentences that share topic and polarity.

    This coherence is the only evidence of which words belong together; there is no dictionary.
    Each language has its own documents, as in real monolingual text. A share of the words is
    borrowed from the source, as in real text of small languages; task items borrow no words.
    """
    speaker, source = _language(world, language), _build(world, "source", 0.0)
    rng, mixing = (_rng(world, purpose, speaker.name) for purpose in ("text", "borrowed"))

    def say(sentence: Sentence) -> str:
        borrowed = {role for role in ROLES if mixing.random() < world.borrowed}
        return speaker.say(sentence, source, borrowed)

    documents = (
        _document(world, rng, "text", DOCUMENT, _below(rng, len(SENTIMENT))) for _ in range(lines)
    )
    return [" ".join(map(say, document)) for document in documents]


def labelled(
    world: World, task: Literal["sentiment", "inference"], language: str, split: str, items: int
) -> list[dict[str, str]]:
    """Items of a task, whose contents are the same in all languages; labels repeat in turn.

    Sentiment: one or two sentences, labelled with their polarity. Lengths vary, and the quality may
    belong to either noun: so a model has to learn words, since no fixed position reveals the label.

    Inference: pairs of premise and hypothesis, labelled with whether the hypothesis follows. Both
    are about the same two things; the premise is never of neutral polarity. A hypothesis of the
    same polarity follows, one of the opposite polarity contradicts, and one of neutral polarity is
    neutral. So the premise alone does not reveal the label, and the hypothesis alone reveals at
    most that it is neutral.
    """
    _check_split(split)
    speaker, rng = _language(world, language), _rng(world, task, split)
    rows = []
    for number in range(items):
        polarity = number % len(SENTIMENT)
        if task == "sentiment":
            label = SENTIMENT[polarity]
            sentences = _document(world, rng, split, 1 + _below(rng, 2), polarity)
            texts = {"text": " ".join(map(speaker.say, sentences))}
        else:
            label = INFERENCE[number % len(INFERENCE)]
            premise, hypothesis = _pair(world, rng, split, label)
            texts = {"text": speaker.say(premise), "text_pair": speaker.say(hypothesis)}
        rows.append({"id": f"{task}-{split}-{number:05d}", **texts, "label": label})
    return rows


def tagged(world: World, language: str, split: str, items: int) -> list[dict[str, Any]]:
    """Sentences of words with their parts of speech: one or two sentences of text are an item, so
    no fixed position reveals the tag. The contents are the same in all languages."""
    _check_split(split)
    speaker, rng = _language(world, language), _rng(world, "tags", split)
    rows = []
    for number in range(items):
        sentences = _document(world, rng, split, 1 + _below(rng, 2), number % len(SENTIMENT))
        pairs = [pair for each in sentences for pair in (*speaker.tagged(each), (".", "PUNCT"))]
        words, tags = map(list, zip(*pairs, strict=True))
        rows.append({"id": f"tags-{split}-{number:05d}", "words": words, "tags": tags})
    return rows


def _check_split(split: str) -> None:
    if split not in STREAMS[1:]:
        raise InputError(f"no split {split!r}; there are {', '.join(STREAMS[1:])}")


# Contents


def _document(
    world: World, rng: Random, stream: str, sentences: int, polarity: int
) -> list[Sentence]:
    """Sentences about one topic and with one polarity."""
    topic = _below(rng, world.topics)
    return [_sentence(world, rng, stream, topic=topic, polarity=polarity) for _ in range(sentences)]


def _pair(world: World, rng: Random, split: str, label: str) -> tuple[Sentence, Sentence]:
    premise = _sentence(world, rng, split, polarity=_pick(rng, (0, 2)))
    polarity = {"entailment": premise.polarity, "contradiction": 2 - premise.polarity}.get(label, 1)
    things = {"topic": premise.topic, "subject": premise.subject, "object": premise.object}
    return premise, _sentence(world, rng, split, polarity=polarity, **things)


def _sentence(world: World, rng: Random, stream: str, **fixed: int) -> Sentence:
    """A sentence of the stream with the fixed values; the rest is drawn until the stream fits."""
    while True:
        bounds = (world.topics, len(SENTIMENT), *[world.words] * 5, 2)
        drawn = Sentence._make(_below(rng, bound) for bound in bounds)
        sentence = drawn._replace(**fixed)
        if sentence.stream == stream:
            return sentence


# Languages


def _language(world: World, key: str) -> Language:
    """The language with this key; every language at distance 0 is the source."""
    if key not in world.languages:
        raise KeyError(f"no language {key!r} in this world; it has {', '.join(world.languages)}")
    distance = world.languages[key]
    return _build(world, key if distance else "source", distance)


def _build(world: World, name: str, distance: float) -> Language:
    """The language with this name at this distance; distance 0 is the source itself."""
    shift = str.maketrans(dict(_first(_rng(world, "shifts", name), SHIFTS, distance / 2)))

    def native(
        kind: str, groups: Mapping[str, Sequence[T]], syllables: tuple[int, ...]
    ) -> dict[T, str]:
        """The source's roots, with a share of each group replaced by the language's own, so that a
        distance affects all labels alike."""
        taken: set[str] = set()
        keys = [key for group in groups.values() for key in group]
        roots, own = (
            {key: _fresh(rng, (CONSONANTS, VOWELS), syllables, taken) for key in keys}
            for rng in (_rng(world, kind, "source"), _rng(world, kind, name))
        )
        for group, members in groups.items():
            replaced = _first(_rng(world, "replaced", kind, group, name), members, distance)
            roots |= {key: own[key] for key in replaced}
        return {key: root.translate(shift) for key, root in roots.items()}

    groups = [("noun", topic) for topic in range(world.topics)]
    groups += [(kind, mood) for kind in ("verb", "quality", "manner") for mood in range(3)]
    shared = round(world.international * world.words)
    own = {
        f"{k} {group}": [(k, group, n) for n in range(shared, world.words)] for k, group in groups
    }
    # The words that all languages share end in a consonant; native words end in a vowel.
    rng, taken = _rng(world, "international"), set[str]()
    international = {
        (*group, number): _fresh(rng, LETTERS, (2,), taken) + _pick(rng, "nrslm")
        for group in groups
        for number in range(shared)
    }
    rng = _rng(world, "order", name)
    # Word order changes at larger distances than words: never in a close relative, always in the
    # farthest language.
    moved = [0.25 + rng.random() / 2 < distance for _ in range(2)]
    return Language(
        name=name,
        words=native("words", own, (2, 2, 2, 3)) | international,
        articles=native("articles", {"": CLASSES}, (1,)),
        endings=native("endings", {"": ("object", "verb")}, (1,)),
        order=_pick(rng, ORDERS[1:]) if moved[0] else ORDERS[0],
        quality_first=moved[1],
    )


def _fresh(
    rng: Random, letters: tuple[str, str], syllables: tuple[int, ...], taken: set[str]
) -> str:
    """A root that is not taken yet; it is added to `taken`."""
    while True:
        count = _pick(rng, syllables)
        root = "".join(_pick(rng, part) for _ in range(count) for part in letters)
        if root not in taken:
            taken.add(root)
            return root


# Randomness. Only Random.random() is guaranteed to stay the same in later versions of Python.


def _rng(world: World, *purpose: str) -> Random:
    name = "/".join((str(world.seed), *purpose))
    return Random(int.from_bytes(sha256(name.encode()).digest()[:8], "big"))


def _below(rng: Random, bound: int) -> int:
    return int(rng.random() * bound)


def _pick(rng: Random, options: Sequence[T]) -> T:
    return options[_below(rng, len(options))]


def _first(rng: Random, options: Sequence[T], share: float) -> list[T]:
    """The first part of the options in a drawn order; a larger share only adds options."""
    order = sorted(options, key=lambda _: rng.random())
    return order[: round(share * len(order))]
