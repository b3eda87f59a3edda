"""What the stage `full` reads: artefacts and values of the config. Free of torch."""

from dataclasses import replace
from typing import Any

from deftx.plan.artefact import ROUND, Artefact, Inputs
from deftx.plan.graph import Graph


def inputs(graph: Graph, artefact: Artefact) -> Inputs:
    target, seed = artefact.target, artefact["seed"]
    plain = replace(target, added="", average=None)
    former = {"method": target.added, "target": plain, "seed": seed}
    return {
        **graph.training_inputs(artefact),
        "round_vector": [Artefact.of("sparse", **former)] if target.added else [],
        "source_vector": graph.source_vectors(artefact),
    }


def params(graph: Graph, artefact: Artefact) -> dict[str, Any]:
    before = ROUND.search(artefact.target.added)
    return {
        **graph.training_params(artefact, artefact.target.average),
        **graph.several_sources_params(artefact.target),
        "round": int(before[1]) + 1 if before else 1,
    }
