"""What the stage `mask` reads: artefacts and values of the config. Free of torch."""

from typing import Any

from deftx.plan.artefact import Artefact, Inputs
from deftx.plan.graph import BASE_MODEL, Graph, target_params
from deftx.stages.sparse.plan import Sparse, round_before, rounds_params, scored_difference


def inputs(graph: Graph, artefact: Artefact) -> Inputs:
    row, before = graph.row(artefact, Sparse), round_before(graph, artefact)
    looks = row.score == "magnitude"
    return {
        "base": [BASE_MODEL],
        "delta": [scored_difference(graph, artefact)] if looks else [],
        "start_vector": graph.start_vector(artefact) if looks and not row.denoise else [],
        "observed": [artefact.same("mask", method=row.observes)] if row.observes else [],
        "chosen": [artefact.same("mask", method=before)] if before else [],
    }


def params(graph: Graph, artefact: Artefact) -> dict[str, Any]:
    row = graph.row(artefact, Sparse)
    return {
        "method": artefact["method"],
        **target_params(artefact),
        "selection": row.selection.model_dump(),
        **rounds_params(graph, artefact),
    }
