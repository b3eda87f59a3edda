"""How tagging is measured and shown: by words, and by entities where the tags mark these.

Entities are compared by exact words and type, over all sentences together (micro), with the
convention of the script conlleval of CoNLL-2000, see `deftx.tasks.tagging.math.entities`. An
entity never spans two sentences.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np

from deftx.report.metrics import (
    ACCURACY,
    MACRO_F1,
    Answers,
    ClassMetrics,
    Measures,
    Metric,
    by_class,
    ratio,
)
from deftx.store.errors import ArtefactError, InputError
from deftx.tasks.tagging.math import Scheme, entities, scheme

EXAMPLES = 3
"""Sentences with errors that are shown of each language."""

LONGEST, CONTEXT = 60, 5
"""Words that an example shows at most, and on each side of an error if the sentence has more."""


class Entities(NamedTuple):
    """Entities (k, 3) as `deftx.tasks.tagging.math.entities` returns them: those that are labelled
    and predicted with the same words and type, all labelled ones, all predicted ones."""

    right: np.ndarray
    labelled: np.ndarray
    predicted: np.ndarray


def find_entities(answers: Answers, of: Scheme) -> Entities:
    """The entities in the labels and the predictions."""
    labelled, predicted = (
        entities(tags, answers.ends, of) for tags in (answers.labels, answers.predictions)
    )
    return Entities(labelled[_among(labelled, predicted)], labelled, predicted)


def _among(spans: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Which of the spans (k, 3) are among the others (m, 3): bool (k,)."""
    sizes = np.concatenate([spans, others]).max(axis=0, initial=0) + 1
    a, b = (np.ravel_multi_index(tuple(each.T), tuple(sizes)) for each in (spans, others))
    return np.isin(a, b)


def _entity_counts(answers: Answers) -> np.ndarray:
    """(items, 4): entities found, labelled and predicted; words."""
    if (of := scheme(answers.classes)) is None:
        found = ", ".join(answers.classes)
        raise InputError(f"entity_f1 needs the tags O, B-X and I-X of types X, found {found}")
    counted = np.zeros((len(answers.labels), 4), dtype=np.int64)
    for column, spans in enumerate(find_entities(answers, of)):
        counted[spans[:, 0], column] = 1
    counted[:, 3] = 1
    return answers.per_item(counted)


def entity_f1(sums: np.ndarray) -> np.ndarray:
    """F1 of numbers of entities found, labelled and predicted, and of words, (…, 4); 0 if there is
    no entity, as in seqeval."""
    right, labelled, predicted, words = np.moveaxis(sums, -1, 0)
    return np.where(words > 0, ratio(2 * right, labelled + predicted, empty=0.0), np.nan)


def _more(answers: Answers) -> dict[str, float]:
    """The number of words. Where tags mark entities: their micro precision, recall and F1; the mean
    F1 over types; the number of invalid tags, predicted I-X that follow neither B-X nor I-X; and
    the share of sentences with such a tag."""
    counts: dict[str, float] = {"words": len(answers.labels)}
    if (of := scheme(answers.classes)) is None:
        return counts
    found = find_entities(answers, of)
    (micro,) = by_class(*(np.array([len(spans)]) for spans in found))
    begin = found.predicted[:, 0]
    invalid = begin[of.prefixes[answers.predictions[begin]] == "I"]
    sentences = np.unique(np.searchsorted(answers.ends, invalid, side="right"))
    return counts | {
        "entity_precision": micro.precision,
        "entity_recall": micro.recall,
        "entity_f1": micro.f1,
        "entity_macro_f1": float(np.mean([each.f1 for each in _by_type(found, of)])),
        "invalid_tags": len(invalid),
        "invalid_sentences": len(sentences) / len(answers.ends),
    }


def _by_type(found: Entities, of: Scheme) -> tuple[ClassMetrics, ...]:
    return by_class(*(np.bincount(s[:, 2], minlength=len(of.types)) for s in found))


def _types(answers: Answers) -> dict[str, ClassMetrics] | None:
    """The metrics of each type of entity, counted in entities."""
    if (of := scheme(answers.classes)) is None:
        return None
    return dict(zip(of.types, _by_type(find_entities(answers, of), of), strict=True))


def _groups(classes: Sequence[str]) -> Sequence[str]:
    """The type of each tag, or O; the tags themselves where they do not mark entities."""
    if (of := scheme(classes)) is None:
        return classes
    return [of.types[kind] if kind >= 0 else "O" for kind in of.type_of]


def _examples(answers: Answers, items: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A few sentences with errors, evenly spaced among all of them. The marks of a sentence are its
    entities, or its words with a wrong tag."""
    if (of := scheme(answers.classes)) is not None:
        names: Sequence[str] = of.types
        _, labelled, predicted = find_entities(answers, of)
    else:
        names, wrong = answers.classes, np.flatnonzero(answers.labels != answers.predictions)
        labelled, predicted = (
            np.stack([wrong, wrong + 1, tags[wrong]], axis=1)
            for tags in (answers.labels, answers.predictions)
        )
    words = len(answers.labels)
    both = _marks(words, labelled, predicted, names), _marks(words, predicted, labelled, names)
    error = np.array([a.wrong or b.wrong for a, b in zip(*both, strict=True)])
    sentences = np.unique(np.searchsorted(answers.ends, np.flatnonzero(error), side="right"))
    steps = np.linspace(0, len(sentences) - 1, min(EXAMPLES, len(sentences))).round().astype(int)
    found = []
    for which in sentences[steps]:
        item, last = items[which], int(answers.ends[which])
        first = int(answers.ends[which - 1]) if which else 0
        if len(item["words"]) != last - first:
            raise ArtefactError(
                f"sentence {item['id']} has {len(item['words'])} words, evaluated were "
                f"{last - first}"
            )
        shown = _shown(error[first:last])
        labels, predictions = (_parts(item["words"], each[first:last], shown) for each in both)
        found.append({"id": item["id"], "labels": labels, "predictions": predictions})
    return found


class Mark(NamedTuple):
    """Which span a word is in, what the span is called, and whether it is wrong."""

    span: int = -1
    name: str = ""
    wrong: bool = False


def _marks(words: int, spans: np.ndarray, others: np.ndarray, names: Sequence[str]) -> list[Mark]:
    """The mark of each word; a span is wrong if it is not among the others."""
    marks = [Mark()] * words
    for number, right in enumerate(_among(spans, others).tolist()):
        begin, end, kind = spans[number]
        marks[begin:end] = [Mark(number, names[kind], not right)] * int(end - begin)
    return marks


def _shown(error: np.ndarray) -> np.ndarray:
    """Which words of a sentence an example shows: all, or the first ones around errors."""
    if len(error) <= LONGEST:
        return np.ones_like(error)
    near = np.convolve(error, np.ones(2 * CONTEXT + 1, dtype=int), mode="same") > 0
    return near & (np.cumsum(near) <= LONGEST)


def _parts(words: Sequence[str], marks: Sequence[Mark], shown: np.ndarray) -> list[dict[str, Any]]:
    """A sentence as texts, each with the name of its mark and whether the mark is wrong."""
    parts = []
    for mark, places in groupby(range(len(words)), lambda at: marks[at] if shown[at] else None):
        text = "…" if mark is None else " ".join(words[at] for at in places)
        _, name, wrong = mark or Mark()
        parts.append({"text": text, "mark": name, "wrong": wrong})
    return parts


MEASURES = Measures(
    items="sentences",
    unit="words",
    metrics={
        "accuracy": replace(ACCURACY, in_full="accuracy over all words"),
        "macro_f1": replace(MACRO_F1, in_full="macro-F1 of words over the task's tags"),
        "entity_f1": Metric(
            "entity F1",
            "entity F1 (micro, exact words and type, conlleval's convention)",
            "f1",
            _entity_counts,
            entity_f1,
            has_chance=False,
        ),
    },
    more=_more,
    classes=_types,
    groups=_groups,
    examples=_examples,
)
