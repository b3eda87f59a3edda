"""What the stage `gate` reads: artefacts and values of the config. Free of torch."""

from typing import Any

from deftx.plan.artefact import Artefact, Inputs
from deftx.plan.graph import Graph
from deftx.stages.gate.method import AdaSft


def inputs(graph: Graph, artefact: Artefact) -> Inputs:
    return graph.training_inputs(artefact)


def params(graph: Graph, artefact: Artefact) -> dict[str, Any]:
    row = graph.row(artefact, AdaSft)
    return {
        **graph.training_params(artefact, row.average),
        "method": artefact["method"],
        "gate": row.gate.model_dump(),
    }
