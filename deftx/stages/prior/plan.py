"""What the stage `prior` reads: artefacts and values of the config. Free of torch."""

from typing import Any

from deftx.plan.artefact import Artefact, Inputs
from deftx.plan.graph import Graph
from deftx.stages.evaluate import plan as evaluate


def inputs(graph: Graph, artefact: Artefact) -> Inputs:
    task, prior = graph.config.tasks[artefact["task"]], graph.prior_of(artefact["task"])
    items = graph.items(prior.items.dataset, artefact["language"], prior.items.split)
    source = {**dict(artefact.wildcards), "language": task.source}
    needs_source = prior.target == "source" and artefact["language"] != task.source
    predicted = evaluate.inputs(graph, artefact)
    del predicted["test"]
    return {
        **predicted,
        "unlabelled": [graph.tokens(items, task.training.max_length)],
        "source": [Artefact.of("prior", **source)] if needs_source else [],
    }


def params(graph: Graph, artefact: Artefact) -> dict[str, Any]:
    return {
        **evaluate.params(graph, artefact),
        "target": graph.prior_of(artefact["task"]).target,
    }
