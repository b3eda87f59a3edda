"""The jobs of a run that leave a cost, and the systems that need what they make."""

from collections.abc import Iterable

from deftx.plan.graph import PAGES, Artefact, Graph, Target
from deftx.report.accounting import Job

UNMEASURED = ("config", *PAGES)
"""Stages whose jobs leave no cost: they belong to the run, and take seconds."""


def jobs_of(graph: Graph) -> list[Job]:
    """Every job that leaves a cost, with the systems that need what it makes."""
    users: dict[Artefact, dict[str, None]] = {artefact: {} for artefact in graph.artefacts()}
    for evaluation in graph.evaluations():
        for artefact in _closure(graph, [evaluation], set()):
            users[artefact][evaluation["system"]] = None
    return [
        _job(artefact, list(systems))
        for artefact, systems in users.items()
        if artefact.stage not in UNMEASURED
    ]


def _closure(
    graph: Graph, artefacts: Iterable[Artefact], seen: set[Artefact]
) -> Iterable[Artefact]:
    for artefact in artefacts:
        if artefact not in seen:
            seen.add(artefact)
            yield artefact
            for parts in graph.inputs(artefact).values():
                yield from _closure(graph, parts, seen)


def _job(artefact: Artefact, systems: list[str]) -> Job:
    known = dict(artefact.wildcards)
    if artefact.stage == "diagnostics":
        systems = [artefact["system"]]
    if "target" in known:
        target = Target.parse(known["target"])
        known[target.kind] = target.name
    return Job(
        stage=artefact.stage,
        path=artefact.path,
        systems=systems,
        task=known.get("task"),
        language=known.get("language"),
        seed=int(known["seed"]) if "seed" in known else None,
    )
