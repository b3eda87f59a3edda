"""Tagging of words in a config. Free of torch."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from deftx.plan.task import Task
from deftx.stages.world.settings import TAGS
from deftx.store.strict import absent
from deftx.tasks.tagging.tags import mark_entities, strange


class Tagging(Task):
    """Each word of a sentence is of one class: `classes` are the tags, or for named entities O, and
    B-X and I-X for each type X of `entities`."""

    roles = ("words", "tags")
    of_the_world: ClassVar = {"tags": TAGS}
    shows_errors = True

    kind: Literal["tagging"]
    entities: Annotated[list[str], Field(min_length=1)] | None = Field(
        default=None,
        exclude_if=absent,
        description="types of named entities, such as [PER, ORG, LOC], instead of classes",
    )

    @property
    def head(self) -> dict[str, Any]:
        """The tags, and the kind."""
        return {"classes": self.classes, "kind": self.kind}

    def strange(self, labels: Mapping[str, str | None]) -> Iterable[str]:
        """What is no class, and where a type of entities is mapped, no type of the classes."""
        return strange(labels, self.classes)

    @model_validator(mode="before")
    @classmethod
    def _classes_and_metric(cls, given: Any) -> Any:
        """The classes of entities, sorted as the public LT-SFT code sorts them, and the metric."""
        if not isinstance(given, dict):
            return given
        entities, classes = given.get("entities"), given.get("classes")
        if isinstance(entities, list):
            own = sorted(["O", *(f"{at}-{name}" for at in "BI" for name in entities)])
            if classes not in (None, own):
                raise ValueError("give classes or entities, not both")
            given, classes = {**given, "classes": own}, own
        training = given.get("training", {})
        if isinstance(training, dict) and isinstance(classes, list):
            metric = "entity_f1" if mark_entities(classes) else "accuracy"
            given = {**given, "training": {"metric": metric, **training}}
        return given

    @model_validator(mode="after")
    def _of_words(self) -> Self:
        if self.training.metric == "entity_f1" and not mark_entities(self.classes):
            raise ValueError("training.metric: entity_f1 needs the classes O, B-X and I-X")
        if self.prior is not None and self.prior.target == "uniform":
            raise ValueError(
                "prior.target: uniform would make all tags equally frequent among words; expected "
                "source"
            )
        return self
