"""The jobs of a run that record a cost, and the systems that need their results."""

from collections.abc import Iterable, Iterator

from deftx.plan.graph import PAGES, Artefact, Graph, Target
from deftx.report.accounting import Job

UNMEASURED = ("config", *PAGES)
"""Stages whose jobs record no cost: they belong to the whole run and take seconds."""


# TODO: moves to the plan as `plan.closure(artefacts)`.
def closure(graph: Graph, artefacts: Iterable[Artefact]) -> Iterator[Artefact]:
    """The artefacts and everything that they are made from, each once."""
    seen, waiting = set(), list(artefacts)
    while waiting:
        artefact = waiting.pop()
        if artefact not in seen:
            seen.add(artefact)
            yield artefact
            for parts in graph.inputs(artefact).values():
                waiting += parts


def jobs_of(graph: Graph) -> list[Job]:
    """Every job that records a cost, with the systems that need its result."""
    users: dict[Artefact, dict[str, None]] = {artefact: {} for artefact in graph.artefacts()}
    for evaluation in graph.evaluations():
        for artefact in closure(graph, [evaluation]):
            users[artefact][evaluation["system"]] = None
    return [
        _job(artefact, list(systems))
        for artefact, systems in users.items()
        if artefact.stage not in UNMEASURED
    ]


def _job(artefact: Artefact, systems: list[str]) -> Job:
    known = dict(artefact.wildcards)
    if "target" in known:
        target = Target.parse(known["target"])
        known[target.kind] = target.name
    return Job(
        stage=artefact.stage,
        path=artefact.path,
        systems=[known["system"]] if artefact.stage == "diagnostics" else systems,
        task=known.get("task"),
        language=known.get("language"),
        seed=int(known["seed"]) if "seed" in known else None,
    )
