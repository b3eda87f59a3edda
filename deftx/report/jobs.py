"""The jobs of a run that record a cost, and the systems that need their results."""

from deftx.plan.artefact import Artefact, Target
from deftx.plan.plan import Plan
from deftx.report.accounting import Job
from deftx.stages.table import PAGES, path_of

UNMEASURED = ("config", *PAGES)
"""Stages whose jobs record no cost: they belong to the whole run and take seconds."""


def jobs_of(graph: Plan) -> list[Job]:
    """Every job that records a cost, with the systems that need its result."""
    users: dict[Artefact, dict[str, None]] = {artefact: {} for artefact in graph.artefacts}
    for evaluation in graph.evaluations:
        for artefact in graph.closure([evaluation]):
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
        path=path_of(artefact),
        systems=[known["system"]] if artefact.stage == "diagnostics" else systems,
        task=known.get("task"),
        language=known.get("language"),
        seed=int(known["seed"]) if "seed" in known else None,
    )
