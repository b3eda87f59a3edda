"""The kinds of tasks by name: the model of each in transformers, and what it predicts for. Free of
torch."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, NamedTuple

from pydantic import Field

from deftx.store.errors import InputError
from deftx.store.items import Item
from deftx.store.strict import absent

KindOfTask = Annotated[
    str | None,
    Field(description="the kind of a task; default: classification", exclude_if=absent),
]
"""A parameter of stages that know a task."""


class Head(NamedTuple):
    """A kind of task as models know it.

    Attributes:
        model: its class in transformers, which is imported when it is asked for: that takes a
            second.
        item: an item of a text without labels.
        task_type: its name in PEFT.
        pipeline: its name on the Hub, and of its pipeline in transformers.
        is_sorted: whether vectors of others that do not record the order of their classes are known
            to have them sorted as strings, as the public LT-SFT code sorts tags.
    """

    model: Callable[[], Any]
    item: Callable[[str], Item]
    task_type: str
    pipeline: str
    is_sorted: bool


def _of_texts() -> Any:
    from transformers import AutoModelForSequenceClassification

    return AutoModelForSequenceClassification


def _of_words() -> Any:
    from transformers import AutoModelForTokenClassification

    return AutoModelForTokenClassification


HEADS = {
    "classification": Head(
        model=_of_texts,
        item=lambda text: {"text": text},
        task_type="SEQ_CLS",
        pipeline="text-classification",
        is_sorted=False,
    ),
    "tagging": Head(
        model=_of_words,
        item=lambda text: {"words": text.split()},
        task_type="TOKEN_CLS",
        pipeline="token-classification",
        is_sorted=True,
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


def task_type(classes: Sequence[str] | None, kind: str | None) -> str:
    """PEFT's name for a kind of task, or without classes for a language model."""
    return head_of(kind).task_type if classes else "MASKED_LM"


def kind_of_model(name: str) -> str | None:
    """The kind of task that a model predicts, by the name of its class in transformers, such as
    BertForTokenClassification; None for all other models."""
    ends = {kind: head.model().__name__.removeprefix("AutoModel") for kind, head in HEADS.items()}
    return next((kind for kind, end in ends.items() if name.endswith(end)), None)
