"""Stage `costs`: the cost of each job, stage and system, and scores against costs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from deftx.plan.plan import Plan
from deftx.report.accounting import (
    Job,
    jobs_of,
    per_stage,
    per_system,
    read_jobs,
    readable,
)
from deftx.report.comparison import Comparison
from deftx.report.csv_files import write_csv
from deftx.report.evaluations import TRAINED, Evaluation, load_evaluations, trained
from deftx.report.figures.curves import cost_figure
from deftx.report.figures.style import save
from deftx.report.scores import draw, transfer
from deftx.report.template import render
from deftx.report.written_config import load_config
from deftx.store.artefact import write_text

SPENT = ("seconds", "peak_bytes", "stored_bytes")

Params = Comparison


def costs(params: Params, *, config: Path, folder: Path, evaluated: list[Path], out: Path) -> None:
    """Write `systems.csv` (`out`) and beside it `stages.csv`, `jobs.csv`, `costs.md`, and score
    against cost as `cost.svg` and `cost.png`.

    `config`, written by the stage `config`, gives the jobs; `folder` holds the JSON files that they
    wrote with `--cost`. A job without a file counts as unknown, and sums over it are lower bounds.
    The numbers of trained values are those of the evaluations' provenance, the largest over tasks
    and languages.

    Times differ from run to run, and so do the bytes of these files.

    Raises ArtefactError if a cost file or an evaluation cannot be read; InputError if an evaluation
    is missing.
    """
    account(params, jobs_of(Plan(load_config(config))), folder, evaluated, out)


def account(
    comparison: Comparison, jobs: Sequence[Job], folder: Path, evaluated: Sequence[Path], out: Path
) -> None:
    """The work of `costs` for given jobs."""
    evaluations = load_evaluations(evaluated, comparison)
    jobs_frame = read_jobs(jobs, folder)
    stages, systems = per_stage(jobs_frame), per_system(jobs_frame, comparison.systems)
    systems = systems.join(trained(evaluations, "system"), on="system")
    figure = _figure(comparison, evaluations, systems)
    for suffix in (".png", ".svg"):
        save(figure, out.with_name(f"cost{suffix}"))
    listed = jobs_frame.assign(systems=jobs_frame["systems"].map(" ".join)).drop(columns="unknown")
    for path, frame in (("jobs.csv", listed), ("stages.csv", stages), (out.name, systems)):
        write_csv(out.with_name(path), frame, "%.3f")
    total = {name: int(stages[name].sum()) for name in ("unknown", "jobs")}
    text = render("costs.md.j2", systems=_grid(systems), stages=_grid(stages), **total)
    write_text(out.with_name("costs.md"), text)


def _figure(
    comparison: Comparison, evaluations: Sequence[Evaluation], systems: pd.DataFrame
) -> Figure:
    """Score against cost, without the sums of systems that have an unknown job."""
    spent = {}
    rows: list[dict[str, Any]] = systems.to_dict("records")  # type: ignore[assignment]
    for row in rows:
        numbers = [row[name] for name in TRAINED]
        spent[row["system"]] = {
            **{name: None if row["unknown"] else row[name] for name in SPENT},
            "trained": None if any(map(pd.isna, numbers)) else sum(numbers),
        }
    means = transfer(comparison, draw(comparison, evaluations))
    return cost_figure(comparison, means, spent)


def _grid(frame: pd.DataFrame) -> str:
    shown = readable(frame)
    align = ["left", *["right"] * (shown.shape[1] - 1)]
    return shown.to_markdown(index=False, disable_numparse=True, colalign=align)
