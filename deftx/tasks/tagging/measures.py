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


def find_entities(answers: Answers, marks: Scheme) -> Entities:
    """The entities in the labels and the predictions."""
    labelled, predicted = (
        entities(tags, answers.ends, marks) for tags in (answers.labels, answers.predictions)
    )
    return Entities(labelled[_among(labelled, predicted)], labelled, predicted)


def _among(spans: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Which of the spans (k, 3) are among the others (m, 3): bool (k,)."""
    sizes = np.concatenate([spans, others]).max(axis=0, initial=0) + 1
    a, b = (np.ravel_multi_index(tuple(each.T), tuple(sizes)) for each in (spans, others))
    return np.isin(a, b)


def _entity_counts(answers: Answers) -> np.ndarray:
    """(items, 4): entities found, labelled and predicted; words."""
    if (marks := scheme(answers.classes)) is None:
        found = ", ".join(answers.classes)
        raise InputError(f"entity_f1 needs the tags O, B-X and I-X of types X, found {found}")
    counted = np.zeros((len(answers.labels), 4), dtype=np.int64)
    for column, spans in enumerate(find_entities(answers, marks)):
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
    if (marks := scheme(answers.classes)) is None:
        return counts
    found = find_entities(answers, marks)
    (micro,) = by_class(*(np.array([len(spans)]) for spans in found))
    begin = found.predicted[:, 0]
    invalid = begin[marks.prefixes[answers.predictions[begin]] == "I"]
    sentences = np.unique(np.searchsorted(answers.ends, invalid, side="right"))
    return counts | {
        "entity_precision": micro.precision,
        "entity_recall": micro.recall,
        "entity_f1": micro.f1,
        "entity_macro_f1": float(np.mean([each.f1 for each in _by_type(found, marks)])),
        "invalid_tags": len(invalid),
        "invalid_sentences": len(sentences) / len(answers.ends),
    }


def _by_type(found: Entities, marks: Scheme) -> tuple[ClassMetrics, ...]:
    return by_class(*(np.bincount(s[:, 2], minlength=len(marks.types)) for s in found))


def _types(answers: Answers) -> dict[str, ClassMetrics] | None:
    """The metrics of each type of entity, counted in entities."""
    if (marks := scheme(answers.classes)) is None:
        return None
    return dict(zip(marks.types, _by_type(find_entities(answers, marks), marks), strict=True))


def _groups(classes: Sequence[str]) -> Sequence[str]:
    """The type of each tag, or O; the tags themselves where they do not mark entities."""
    if (marks := scheme(classes)) is None:
        return classes
    return [marks.types[kind] if kind >= 0 else "O" for kind in marks.type_of]


def _examples(answers: Answers, items: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A few sentences with errors, evenly spaced among all of them. The marks of a sentence are its
    entities, or its words with a wrong tag."""
    if (marks := scheme(answers.classes)) is not None:
        names: Sequence[str] = marks.types
        _, *both = find_entities(answers, marks)
    else:
        names, wrong = answers.classes, np.flatnonzero(answers.labels != answers.predictions)
        both = [
            np.stack([wrong, wrong + 1, tags[wrong]], axis=1)
            for tags in (answers.labels, answers.predictions)
        ]
    mistaken = [~_among(spans, others) for spans, others in (both, both[::-1])]
    error = np.zeros(len(answers.labels), dtype=bool)
    for spans, are in zip(both, mistaken, strict=True):
        for begin, end, _ in spans[are]:
            error[begin:end] = True
    with_errors = np.unique(np.searchsorted(answers.ends, np.flatnonzero(error), side="right"))
    steps = np.linspace(0, len(with_errors) - 1, min(EXAMPLES, len(with_errors)))
    found = []
    for which in with_errors[steps.round().astype(int)]:
        first, last = answers.ends[which - 1] if which else 0, answers.ends[which]
        words = items[which]["words"]
        if len(words) != last - first:
            raise ArtefactError(
                f"sentence {items[which]['id']} has {len(words)} words, but was evaluated with "
                f"{last - first}"
            )
        shown, rows = _shown(error[first:last]), []
        for spans, are in zip(both, mistaken, strict=True):
            mine = (spans[:, 0] >= first) & (spans[:, 0] < last)
            of_word = [("", False)] * len(words)
            owner = np.full(len(words), -1)
            for number, (begin, end, kind) in enumerate(spans[mine] - [first, first, 0]):
                owner[begin:end] = number
                of_word[begin:end] = [(names[kind], bool(are[mine][number]))] * (end - begin)
            rows.append(_parts(words, shown, owner, of_word))
        found.append({"id": items[which]["id"], "labels": rows[0], "predictions": rows[1]})
    return found


def _shown(error: np.ndarray) -> np.ndarray:
    """Which words of a sentence an example shows: all, or the first ones around errors."""
    if len(error) <= LONGEST:
        return np.ones_like(error)
    near = np.convolve(error, np.ones(2 * CONTEXT + 1, dtype=int))[CONTEXT:-CONTEXT] > 0
    return near & (np.cumsum(near) <= LONGEST)


def _parts(
    words: Sequence[str],
    shown: np.ndarray,
    owner: np.ndarray,
    of_word: Sequence[tuple[str, bool]],
) -> list[dict[str, Any]]:
    """A sentence as texts, each with the name of its mark and whether the mark is wrong."""
    parts = []
    for (is_shown, _), places in groupby(
        range(len(words)), lambda at: (shown[at], owner[at] if shown[at] else -1)
    ):
        own = list(places)
        mark, wrong = of_word[own[0]] if is_shown else ("", False)
        text = " ".join(words[at] for at in own) if is_shown else "…"
        parts.append({"text": text, "mark": mark, "wrong": wrong})
    return parts


MEASURES = Measures(
    unit="words",
    on_hub="token-classification",
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
