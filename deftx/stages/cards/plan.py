"""What the stage `cards` reads: artefacts and values of the config. Free of torch."""

from deftx.plan.artefact import Artefact, Inputs
from deftx.plan.graph import Graph
from deftx.stages.costs import plan as costs
from deftx.stages.tables.plan import params


def inputs(graph: Graph, artefact: Artefact) -> Inputs:
    sparse = [vector for vector in graph.all_vectors if vector.stage in ("sparse", "convert")]
    return {
        **costs.inputs(graph, artefact),
        "priors": graph.priors,
        "vectors": sparse,
    }


__all__ = ["inputs", "params"]  # the parameters are those of the tables
