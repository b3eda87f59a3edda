"""What the stage `summary` reads: artefacts and values of the config. Free of torch."""

from deftx.plan.artefact import Artefact, Inputs
from deftx.plan.graph import Graph
from deftx.stages.coverage import plan as coverage
from deftx.stages.tables.plan import params


def inputs(graph: Graph, artefact: Artefact) -> Inputs:
    shown = ("tables", "claims", "figures", "costs", "cards", "base", "config", "coverage")
    counted = coverage.inputs(graph, artefact)["data"]
    return {
        **{stage: [Artefact.of(stage)] for stage in shown},
        "cleaned": [part for part in counted if part.stage == "clean"],
    }


__all__ = ["inputs", "params"]  # the parameters are those of the tables
