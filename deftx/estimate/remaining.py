"""Which jobs of a run are still to be done: Snakemake says it, which knows what is stale."""

import csv
import subprocess
import sys
from pathlib import Path

from deftx.config import ConfigError
from deftx.graph import Artefact
from deftx.plan import Plan


def remaining(plan: Plan, config: Path) -> set[Artefact]:
    """The artefacts of a plan that a run would make. `config` is its file; to be called in the
    project's folder. Where nothing is there Snakemake is not asked.

    Raises ConfigError if Snakemake cannot plan the run; the message is its own.
    """
    artefacts = plan.artefacts()
    there = [artefact for artefact in artefacts if (Path(plan.root) / artefact.path).is_file()]
    if not there:
        return set(artefacts)
    command = [sys.executable, "-m", "snakemake", "--summary", "--configfile", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    rows = list(csv.DictReader(done.stdout.splitlines(), delimiter="\t"))
    if done.returncode or not rows or "plan" not in rows[0]:
        raise ConfigError(f"snakemake --summary failed:\n{(done.stderr or done.stdout).strip()}")
    pending = {row["output_file"] for row in rows if row["plan"] != "no update"}
    return {artefact for artefact in artefacts if f"{plan.root}/{artefact.path}" in pending}
