"""Methods whose vectors exist already, and what the stage `convert` reads. Free of torch."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from deftx.core.vector_files import OURS, PUBLIC, vector_file
from deftx.plan.artefact import NONE, Artefact, Inputs
from deftx.plan.graph import BASE_MODEL, Graph
from deftx.plan.method import Kind, Row
from deftx.plan.schema import RunSettings
from deftx.plan.user_files import sha256
from deftx.stages.convert.settings import HUB_ID, Foreign


class Given(Row):
    """Vectors that exist already; nothing is trained."""

    stage: ClassVar[str] = "convert"
    key: ClassVar[str] = "vector"
    is_sparse: ClassVar[bool] = True
    is_trained: ClassVar[bool] = False

    vector: Foreign | None = Field(
        description="where the vectors are; none for a kind of target that has no vectors"
    )

    def has_vector_of(self, target: str) -> bool:
        """Whether there is a vector of a language or a task."""
        return self.vector is not None and self.vector.has(target)

    @classmethod
    def problems(cls, config: RunSettings[Any]) -> Iterator[str]:
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


def _uses(config: RunSettings[Any]) -> dict[tuple[str, Kind, str], str]:
    """Method, kind and name of each target that needs its vector → a key of the config that
    does."""
    used: dict[tuple[str, Kind, str], str] = {}
    for key, system in config.systems.items():
        for language in config.languages:
            used[system.language, "language", language] = f"systems.{key}.language"
        for task in config.evaluated_tasks:
            if key in config.task_systems(task):
                used[system.task, "task", task] = f"systems.{key}.task"
    for start in (config.task_start, *(s.task_start for s in config.systems.values())):
        for table in config.tasks.values():
            used[start or NONE, "language", table.source] = "task_start"
    return used


def inputs(graph: Graph, artefact: Artefact) -> Inputs:
    return {"base": [BASE_MODEL]}


def params(graph: Graph, artefact: Artefact) -> dict[str, Any]:
    target, foreign = artefact.target, _foreign(graph, artefact)
    found: dict[str, Any] = dict(artefact.wildcards)
    if target.kind == "task":
        found["classes"] = graph.config.tasks[target.name].classes
        found["stored_classes"] = foreign.classes_of(target.name)
    if revision := foreign.revision_of(target.name):
        return {**found, "id": foreign.source_of(target.name), "revision": revision}
    path = file(graph, artefact)
    return {**found, "content": sha256(path) if path else None}


def file(graph: Graph, artefact: Artefact) -> Path | None:
    """The user's file that the vector is read from; None if it is missing, or on the hub."""
    target, foreign = artefact.target, _foreign(graph, artefact)
    if foreign.revision_of(target.name):
        return None
    return vector_file(graph.user_files.locate(foreign.source_of(target.name)))


def missing(graph: Graph, artefact: Artefact) -> str | None:
    """The message about the user's file, if it is missing or its classes are unknown."""
    target, foreign = artefact.target, _foreign(graph, artefact)
    key = f"methods.{artefact['method']}.vector ({target.label})"
    if foreign.revision_of(target.name):
        return None
    path, found = graph.user_files.locate(foreign.source_of(target.name)), file(graph, artefact)
    if found is None:
        hint = "; for a hub id give its revision" if HUB_ID.match(foreign.source) else ""
        return f"{key}: no {OURS} and no {PUBLIC} at {path}{hint}"
    if target.kind == "task" and found.name != OURS and not foreign.classes_of(target.name):
        return (
            f"{key}: {path} does not record the order of its classes: give `classes`, those of "
            f"tasks.{target.name} in the order of the rows of its head"
        )
    return None


def _foreign(graph: Graph, artefact: Artefact) -> Foreign:
    foreign = graph.row(artefact, Given).vector
    assert foreign is not None, "the config is checked for it"
    return foreign
