"""Stage `costs`: the cost of each job, stage and system, and scores against costs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from deftx.plan.plan import Plan
from deftx.report.accounting import (
    STAGES_NOTE,
    SYSTEMS_NOTE,
    Job,
    per_stage,
    per_system,
    read_jobs,
    readable,
    unknown_note,
)
from deftx.report.comparison import Comparison
from deftx.report.evaluations import Evaluation, Trained, load_evaluations
from deftx.report.figures.curves import cost_figure
from deftx.report.figures.style import notice, save
from deftx.report.jobs import jobs_of
from deftx.report.scores import draw, transfer
from deftx.report.written_config import load_config
from deftx.store.artefact import write_text

SPENT = ("seconds", "peak_bytes", "stored_bytes")


class Params(Comparison):
    """Which systems are compared on what."""


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
    frame = read_jobs(jobs, folder)
    stages = per_stage(frame)
    systems = with_trained(per_system(frame, comparison.systems), evaluations)
    for suffix in (".png", ".svg"):
        save(_figure(comparison, evaluations, systems), out.with_name(f"cost{suffix}"))
    write_text(out.with_name("jobs.csv"), _jobs_csv(frame))
    write_text(out.with_name("stages.csv"), _csv(stages))
    write_text(out.with_name("costs.md"), report(systems, stages))
    write_text(out, _csv(systems))


def with_trained(systems: pd.DataFrame, evaluations: Sequence[Evaluation]) -> pd.DataFrame:
    """The table with the numbers of values trained for a task, for a language, and of a head: the
    largest in the provenance of a system's evaluations, or NA."""
    found: dict[str, list[Trained]] = {}
    for evaluation in evaluations:
        if evaluation.trained is not None:
            found.setdefault(evaluation.system, []).append(evaluation.trained)
    columns = {
        f"trained_{name}": pd.array(
            [
                max((getattr(trained, name) for trained in found.get(system, [])), default=None)
                for system in systems["system"]
            ],
            dtype="Int64",
        )
        for name in Trained._fields
    }
    return systems.assign(**columns)


def report(systems: pd.DataFrame, stages: pd.DataFrame) -> str:
    """Both tables as Markdown, with notes on their columns."""
    parts = ["# Costs", "## Systems", _grid(systems), SYSTEMS_NOTE, "## Stages"]
    parts += [_grid(stages), STAGES_NOTE]
    if unknown := int(stages["unknown"].sum()):
        parts.append(unknown_note(unknown, int(stages["jobs"].sum())))
    return "\n\n".join(parts) + "\n"


def _figure(
    comparison: Comparison, evaluations: Sequence[Evaluation], systems: pd.DataFrame
) -> Figure:
    """Score against cost, without the sums of systems that have an unknown job."""
    spent = {}
    rows: list[dict[str, Any]] = systems.to_dict("records")  # type: ignore[assignment]
    for row in rows:
        trained = [row[f"trained_{name}"] for name in Trained._fields]
        spent[row["system"]] = {
            **{name: None if row["unknown"] else row[name] for name in SPENT},
            "trained": None if any(map(pd.isna, trained)) else sum(trained),
        }
    means = transfer(comparison, draw(comparison, evaluations))
    nothing = "No costs: some costs of each system are unknown, or there is no mean over languages."
    return cost_figure(comparison, means, spent) or notice(nothing)


def _grid(frame: pd.DataFrame) -> str:
    head, rows = readable(frame)
    lines = [head, [":--", *["--:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _jobs_csv(jobs: pd.DataFrame) -> str:
    return _csv(jobs.assign(systems=jobs["systems"].map(" ".join)).drop(columns="unknown"))


def _csv(frame: pd.DataFrame) -> str:
    return frame.to_csv(index=False, float_format="%.3f", lineterminator="\n")
