"""Some of a plan's evaluations, and all that they need."""

from collections.abc import Collection

from deftx.plan.graph import Artefact
from deftx.plan.plan import Plan
from deftx.store.errors import ConfigError


def wanted(plan: Plan, **chosen: Collection[str]) -> list[Artefact]:
    """The evaluations of the chosen `system`s, `task`s, `language`s and `seed`s; of what nothing is
    chosen all. Raises ConfigError if there is none, naming what is not known."""
    found = plan.evaluations()
    for name, values in chosen.items():
        known = list(dict.fromkeys(evaluation[name] for evaluation in plan.evaluations()))
        for value in values:
            if value not in known:
                raise ConfigError(f"--{name} {value}: not evaluated; known: {', '.join(known)}")
        found = [evaluation for evaluation in found if not values or evaluation[name] in values]
    if not found:
        asked = ", ".join(f"{name} {' '.join(values)}" for name, values in chosen.items() if values)
        raise ConfigError(f"no evaluation has all of: {asked}")
    return found


def needed(plan: Plan, artefacts: Collection[Artefact]) -> list[Artefact]:
    """The artefacts and all that they are made from, inputs first."""
    done: dict[Artefact, None] = {}

    def visit(artefact: Artefact) -> None:
        if artefact not in done:
            for parts in plan.inputs(artefact).values():
                for part in parts:
                    visit(part)
            done[artefact] = None

    for artefact in artefacts:
        visit(artefact)
    return list(done)
