"""What the stage `mask` reads: artefacts and values of the config. Free of torch."""

from typing import Any

from deftx.plan.artefact import ROUND, Artefact, Inputs
from deftx.plan.graph import BASE_MODEL, Graph, difference, target_params
from deftx.stages.sparse.method import Sparse


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


def scored_difference(graph: Graph, artefact: Artefact) -> Artefact:
    """The difference, denoised or raw, whose entries are scored in the artefact's round."""
    row = graph.row(artefact, Sparse)
    added = round_before(graph, artefact)
    return difference(row.denoise, artefact, added, row.full_average)


def rounds_params(graph: Graph, artefact: Artefact) -> dict[str, int]:
    """Which round of how many an artefact belongs to; a name without one is the last round's."""
    found, rounds = ROUND.search(artefact["method"]), graph.row(artefact, Sparse).rounds
    return {"round": int(found[1]) if found else rounds, "rounds": rounds}


def round_before(graph: Graph, artefact: Artefact) -> str:
    """The name of the method in the round before; empty in the first one."""
    number = rounds_params(graph, artefact)["round"] - 1
    return f"{ROUND.sub('', artefact['method'])}.round{number}" if number else ""
