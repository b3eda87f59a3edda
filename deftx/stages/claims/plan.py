"""What the stage `claims` reads: artefacts and values of the config. Free of torch."""

from deftx.plan.artefact import Artefact, Inputs, once
from deftx.plan.graph import Graph
from deftx.stages.tables.plan import params


def inputs(graph: Graph, artefact: Artefact) -> Inputs:
    return {
        "evaluated": graph.evaluations,
        "priors": graph.priors,
        "diagnostics": once(
            Artefact.of("diagnostics", system=e["system"], task=e["task"])
            for e in graph.evaluations
        ),
        "coverage": [Artefact.of("coverage")],
    }


__all__ = ["inputs", "params"]  # the parameters are those of the tables
