"""What the stage `evaluate` reads: artefacts and values of the config. Free of torch."""

from typing import Any

from deftx.plan.artefact import Artefact, Inputs
from deftx.plan.graph import BASE_MODEL, Graph


def inputs(graph: Graph, artefact: Artefact) -> Inputs:
    task, language = graph.vectors(artefact)
    # A composed sparse vector holds everything; other vectors are put together in memory.
    in_memory = not graph.is_sparse_sum(artefact)
    length = graph.config.tasks[artefact["task"]].training.max_length
    return {
        "base": [BASE_MODEL],
        "composed": [Artefact("compose", artefact.wildcards)],
        "test": [graph.tokens(graph.test_items(artefact), length)],
        "task_vector": [task] if in_memory else [],
        "language_vector": [language] if in_memory and language else [],
        "start_vector": graph.start_vector(task) if in_memory else [],
    }


def params(graph: Graph, artefact: Artefact) -> dict[str, Any]:
    task = graph.config.tasks[artefact["task"]]
    return {
        **dict(artefact.wildcards),
        "seed": int(artefact["seed"]),
        **task.head,
        "max_length": task.training.max_length,
    }
