"""Stage `costs`: what each job, stage and system cost, and what a system gives for it."""

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
from deftx.report.figures.costs import cost_figure
from deftx.report.figures.style import notice, save
from deftx.report.jobs import jobs_of
from deftx.report.results import (
    Comparison,
    Evaluation,
    Trained,
    draw,
    load_evaluations,
    transfer,
)
from deftx.report.written_config import load_config
from deftx.store.artefact import write_text

SPENT = ("seconds", "peak_bytes", "stored_bytes")


class Params(Comparison):
    """Which systems are compared on what."""


def costs(params: Params, *, config: Path, folder: Path, evaluated: list[Path], out: Path) -> None:
    """Write `systems.csv` (`out`) and beside it `stages.csv`, `jobs.csv`, `costs.md`, and score
    against cost as `cost.svg` and `cost.png`.

    `config` is what the stage `config` wrote, and tells the jobs; `folder` holds the JSON files
    that they wrote with `--cost`. Those that are not there are counted as unknown, and then a sum
    is a lower bound. The numbers of trained values are those of the evaluations' provenance, the
    largest over tasks and languages.

    Times differ from run to run, and so do the bytes of what is written here.

    Raises ArtefactError if a cost file or an evaluation cannot be read; InputError if an evaluation
    is missing.
    """
    account(params, jobs_of(Plan(load_config(config))), folder, evaluated, out)


def account(
    comparison: Comparison, jobs: Sequence[Job], folder: Path, evaluated: Sequence[Path], out: Path
) -> None:
    """What `costs` does, of these jobs."""
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
    """The table with how many values were trained for a task, for a language, and of a head: what
    a system's evaluations say, the largest of them; NA if they say nothing."""
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
    """Both tables as Markdown, with what their columns mean."""
    parts = ["# What it cost", "## Systems", _grid(systems), SYSTEMS_NOTE, "## Stages"]
    parts += [_grid(stages), STAGES_NOTE]
    if unknown := int(stages["unknown"].sum()):
        parts.append(unknown_note(unknown, int(stages["jobs"].sum())))
    return "\n\n".join(parts) + "\n"


def _figure(
    comparison: Comparison, evaluations: Sequence[Evaluation], systems: pd.DataFrame
) -> Figure:
    """Score against cost. Where a job of a system is unknown, its sums are too small to draw."""
    spent = {}
    rows: list[dict[str, Any]] = systems.to_dict("records")  # type: ignore[assignment]
    for row in rows:
        trained = [row[f"trained_{name}"] for name in Trained._fields]
        spent[row["system"]] = {
            **{name: None if row["unknown"] else row[name] for name in SPENT},
            "trained": None if any(map(pd.isna, trained)) else sum(trained),
        }
    means = transfer(comparison, draw(comparison, evaluations))
    nothing = "Nothing to draw: no system is known in full, or there is no mean over languages."
    return cost_figure(comparison, means, spent) or notice(nothing)


def _grid(frame: pd.DataFrame) -> str:
    head, rows = readable(frame)
    lines = [head, [":--", *["--:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _jobs_csv(jobs: pd.DataFrame) -> str:
    return _csv(jobs.assign(systems=jobs["systems"].map(" ".join)).drop(columns="unknown"))


def _csv(frame: pd.DataFrame) -> str:
    return frame.to_csv(index=False, float_format="%.3f", lineterminator="\n")
