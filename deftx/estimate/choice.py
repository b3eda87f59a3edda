"""A part of a plan: some of its evaluations, and everything that they need."""

from collections.abc import Collection

from deftx.plan.artefact import Artefact
from deftx.plan.plan import Plan
from deftx.store.errors import ConfigError


def wanted(plan: Plan, **chosen: Collection[str]) -> list[Artefact]:
    """The evaluations of the chosen `system`s, `task`s, `language`s and `seed`s; an empty choice
    means all. Raises ConfigError, naming an unknown value, if there is no such evaluation."""
    found = plan.evaluations
    for name, values in chosen.items():
        known = list(dict.fromkeys(evaluation[name] for evaluation in plan.evaluations))
        for value in values:
            if value not in known:
                raise ConfigError(f"--{name} {value}: not evaluated; known: {', '.join(known)}")
        found = [evaluation for evaluation in found if not values or evaluation[name] in values]
    if not found:
        asked = ", ".join(f"{name} {' '.join(values)}" for name, values in chosen.items() if values)
        raise ConfigError(f"no evaluation matches all of: {asked}")
    return found


def needed(plan: Plan, artefacts: Collection[Artefact]) -> list[Artefact]:
    """The artefacts and everything that they are made from, inputs first."""
    found, every = set(artefacts), plan.artefacts
    for artefact in reversed(every):
        if artefact in found:
            found.update(*plan.inputs(artefact).values())
    return [artefact for artefact in every if artefact in found]
