"""What the stage `tokens` reads: artefacts and values of the config. Free of torch."""

from typing import Any

from deftx.plan.artefact import Artefact, Inputs
from deftx.plan.graph import BASE_MODEL, Graph
from deftx.stages.tokens.settings import WHOLE


def inputs(graph: Graph, artefact: Artefact) -> Inputs:
    stage, *place = artefact["of"].split("/")
    items = Artefact.of(stage, language=place[0]) if stage == "clean" else graph.items(*place)
    return {"base": [BASE_MODEL], "data": [items]}


def params(graph: Graph, artefact: Artefact) -> dict[str, Any]:
    length = artefact["length"]
    return {"of": artefact["of"], "length": length if length == WHOLE else int(length)}
