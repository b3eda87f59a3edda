"""What the stage `mean` reads: artefacts and values of the config. Free of torch."""

from typing import Any

from deftx.plan.artefact import Artefact, Inputs
from deftx.plan.graph import BASE_MODEL, Graph


def inputs(graph: Graph, artefact: Artefact) -> Inputs:
    vectors = [
        graph.vector(artefact["method"], artefact.target, seed)
        for seed in artefact["seeds"].split("-")
    ]
    return {
        "base": [BASE_MODEL],
        "vectors": vectors,
        # Weights become a difference here; every other vector is one already.
        "start_vector": [s for v in vectors if v.stage == "full" for s in graph.start_vector(v)],
    }


def params(graph: Graph, artefact: Artefact) -> dict[str, Any]:
    return {
        "method": artefact["method"],
        "target": artefact.target.label,
        "start": artefact.target.start,
        "seeds": [int(seed) for seed in artefact["seeds"].split("-")],
    }
