"""Classification of texts in a config. Free of torch."""

from collections.abc import Iterator
from typing import Any, Literal, Self

from pydantic import model_validator

from deftx.plan.task import Task
from deftx.stages.data.settings import Dataset


class Classification(Task):
    """Each text, or pair of texts, is of one class."""

    kind: Literal["classification"] = "classification"

    @property
    def head(self) -> dict[str, Any]:
        """The classes."""
        return {"classes": self.classes}

    def problems(self, dataset: Dataset) -> Iterator[str]:
        """Whether it names a column of labels."""
        if not dataset.world and dataset.columns.label is None:
            yield "columns.label: missing: the items of a task are labelled"

    @model_validator(mode="after")
    def _metric_of_texts(self) -> Self:
        if self.training.metric == "entity_f1":
            raise ValueError("training.metric: entity_f1 is of tasks of the kind tagging")
        return self
