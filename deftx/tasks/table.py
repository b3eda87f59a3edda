"""Every kind of task once, as a config names it. Free of torch."""

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Discriminator, Tag

from deftx.plan.task import Task
from deftx.tasks.classification.settings import Classification
from deftx.tasks.tagging.settings import Tagging


def _kind_of_task(task: Any) -> str:
    given = task.get("kind") if isinstance(task, dict) else getattr(task, "kind", None)
    return str(given or "classification")


if TYPE_CHECKING:
    AnyTask = Task
else:
    AnyTask = Annotated[
        Annotated[Classification, Tag("classification")] | Annotated[Tagging, Tag("tagging")],
        Discriminator(_kind_of_task),
    ]
    """A task of a config; without a `kind` a classification."""
