"""The jobs of a run that remain to be done, according to Snakemake, which detects stale results."""

import csv
import subprocess
import sys
from pathlib import Path

from deftx.plan.artefact import Artefact
from deftx.plan.plan import Plan


def remaining(plan: Plan, config: Path) -> tuple[set[Artefact], str]:
    """The artefacts of a plan that a run would make, and a warning, empty if the set is certain.
    `config` is the plan's file; the working folder must be the project's. If Snakemake cannot plan
    the run, for example because the user's files are missing, what exists counts as done."""
    artefacts = plan.artefacts
    absent = {artefact for artefact in artefacts if not (Path(plan.path(artefact))).is_file()}
    if len(absent) == len(artefacts):  # nothing can be stale, and Snakemake takes seconds
        return absent, ""
    command = [sys.executable, "-m", "snakemake", "--summary", "--configfile", str(config)]
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
