"""Ada-SFT as a method, and what the stage `gate` reads. Free of torch."""

from typing import Any, ClassVar

from pydantic import Field

from deftx.plan.artefact import Artefact, Inputs
from deftx.plan.graph import Graph
from deftx.plan.method import LearningRate, Row
from deftx.stages.gate.settings import Gate


class AdaSft(Row):
    """Ada-SFT: a learned soft mask, and weights that are trained behind it."""

    stage: ClassVar[str] = "gated"
    key: ClassVar[str] = "gate"

    gate: Gate = Field(description="Ada-SFT: a learned soft mask")
    learning_rate: LearningRate = None


def inputs(graph: Graph, artefact: Artefact) -> Inputs:
    return graph.training_inputs(artefact)


def params(graph: Graph, artefact: Artefact) -> dict[str, Any]:
    return {
        **graph.training_params(artefact),
        "method": artefact["method"],
        "gate": graph.row(artefact, AdaSft).gate.model_dump(),
    }
