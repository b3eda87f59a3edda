"""What the stage `costs` reads: artefacts and values of the config. Free of torch."""

from deftx.plan.artefact import Artefact, Inputs
from deftx.plan.graph import Graph
from deftx.stages.tables.plan import params


def inputs(graph: Graph, artefact: Artefact) -> Inputs:
    return {"config": [Artefact.of("config")], "evaluated": graph.evaluations}


__all__ = ["inputs", "params"]  # the parameters are those of the tables
