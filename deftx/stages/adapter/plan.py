"""What the stage `adapter` reads: artefacts and values of the config. Free of torch."""

from typing import Any

from deftx.plan.artefact import Artefact, Inputs
from deftx.plan.graph import Graph
from deftx.stages.adapter.method import MadX


def inputs(graph: Graph, artefact: Artefact) -> Inputs:
    read = graph.training_inputs(artefact)
    read["language_adapter"] = read.pop("start_vector")
    return read


def params(graph: Graph, artefact: Artefact) -> dict[str, Any]:
    row, target = graph.row(artefact, MadX), artefact.target
    return {
        **graph.training_params(artefact, row.average),
        "method": artefact["method"],
        "adapter": row.adapter.relevant(language=target.kind == "language"),
        "learning_rate": row.learning_rate,
    }
