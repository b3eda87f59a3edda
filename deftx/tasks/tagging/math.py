"""Entities in sequences of tags, and how many of them are right."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from deftx.tasks.tagging.tags import mark_entities


class Scheme(NamedTuple):
    """What tags mean, by number: whether each begins an entity or is inside one, and the number of
    its type in `types`.

    Attributes:
        prefixes: (tags,) of "B", "I" or "O".
        type_of: (tags,), -1 for O.
    """

    prefixes: np.ndarray
    type_of: np.ndarray
    types: tuple[str, ...]


def scheme(classes: Sequence[str]) -> Scheme | None:
    """How classes mark entities: O, and B-X or I-X for each type X; None if they do not."""
    if not mark_entities(classes):
        return None
    parts = [name.partition("-") for name in classes]
    types = tuple(sorted({kind for _, _, kind in parts if kind}))
    return Scheme(
        np.array([prefix for prefix, _, _ in parts]),
        np.array([types.index(kind) if kind else -1 for _, _, kind in parts]),
        types,
    )


def entities(tags: np.ndarray, ends: np.ndarray, of: Scheme) -> np.ndarray:
    """The entities in tags (words,) of sentences that end at `ends` (sentences,): their first word,
    the word after their last, and the number of their type, int64 (entities, 3), in order.

    An entity begins at every B, and at an I after O, after another type or at the start of a
    sentence, as in the script conlleval of CoNLL-2000 and in seqeval's default mode.
    """
    kinds, first = of.type_of[tags], np.zeros(len(tags) + 1, dtype=bool)
    first[0] = True
    first[ends] = True
    inside, first = kinds >= 0, first[:-1]
    before = np.concatenate([[-1], kinds[:-1]])
    starts = inside & (first | (of.prefixes[tags] == "B") | (kinds != before))
    breaks = np.append(np.flatnonzero(starts | ~inside | first), len(tags))
    begin = np.flatnonzero(starts)
    end = breaks[np.searchsorted(breaks, begin, side="right")]
    return np.stack([begin, end, kinds[begin]], axis=1)


def entity_f1(found: np.ndarray, tags: np.ndarray, ends: np.ndarray, of: Scheme) -> float:
    """F1 in [0, 1] of predicted tags (words,) over all entities with exact words and type; 0 if
    there are none."""
    theirs, mine = ({*map(tuple, entities(each, ends, of).tolist())} for each in (found, tags))
    return 2 * len(theirs & mine) / max(1, len(theirs) + len(mine))
