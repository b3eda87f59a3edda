"""What the stage `coverage` reads: artefacts and values of the config. Free of torch."""

from typing import Any

from deftx.plan.artefact import Artefact, Inputs, Target, once
from deftx.plan.graph import BASE_MODEL, Graph


def inputs(graph: Graph, artefact: Artefact) -> Inputs:
    config = graph.config
    languages = [Target("language", key) for key in config.languages if config.has_text(key)]
    tasks = [Target("task", task) for task in config.evaluated_tasks]
    train = [part for t in [*languages, *tasks] for part in graph.training_items(t)["train"]]
    tests = [graph.test_items(evaluation) for evaluation in graph.evaluations]
    return {"base": [BASE_MODEL], "data": once([*train, *tests])}


def params(graph: Graph, artefact: Artefact) -> dict[str, Any]:
    config = graph.config
    sources = [key for task in config.evaluated_tasks for key in config.tasks[task].sources]
    lengths: dict[str, int] = {}
    for task in map(config.tasks.__getitem__, config.evaluated_tasks):
        for part in (task.train, task.test, *task.more_sources):
            longest = max(task.training.max_length, lengths.get(part.dataset, 0))
            lengths[part.dataset] = longest
    return {
        "sources": list(dict.fromkeys(sources)),
        "names": config.language_names,
        "lengths": lengths,
    }
