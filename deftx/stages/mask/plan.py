"""What the stage `mask` reads: artefacts and values of the config. Free of torch."""

from typing import Any

from deftx.plan.artefact import ROUND, Artefact, Inputs
from deftx.plan.graph import BASE_MODEL, Graph, difference, target_params
from deftx.stages.sparse.method import Sparse


def inputs(graph: Graph, artefact: Artefact) -> Inputs:
    row = graph.row(artefact, Sparse)
    looks = row.score == "magnitude"
    return {
        "base": [BASE_MODEL],
        "delta": [scored_difference(graph, artefact)] if looks else [],
        "start_vector": graph.start_vector(artefact) if looks and not row.denoise else [],
        "observed": [artefact.same("mask", method=row.observes)] if row.observes else [],
        "chosen": round_before(graph, artefact),
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
    row, number = graph.row(artefact, Sparse), round_of(graph, artefact)
    former = _method_of_round(artefact, number - 1) if number > 1 else ""
    return difference(row.denoise, artefact, added=former)


def rounds_params(graph: Graph, artefact: Artefact) -> dict[str, Any]:
    """Which round of how many an artefact belongs to."""
    rounds = graph.row(artefact, Sparse).rounds
    return {"round": round_of(graph, artefact), "rounds": rounds}


def round_of(graph: Graph, artefact: Artefact) -> int:
    """The round that an artefact belongs to, from 1; a name without one is the last round's."""
    found = ROUND.search(artefact["method"])
    return int(found[1]) if found else graph.row(artefact, Sparse).rounds


def round_before(graph: Graph, artefact: Artefact) -> list[Artefact]:
    """The same artefact of the round before, if there is one."""
    number = round_of(graph, artefact)
    if number == 1:
        return []
    return [artefact.same(artefact.stage, method=_method_of_round(artefact, number - 1))]


def _method_of_round(artefact: Artefact, number: int) -> str:
    return f"{ROUND.sub('', artefact['method'])}.round{number}"
