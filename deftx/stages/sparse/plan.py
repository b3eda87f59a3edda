"""What the stage `sparse` reads: artefacts and values of the config. Free of torch."""

from typing import Any

from deftx.plan.artefact import Artefact, Inputs
from deftx.plan.graph import Graph
from deftx.stages.mask.plan import round_before, rounds_params, scored_difference
from deftx.stages.sparse.method import Sparse


def inputs(graph: Graph, artefact: Artefact) -> Inputs:
    row, before = graph.row(artefact, Sparse), round_before(graph, artefact)
    return {
        **graph.training_inputs(artefact),
        "mask": [artefact.same("mask", method=artefact["method"])],
        "delta": [] if row.retrain else [scored_difference(graph, artefact)],
        "round_vector": [artefact.same("sparse", method=before)] if before else [],
        "source_vector": graph.source_vectors(artefact),
    }


def params(graph: Graph, artefact: Artefact) -> dict[str, Any]:
    row = graph.row(artefact, Sparse)
    return {
        **graph.training_params(artefact, row.average),
        **graph.several_sources_params(artefact.target),
        **rounds_params(graph, artefact),
        "method": artefact["method"],
        "retrain": row.retrain,
        "learning_rate": row.learning_rate,
        **row.model_dump(include={"keep_lower"}),
    }
