"""What the stage `compose` reads: artefacts and values of the config. Free of torch."""

from typing import Any

from deftx.plan.artefact import Artefact, Inputs
from deftx.plan.graph import BASE_MODEL, Graph


def inputs(graph: Graph, artefact: Artefact) -> Inputs:
    task, language = graph.vectors(artefact)
    return {
        "base": [BASE_MODEL],
        "task_vector": [task],
        "language_vector": [language] if language else [],
    }


def params(graph: Graph, artefact: Artefact) -> dict[str, Any]:
    system = graph.config.systems[artefact["system"]]
    return {
        **dict(artefact.wildcards),
        "seed": int(artefact["seed"]),
        "task_scale": system.task_scale,
        "language_scale": system.language_scale,
        "combine": system.combine and system.combine.model_dump(),
        **system.model_dump(include={"task_depth", "language_depth"}),
    }
