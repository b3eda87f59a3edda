"""What the stage `gated` reads: artefacts and values of the config. Free of torch."""

from typing import Any

from deftx.plan.artefact import Artefact, Inputs
from deftx.plan.graph import Graph
from deftx.stages.gate import plan as gate
from deftx.stages.gate.method import AdaSft


def inputs(graph: Graph, artefact: Artefact) -> Inputs:
    gates = artefact.same("gate", method=artefact["method"])
    return {**graph.training_inputs(artefact), "gates": [gates]}


def params(graph: Graph, artefact: Artefact) -> dict[str, Any]:
    rate = graph.row(artefact, AdaSft).learning_rate
    return {**gate.params(graph, artefact), "learning_rate": rate}
