"""Classification of texts in a config. Free of torch."""

from typing import Any, ClassVar, Literal, Self

from pydantic import model_validator

from deftx.plan.task import Task
from deftx.stages.world.settings import INFERENCE, SENTIMENT


class Classification(Task):
    """Each text, or pair of texts, is of one class."""

    roles = ("text", "label")
    of_the_world: ClassVar = {"sentiment": SENTIMENT, "inference": INFERENCE}

    kind: Literal["classification"] = "classification"

    @property
    def head(self) -> dict[str, Any]:
        """The classes."""
        return {"classes": self.classes}

    @model_validator(mode="after")
    def _metric_of_texts(self) -> Self:
        if self.training.metric == "entity_f1":
            raise ValueError("training.metric: entity_f1 is of tasks of the kind tagging")
        return self
