"""What the stage `config` reads: artefacts and values of the config. Free of torch."""

from typing import Any

from deftx.plan.artefact import Artefact, Inputs
from deftx.plan.graph import Graph


def inputs(graph: Graph, artefact: Artefact) -> Inputs:
    return {}


def params(graph: Graph, artefact: Artefact) -> dict[str, Any]:
    return {"config": graph.config.model_dump_json()}
