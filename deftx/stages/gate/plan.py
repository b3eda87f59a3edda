"""What the stage `gate` reads: artefacts and values of the config. Free of torch."""

from typing import Any

from deftx.plan.artefact import Artefact, Inputs
from deftx.plan.graph import Graph
from deftx.stages.gate.method import AdaSft


def inputs(graph: Graph, artefact: Artefact) -> Inputs:
    return graph.training_inputs(artefact)


def params(graph: Graph, artefact: Artefact) -> dict[str, Any]:
    return {
        **graph.training_params(artefact),
        "method": artefact["method"],
        "gate": graph.row(artefact, AdaSft).gate.model_dump(),
    }
