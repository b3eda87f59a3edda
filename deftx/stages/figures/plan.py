"""What the stage `figures` reads: artefacts and values of the config. Free of torch."""

from typing import Any

from deftx.plan.artefact import NONE, Artefact, Inputs, once
from deftx.plan.graph import BASE_MODEL, Graph
from deftx.plan.sweeps import sweeps
from deftx.stages.claims import plan as claims
from deftx.stages.mask import plan as mask
from deftx.stages.tables import plan as tables


def inputs(graph: Graph, artefact: Artefact) -> Inputs:
    first = str(graph.config.seeds[0])
    vectors = [v for v in graph.all_vectors if dict(v.wildcards).get("seed") == first]
    masks = [v.same("mask", method=v["method"]) for v in vectors if v.stage == "sparse"]
    scored = [part for each in masks for part in mask.inputs(graph, each)["delta"]]
    masks += [vector for vector in graph.all_vectors if vector.stage == "convert"]
    return {
        "base": [BASE_MODEL],
        "masks": masks,
        "denoised": once(a for a in [*vectors, *scored] if a.stage == "denoise"),
        **claims.inputs(graph, artefact),
    }


def params(graph: Graph, artefact: Artefact) -> dict[str, Any]:
    config = graph.config
    distances = config.world.languages if config.world else {}
    plain = [
        name
        for name in config.evaluated_systems
        if (system := config.systems[name]).language == NONE
        and config.row(system.task, "task").stage == "full"
    ]
    return {
        **tables.params(graph, artefact),
        "sweeps": sweeps(config),
        "distances": {key: d for key, d in distances.items() if key in config.languages},
        "zero_shot": plain[0] if plain else None,
    }
