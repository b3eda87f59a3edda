"""What the stage `lora` reads: artefacts and values of the config. Free of torch."""

from typing import Any

from deftx.plan.artefact import Artefact, Inputs
from deftx.plan.graph import Graph
from deftx.stages.lora.method import LowRankTraining


def inputs(graph: Graph, artefact: Artefact) -> Inputs:
    return graph.training_inputs(artefact)


def params(graph: Graph, artefact: Artefact) -> dict[str, Any]:
    row = graph.row(artefact, LowRankTraining)
    return {
        **graph.training_params(artefact, row.average),
        "method": artefact["method"],
        "lora": row.lora.model_dump(),
        "budget": row.budget,
        "learning_rate": row.learning_rate,
    }
