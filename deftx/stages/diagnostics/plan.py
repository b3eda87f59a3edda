"""What the stage `diagnostics` reads: artefacts and values of the config. Free of torch."""

from typing import Any

from deftx.plan.artefact import Artefact, Inputs, once
from deftx.plan.graph import BASE_MODEL, Graph


def inputs(graph: Graph, artefact: Artefact) -> Inputs:
    evaluated = graph.evaluations_of(artefact["system"], artefact["task"])
    pairs = [graph.vectors(evaluation) for evaluation in evaluated]
    tasks = once(task for task, _ in pairs)
    return {
        "base": [BASE_MODEL],
        "vectors": [*tasks, *once(language for _, language in pairs)],
        "start_vector": [start for task in tasks for start in graph.start_vector(task)],
        "evaluated": evaluated,
    }


def params(graph: Graph, artefact: Artefact) -> dict[str, Any]:
    task = artefact["task"]
    return {
        **dict(artefact.wildcards),
        "source": graph.config.tasks[task].source,
        "languages": graph.config.task_languages(task),
        "seeds": graph.config.system_seeds(artefact["system"]),
    }
