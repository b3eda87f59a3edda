"""Methods whose vectors exist already. Free of torch."""

from collections.abc import Iterator
from typing import Any, ClassVar, Self

from pydantic import Field, model_validator

from deftx.plan.method import Kind, Row
from deftx.stages.convert.settings import Foreign


class Given(Row):
    """Vectors that exist already; nothing is trained."""

    stage: ClassVar[str] = "convert"
    key: ClassVar[str] = "vector"
    is_sparse: ClassVar[bool] = True
    is_trained: ClassVar[bool] = False

    vector: Foreign | None = Field(
        description="where the vectors are; none for a kind of target that has no vectors"
    )

    @model_validator(mode="after")
    def _is_not_trained(self) -> Self:
        if self.average is not None:
            raise ValueError("average has no effect on vectors that exist already")
        return self

    def has_vector_of(self, target: str) -> bool:
        """Whether there is a vector of a language or a task."""
        return self.vector is not None and self.vector.has(target)

    @classmethod
    def problems(cls, config: Any) -> Iterator[str]:
        """The targets for which such a method is used and has no vector, or none that fits."""
        for (name, kind, target), key in _uses(config).items():
            row = config.row(name, kind) if name in config.methods else None
            if not isinstance(row, cls):
                continue
            where = f"methods.{name}.vector"
            foreign = row.vector
            if foreign is None:
                yield f"{key}: {where} has no vector for a {kind}: give {where}.{kind}"
                continue
            if kind == "task" and not foreign.has(target):
                yield f"{where}.aliases.{target}: none, but {key} needs a vector of it"
            several = isinstance(foreign.revision, dict) and foreign.has(target)
            if several and foreign.revision_of(target) is None:
                yield f"{where}.revision: no commit for {target}, which {key} needs"
            classes = foreign.classes_of(target)
            if kind == "task" and classes and set(classes) != set(config.tasks[target].classes):
                yield (
                    f"{where}.classes: {', '.join(classes)}, but tasks.{target}.classes are "
                    f"{', '.join(config.tasks[target].classes)}"
                )


def _uses(config: Any) -> dict[tuple[str, Kind, str], str]:
    """Method, kind and name of each target that needs its vector → a key of the config that
    does."""
    used: dict[tuple[str, Kind, str], str] = {}
    for key, system in config.systems.items():
        for task in config.made_tasks:
            if key in config.task_systems(task):
                used[system.task, "task", task] = f"systems.{key}.task"
    for start in config.starts.values():
        for task in config.tasks.values():
            used[start, "language", task.source] = "task_start"
    for key, system in config.systems.items():
        for language in config.languages:
            used.setdefault((system.language, "language", language), f"systems.{key}.language")
    return used
