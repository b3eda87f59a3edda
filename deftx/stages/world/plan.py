"""What the stage `world` reads: artefacts and values of the config. Free of torch."""

from typing import Any

from deftx.plan.artefact import Artefact, Inputs
from deftx.plan.graph import Graph


def inputs(graph: Graph, artefact: Artefact) -> Inputs:
    return {}


def params(graph: Graph, artefact: Artefact) -> dict[str, Any]:
    dataset, world = graph.config.datasets[artefact["dataset"]], graph.config.world
    assert world is not None, "the config is checked for it"
    language = artefact["language"]
    # Only its own distance, so that a language that is added leaves this one untouched.
    only = {**world.model_dump(), "languages": {language: world.languages[language]}}
    return {
        **dict(artefact.wildcards),
        "kind": dataset.world,
        "items": dataset.items[artefact["split"]],  # type: ignore[index]
        "world": only,
    }
