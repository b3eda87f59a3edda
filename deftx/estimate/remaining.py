"""Which jobs of a run are still to be done: Snakemake says it, which knows what is stale."""

import csv
import subprocess
import sys
from pathlib import Path

from deftx.plan.graph import Artefact
from deftx.plan.plan import Plan


def remaining(plan: Plan, config: Path) -> tuple[set[Artefact], str]:
    """The artefacts of a plan that a run would make, and what is to be known of this set, if
    anything is. `config` is its file; to be called in the project's folder.

    Where nothing is there Snakemake is not asked. Where it cannot plan the run, as without the
    user's files, what is there counts as done.
    """
    artefacts = plan.artefacts()
    absent = {artefact for artefact in artefacts if not (Path(plan.root) / artefact.path).is_file()}
    if len(absent) == len(artefacts):
        return absent, ""
    command = [sys.executable, "-m", "snakemake", "--summary", "--configfile", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    rows = list(csv.DictReader(done.stdout.splitlines(), delimiter="\t"))
    if done.returncode or not rows or "plan" not in rows[0]:
        why = (done.stderr or done.stdout).strip().splitlines()[-1:]
        return absent, (
            f"Snakemake cannot plan this run ({''.join(why)}): what is there counts as done, "
            "though it may be stale."
        )
    pending = {row["output_file"] for row in rows if row["plan"] != "no update"}
    return {a for a in artefacts if f"{plan.root}/{a.path}" in pending}, ""
