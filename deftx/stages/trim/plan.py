"""What the stage `trim` reads: artefacts and values of the config. Free of torch."""

from typing import Any

from deftx.plan.artefact import Artefact, Inputs
from deftx.plan.graph import Graph
from deftx.stages.data.settings import WithoutNearest


def inputs(graph: Graph, artefact: Artefact) -> Inputs:
    other = _other(graph, artefact)
    whole = {"dataset": artefact["dataset"], "language": artefact["language"]}
    return {
        "splits": [Artefact.of("data", **whole, split=split) for split in other.among],
        "made_from": [graph.items(other.dataset, other.language, other.split)],
    }


def params(graph: Graph, artefact: Artefact) -> dict[str, Any]:
    return {**dict(artefact.wildcards), "among": _other(graph, artefact).among}


def _other(graph: Graph, artefact: Artefact) -> WithoutNearest:
    other = graph.config.datasets[artefact["dataset"]].without_nearest
    assert other is not None, "only such datasets are trimmed"
    return other
