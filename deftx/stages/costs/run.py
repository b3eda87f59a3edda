"""Stage `costs`: the cost of each job, stage and system, and scores against costs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from deftx.plan.plan import Plan
from deftx.report.accounting import Job, jobs_of, per_stage, per_system, read_jobs, readable
from deftx.report.comparison import Comparison
from deftx.report.csv_files import write_csv
from deftx.report.evaluations import TRAINED, Evaluation, load_evaluations, trained
from deftx.report.figures.curves import cost_figure
from deftx.report.figures.style import save
from deftx.report.scores import draw, transfer
from deftx.report.table_formats import grid
from deftx.report.template import render
from deftx.report.written_config import load_config
from deftx.store.artefact import write_text

Params = Comparison


def costs(params: Params, *, config: Path, folder: Path, evaluated: list[Path], out: Path) -> None:
    """Write `systems.csv` (`out`) and beside it `stages.csv`, `jobs.csv`, `costs.md`, and score
    against cost as `cost.svg` and `cost.png`.

    `config`, written by the stage `config`, gives the jobs; `folder` holds the records that they
    wrote. A job without a record counts as unknown, and sums over it are lower bounds.
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
    write_csv(out.with_name("jobs.csv"), listed, "%.3f")
    write_csv(out.with_name("stages.csv"), stages.reset_index(), "%.3f")
    write_csv(out, systems.reset_index(), "%.3f")
    grids = {"systems": grid(readable(systems)), "stages": grid(readable(stages))}
    total = {name: int(stages[name].sum()) for name in ("unknown", "jobs")}
    write_text(out.with_name("costs.md"), render("costs.md.j2", **grids, **total))


def _figure(
    comparison: Comparison, evaluations: Sequence[Evaluation], systems: pd.DataFrame
) -> Figure:
    """Score against cost, without the sums of systems that have an unknown job."""
    spent = systems[["seconds", "peak_bytes", "stored_bytes"]].astype(object)
    spent = spent.where(systems["unknown"] == 0)
    spent["trained"] = systems[TRAINED].sum(axis=1, skipna=False)
    known: Any = spent.where(spent.notna(), None).to_dict("index")
    means = transfer(comparison, draw(comparison, evaluations))
    return cost_figure(comparison, means, known)
