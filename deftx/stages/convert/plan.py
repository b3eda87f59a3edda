"""What the stage `convert` reads: artefacts and values of the config. Free of torch."""

from pathlib import Path
from typing import Any

from deftx.core.vector_files import OURS, PUBLIC, vector_file
from deftx.plan.artefact import Artefact, Inputs
from deftx.plan.graph import BASE_MODEL, Graph
from deftx.plan.user_files import sha256
from deftx.stages.convert.method import Given
from deftx.stages.convert.settings import HUB_ID, Foreign
from deftx.tasks.heads import head_of


def inputs(graph: Graph, artefact: Artefact) -> Inputs:
    return {"base": [BASE_MODEL]}


def params(graph: Graph, artefact: Artefact) -> dict[str, Any]:
    target, foreign = artefact.target, _foreign(graph, artefact)
    found: dict[str, Any] = dict(artefact.wildcards)
    if target.kind == "task":
        found |= graph.config.tasks[target.name].head
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
    if target.kind == "language" or found.name == OURS or foreign.classes_of(target.name):
        return None
    if not head_of(graph.config.tasks[target.name].kind).is_sorted:
        return (
            f"{key}: {path} does not record the order of its classes: give `classes`, those of "
            f"tasks.{target.name} in the order of the rows of its head"
        )
    return None


def _foreign(graph: Graph, artefact: Artefact) -> Foreign:
    foreign = graph.row(artefact, Given).vector
    assert foreign is not None, "the config is checked for it"
    return foreign
