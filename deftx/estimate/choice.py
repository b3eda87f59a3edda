"""Which jobs of a plan an estimate is about: those of the chosen evaluations, and those that remain
to be done according to Snakemake, which detects stale results."""

import csv
import subprocess
from collections.abc import Collection
from pathlib import Path

from deftx.plan.artefact import Artefact
from deftx.plan.plan import Plan
from deftx.run.workflow import snakemake
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


def remaining(plan: Plan, config: Path) -> tuple[set[Artefact], str]:
    """The artefacts of a plan that a run would make, and a warning, empty if the set is certain.
    `config` is the plan's file; the working folder holds results/. If Snakemake cannot plan
    the run, for example because the user's files are missing, what exists counts as done."""
    artefacts = plan.artefacts
    absent = {artefact for artefact in artefacts if not Path(plan.path(artefact)).is_file()}
    if len(absent) == len(artefacts):  # nothing can be stale, and Snakemake takes seconds
        return absent, ""
    command = snakemake(config, "--summary")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    rows = list(csv.DictReader(done.stdout.splitlines(), delimiter="\t"))
    if done.returncode or not rows or "plan" not in rows[0]:
        why = (done.stderr or done.stdout).strip().splitlines()[-1:]
        return absent, (
            f"Snakemake cannot plan this run ({''.join(why)}): every file that exists counts as "
            "done, although it may be stale."
        )
    pending = {row["output_file"] for row in rows if row["plan"] != "no update"}
    return {a for a in artefacts if plan.path(a) in pending}, ""
