"""The steps from a text to a model, each of which can be stopped and taken up again."""

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from deftx.adapt.cost import label, trainings
from deftx.plan.artefact import Artefact
from deftx.plan.plan import Plan
from deftx.run.progress import LINE
from deftx.run.workflow import snakemake
from deftx.stages.table import path_of
from deftx.store.artefact import write_text
from deftx.store.errors import DeftxError

LOG = "run.log"
"""What Snakemake prints while it runs."""


SHOWN = 6
"""Lines of Snakemake's own error that a person sees."""


class RunError(DeftxError):
    """The workflow stopped with an error."""


def run(plan: Plan, config: Path, cores: int, console: Console) -> None:
    """Run the workflow of a config in the working folder, with one bar over all steps of training.

    Raises RunError, with what went wrong.
    """
    steps = {artefact: steps_of(plan, artefact) for artefact in trainings(plan)}
    environment = {**os.environ, "DEFTX_PROGRESS_SECONDS": "2"}
    command = snakemake(config, "--cores", str(cores), "--rerun-incomplete", "--nolock")
    with open(LOG, "w", encoding="utf-8") as log:
        process = subprocess.Popen(
            command,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
            close_fds=False,  # it holds the lock on the folder, too
        )
        try:
            _watch(process, plan, steps, console)
        except KeyboardInterrupt:
            console.print("stopping: what is trained so far is being saved …")
            os.killpg(process.pid, signal.SIGINT)
            process.wait()
            raise
    if process.returncode:
        raise RunError(_reason())


def _watch(
    process: "subprocess.Popen[bytes]",
    plan: Plan,
    steps: Mapping[Artefact, int],
    console: Console,
) -> None:
    columns = (
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("preparing", total=sum(steps.values()))
        while process.poll() is None:
            done = {artefact: done_of(plan, artefact, of) for artefact, of in steps.items()}
            now = [label(plan, a) for a, of in steps.items() if 0 < done[a] < of]
            bar.update(
                task, completed=sum(done.values()), description=", ".join(now) or "preparing"
            )
            time.sleep(0.5)
        if process.returncode == 0:
            bar.update(task, completed=sum(steps.values()), description="done")


def steps_of(plan: Plan, artefact: Artefact) -> int:
    """Steps of a training, at most."""
    params = plan.params(artefact)
    settings: dict[str, Any] = params.get("task") or params["language"]
    return int(settings["max_steps"])


def done_of(plan: Plan, artefact: Artefact, steps: int) -> int:
    """Steps that a training has done, as its file or its log shows."""
    if Path(plan.path(artefact) + ".json").is_file():
        return steps
    log = Path(plan.root) / "logs" / Path(path_of(artefact)).with_suffix(".log")
    if not log.is_file():
        return 0
    found = LINE.findall(log.read_text(encoding="utf-8", errors="replace"))
    return min(steps, int(found[-1].replace(",", ""))) if found else 0


def _reason() -> str:
    """Why the workflow stopped: our own message, or else what Snakemake prints about an error."""
    lines = Path(LOG).read_text(encoding="utf-8", errors="replace").splitlines()
    ours = [line for line in lines if re.match("deftx [a-z]+: ", line)]
    first = next((n for n, line in enumerate(lines) if re.search("Error|Exception", line)), 0)
    said = ours[:1] or [line.strip() for line in lines[first : first + SHOWN]]
    return "\n".join(["training stopped:", *said, f"All of it: {Path(LOG).absolute()}"])


def write_rows(path: Path, items: Iterable[Mapping[str, str]]) -> None:
    """Write items as JSON lines."""
    lines = (json.dumps(dict(item), ensure_ascii=False) for item in items)
    write_text(path, "".join(f"{line}\n" for line in lines))
