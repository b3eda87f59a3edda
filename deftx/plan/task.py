"""A task in a config, whatever its kind. Free of torch."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, ClassVar

from pydantic import Field

from deftx.engine.settings import TaskTraining
from deftx.stages.data.settings import Split
from deftx.stages.prior.settings import Target
from deftx.store.strict import Strict

LanguageKey = Annotated[
    str,
    Field(
        pattern=r"^[a-z]{3}(_[A-Z][a-z]{3})?$",
        description="ISO 639-3, where needed with a script of ISO 15924: ace or ace_Arab",
    ),
]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")]


class Items(Strict):
    """A split of a dataset."""

    dataset: Name
    split: Split


class Source(Items):
    """Labelled data of one more language."""

    language: LanguageKey


class Prior(Strict):
    """What the predictions of each system are to be on average in each language, over unlabelled
    items: the systems are shown with this assumption, too, under names that end in `+ prior`."""

    items: Items = Field(
        description="items of the task's domain, which are not the test's; labels are not read"
    )
    languages: list[LanguageKey] | None = Field(
        default=None, description="that have such items; default: those of the task"
    )
    target: Target = Field(
        default="uniform",
        description="uniform: every class equally often; source: as often as the same system "
        "predicts it on the items of the source language",
    )


class Task(Strict, ABC):
    """A task with labelled data in a source language, or in several, and test sets in others.
    Subclasses are its kinds, whose names `kind` has."""

    roles: ClassVar[tuple[str, ...]]
    """The columns that its items need, that of the labels last."""
    of_the_world: ClassVar[Mapping[str, Sequence[str]]]
    """What the embedded world makes for it → the classes."""
    shows_errors: ClassVar[bool] = False
    """Whether the page of a run shows examples of errors, which need the test items."""

    kind: str
    classes: Annotated[list[str], Field(min_length=2)]
    source: LanguageKey
    train: Items
    valid: Items
    test: Items
    more_sources: list[Source] = Field(
        default_factory=list,
        description="further labelled languages to train on, each under its own vector of "
        "task_start; the source validates",
    )
    languages: list[LanguageKey] | None = Field(
        default=None,
        description="where it is evaluated; default: every language; an empty list leaves it out",
    )
    models_for: list[LanguageKey] = Field(
        default=[],
        exclude_if=lambda languages: not languages,
        description="languages without a test set: their models are composed, and not evaluated",
    )
    systems: list[Name] | None = Field(
        default=None, description="the systems evaluated on it; default: every system"
    )
    training: TaskTraining = TaskTraining()
    prior: Prior | None = Field(
        default=None,
        description="also show each system with a bias on the classes, from unlabelled items",
    )

    @property
    def sources(self) -> list[str]:
        """The languages with labelled data, `source` first."""
        return [self.source, *(more.language for more in self.more_sources)]

    @property
    @abstractmethod
    def head(self) -> dict[str, Any]:
        """What stages are given about the model that predicts: `classes`, in the order of its
        logits, and the `kind` of task unless it is the default."""

    def strange(self, labels: Mapping[str, str | None]) -> Iterable[str]:
        """What the `labels` of a dataset map to that is none of the classes."""
        return {label for label in labels.values() if label is not None} - {*self.classes}
