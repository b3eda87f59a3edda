"""What the stage `tables` reads: artefacts and values of the config. Free of torch."""

from typing import Any

from deftx.plan.artefact import Artefact, Inputs, once
from deftx.plan.graph import Graph
from deftx.plan.task import Task


def inputs(graph: Graph, artefact: Artefact) -> Inputs:
    config = graph.config
    shown = [e for e in graph.evaluations if config.tasks[e["task"]].shows_errors]
    return {
        "evaluated": graph.evaluations,
        "priors": graph.priors,
        "test": once(map(graph.test_items, shown)),
    }


def params(graph: Graph, artefact: Artefact) -> dict[str, Any]:
    config = graph.config
    once = [s for s in config.evaluated_systems if config.system_seeds(s) != config.seeds]

    def prior(task: str) -> dict[str, Any]:
        """What is shown of the prior of a task; empty if it has none."""
        if (found := config.tasks[task].prior) is None:
            return {}
        items = f"{found.items.dataset} ({found.items.split})"
        languages = config.prior_languages(task)
        return {"prior": {"items": items, "languages": languages, "target": found.target}}

    def kind(task: Task) -> dict[str, Any]:
        """The kind of a task, where it is not the default."""
        return {key: value for key, value in task.head.items() if key == "kind"}

    return {
        **({"once": once} if once else {}),
        "systems": config.evaluated_systems,
        "seeds": config.seeds,
        "reference": config.compared_with,
        "groups": config.groups,
        "base_name": config.base.model or f"{config.run}-base",
        "tasks": {
            name: {
                "metric": task.training.metric,
                **kind(task),
                "source": task.source,
                "sources": task.sources,
                "dataset": task.test.dataset,
                "systems": config.task_systems(name),
                "languages": config.task_languages(name),
                **prior(name),
            }
            for name, task in config.tasks.items()
            if name in config.evaluated_tasks
        },
        "names": config.language_names,
        "without_text": config.without_vector,
    }
