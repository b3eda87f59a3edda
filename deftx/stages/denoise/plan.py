"""What the stage `denoise` reads: artefacts and values of the config. Free of torch."""

from typing import Any

from deftx.plan.artefact import Artefact, Inputs
from deftx.plan.graph import BASE_MODEL, Graph, target_params


def inputs(graph: Graph, artefact: Artefact) -> Inputs:
    return {
        "base": [BASE_MODEL],
        "full": [artefact.same("full")],
        "start_vector": graph.start_vector(artefact),
    }


def params(graph: Graph, artefact: Artefact) -> dict[str, Any]:
    rule = graph.rules[artefact.target.kind, artefact["rule"]]
    return {"rule": rule.model_dump(), **target_params(artefact)}
