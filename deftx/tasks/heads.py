"""The kinds of tasks by name: the model of each in transformers, and what it predicts for."""

from collections.abc import Callable
from typing import Any, NamedTuple

import transformers

from deftx.store.errors import InputError
from deftx.store.items import Item


class Head(NamedTuple):
    """A kind of task as models know it.

    Attributes:
        model: its class in transformers, which is imported when it is asked for: that takes a
            second.
        item: an item of a text without labels.
    """

    model: Callable[[], Any]
    item: Callable[[str], Item]


HEADS = {
    "classification": Head(
        lambda: transformers.AutoModelForSequenceClassification, lambda text: {"text": text}
    ),
    "tagging": Head(
        lambda: transformers.AutoModelForTokenClassification, lambda text: {"words": text.split()}
    ),
}
"""Kind → its head."""


def head_of(kind: str | None) -> Head:
    """The head of a kind of task, by default of classification. Raises InputError for an unknown
    one."""
    kind = kind or "classification"
    if kind not in HEADS:
        raise InputError(f"kind of task {kind!r}: expected one of {', '.join(HEADS)}")
    return HEADS[kind]
