"""Stage `costs`: what each job, stage and system cost, and what a system gives for it."""

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from deftx.accounting import (
    STAGES_NOTE,
    SYSTEMS_NOTE,
    Job,
    per_stage,
    per_system,
    read_jobs,
    readable,
    unknown_note,
)
from deftx.artefact import write_text
from deftx.figures import notice, save
from deftx.results import Comparison, Transfer, draw, load_evaluations, transfer
from deftx.tensor_file import TensorFile

TRAINED = ("task", "language", "head")
SPENT = ("seconds", "peak_bytes", "stored_bytes")


class Params(Comparison):
    """Which systems are compared on what, and the jobs that made them."""

    jobs: list[Job]


def costs(params: Params, *, folder: Path, evaluated: list[Path], out: Path) -> None:
    """Write `systems.csv` (`out`) and beside it `stages.csv`, `jobs.csv`, `costs.md`, and score
    against cost as `cost.svg` and `cost.png`.

    `folder` holds the JSON files that the jobs wrote with `--cost`; those that are not there are
    counted as unknown, and then a sum is a lower bound. The numbers of trained values are those of
    the evaluations' provenance, the largest over tasks and languages.

    Times differ from run to run, and so do the bytes of what is written here.

    Raises ArtefactError if a cost file or an evaluation cannot be read; ValueError if an evaluation
    is missing.
    """
    jobs = read_jobs(params.jobs, folder)
    stages = per_stage(jobs)
    systems = with_trained(per_system(jobs, params.systems), evaluated)
    figure = _figure(params, evaluated, systems)
    for suffix in (".png", ".svg"):
        save(figure, out.with_name(f"cost{suffix}"))
    write_text(out.with_name("jobs.csv"), _jobs_csv(jobs))
    write_text(out.with_name("stages.csv"), _csv(stages))
    write_text(out.with_name("costs.md"), report(systems, stages))
    write_text(out, _csv(systems))


def with_trained(systems: pd.DataFrame, evaluated: Sequence[Path]) -> pd.DataFrame:
    """The table with how many values were trained for a task, for a language, and of a head: what
    the provenance of a system's evaluations says, the largest of them; NA if it says nothing."""
    found: dict[str, dict[str, int]] = {}
    for path in evaluated:
        provenance = TensorFile(path).provenance
        mine = found.setdefault(provenance["system"], {})
        for name, count in (provenance.get("trained") or {}).items():
            mine[name] = max(count, mine.get(name, 0))
    columns = {
        f"trained_{name}": pd.array(
            [found.get(system, {}).get(name) for system in systems["system"]], dtype="Int64"
        )
        for name in TRAINED
    }
    return systems.assign(**columns)


def report(systems: pd.DataFrame, stages: pd.DataFrame) -> str:
    """Both tables as Markdown, with what their columns mean."""
    parts = ["# What it cost", "## Systems", _grid(systems), SYSTEMS_NOTE, "## Stages"]
    parts += [_grid(stages), STAGES_NOTE]
    if unknown := int(stages["unknown"].sum()):
        parts.append(unknown_note(unknown, int(stages["jobs"].sum())))
    return "\n\n".join(parts) + "\n"


def _figure(params: Params, evaluated: Sequence[Path], systems: pd.DataFrame) -> Figure:
    """Score against cost. Where a job of a system is unknown, its sums are too small to draw."""
    spent = {}
    rows: list[dict[str, Any]] = systems.to_dict("records")  # type: ignore[assignment]
    for row in rows:
        trained = [row[f"trained_{name}"] for name in TRAINED]
        spent[row["system"]] = {
            **{name: None if row["unknown"] else row[name] for name in SPENT},
            "trained": None if any(map(pd.isna, trained)) else sum(trained),
        }
    means = transfer(params, draw(params, load_evaluations(evaluated)))
    nothing = "Nothing to draw: no system is known in full, or there is no mean over languages."
    return cost_figure(params, means, spent) or notice(nothing)


def cost_figure(
    comparison: Comparison,
    means: Sequence[Transfer],
    costs: Mapping[str, Mapping[str, float | None]],
) -> Figure | None:
    """The function of this name among the figures."""
    figure: Figure | None = import_module("deftx.figures.costs").cost_figure(
        comparison, means, costs
    )
    return figure


def _grid(frame: pd.DataFrame) -> str:
    head, rows = readable(frame)
    lines = [head, [":--", *["--:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _jobs_csv(jobs: pd.DataFrame) -> str:
    return _csv(jobs.assign(systems=jobs["systems"].map(" ".join)).drop(columns="unknown"))


def _csv(frame: pd.DataFrame) -> str:
    return frame.to_csv(index=False, float_format="%.3f", lineterminator="\n")
