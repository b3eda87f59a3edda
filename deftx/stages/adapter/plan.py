"""MAD-X as a method, and what the stage `adapter` reads. Free of torch."""

from typing import Any, ClassVar

from pydantic import Field

from deftx.plan.artefact import Artefact, Inputs
from deftx.plan.graph import Graph
from deftx.plan.method import LearningRate, Row
from deftx.stages.adapter.settings import Adapter


class MadX(Row):
    """MAD-X: adapters of languages and tasks, stacked."""

    stage: ClassVar[str] = "adapter"
    key: ClassVar[str] = "adapter"
    is_stacked: ClassVar[bool] = True

    adapter: Adapter = Field(description="MAD-X: adapters instead of a difference of weights")
    learning_rate: LearningRate = None


def inputs(graph: Graph, artefact: Artefact) -> Inputs:
    read = graph.training_inputs(artefact)
    read["language_adapter"] = read.pop("start_vector")
    return read


def params(graph: Graph, artefact: Artefact) -> dict[str, Any]:
    row, target = graph.row(artefact, MadX), artefact.target
    return {
        **graph.training_params(artefact),
        "method": artefact["method"],
        "adapter": row.adapter.relevant(language=target.kind == "language"),
        "learning_rate": row.learning_rate,
    }
