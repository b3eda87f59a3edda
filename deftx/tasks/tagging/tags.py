"""What tags mean by their names, and what the `labels` of a dataset make of them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def mark_entities(classes: Sequence[Any]) -> bool:
    """Whether classes are O, and B-X or I-X of types X: the tags of named entities."""
    others = [str(name) for name in classes if name != "O"]
    return len(others) == len(classes) - 1 > 0 and all(type_of(name) for name in others)


def type_of(tag: str) -> str | None:
    """The type of the entity that a tag B-X or I-X marks, X; None for other tags."""
    return tag[2:] if tag[:2] in ("B-", "I-") and tag[2:] else None


def mapped(tag: str, labels: Mapping[str, str | None] | None) -> str | None:
    """The tag that `labels` maps a tag to, as a whole or by its type of entity: with `{X: Y}` the
    tag B-X becomes B-Y, with `{X: O}` it becomes O. Tags that are not named stay as they are; None
    is for words that are left out."""
    labels = labels or {}
    if tag in labels:
        return labels[tag]
    kind = type_of(tag)
    if kind is None or kind not in labels:
        return tag
    found = labels[kind]
    return found if found in (None, "O") else f"{tag[:2]}{found}"


def strange(labels: Mapping[str, str | None], classes: Sequence[str]) -> Iterable[str]:
    """What `labels` maps to that can be none of a task's classes: no class, and, where what it maps
    is no tag B-X or I-X, no type of them."""
    types = {kind for name in classes if (kind := type_of(name))}
    for tag, target in labels.items():
        if target is not None and target not in classes and (type_of(tag) or target not in types):
            yield target
