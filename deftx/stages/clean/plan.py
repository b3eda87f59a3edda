"""What the stage `clean` reads: artefacts and values of the config. Free of torch."""

from typing import Any

from deftx.plan.artefact import Artefact, Inputs, once
from deftx.plan.graph import Graph
from deftx.stages.clean.settings import Cleaning


def inputs(graph: Graph, artefact: Artefact) -> Inputs:
    language = artefact["language"]
    return {
        "text": graph.texts(language),
        "evaluation": (_evaluation_items(graph, language) if _cleaning(graph).evaluation else []),
    }


def params(graph: Graph, artefact: Artefact) -> dict[str, Any]:
    return {
        **dict(artefact.wildcards),
        "datasets": [part["dataset"] for part in graph.texts(artefact["language"])],
        "cleaning": _cleaning(graph).model_dump(),
    }


def _cleaning(graph: Graph) -> Cleaning:
    assert graph.config.cleaning is not None, "only then is there such a stage"
    return graph.config.cleaning


def _evaluation_items(graph: Graph, language: str) -> list[Artefact]:
    """What tasks are tested or validated on in a language."""
    found = []
    for name in graph.config.evaluated_tasks:
        task = graph.config.tasks[name]
        if language in graph.config.task_languages(name):
            found.append(graph.items(task.test.dataset, language, task.test.split))
        if language == task.source:
            found.append(graph.items(task.valid.dataset, language, task.valid.split))
    return once(found)
