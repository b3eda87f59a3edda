"""The jobs of a run and their cost, summed for each stage and for each system."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from deftx.plan.artefact import Artefact
from deftx.plan.plan import Plan
from deftx.report.units import duration, size
from deftx.stages.table import PAGES, path_of
from deftx.store.artefact import read_json
from deftx.store.errors import ArtefactError

SUMS = ["seconds", "cpu_seconds", "stored_bytes"]
PEAKS = ["peak_bytes", "peak_device_bytes"]
BYTES = dict.fromkeys(["stored_bytes", *PEAKS], "Int64")
MEASURED = [*SUMS, *PEAKS, "inference_seconds", "items"]
"""The values that are read from the record of a job's cost."""

UNMEASURED = ("config", *PAGES)
"""Stages whose jobs record no cost: they belong to the whole run and take seconds."""

_count = "{:,.0f}".format

SHOWN: Mapping[str, tuple[str, Callable[[Any], str]]] = {
    "jobs": ("jobs", _count),
    "seconds": ("time", duration),
    "seconds_share": ("its share", duration),
    "cpu_seconds": ("CPU time", duration),
    "peak_bytes": ("memory", size),
    "peak_device_bytes": ("GPU memory", size),
    "stored_bytes": ("stored", size),
    "trained_task": ("trained, task", _count),
    "trained_language": ("trained, language", _count),
    "trained_head": ("trained, head", _count),
    "inference_seconds_per_1000": ("inference of 1000", duration),
}
"""Column → its heading and the format of a value, in the order in which they are shown."""

LOWER_BOUNDS = {*SUMS, *PEAKS, "seconds_share"}


class Job(NamedTuple):
    """A job of the run, named by the artefact that it made: its path below results/{run}/, and the
    systems that need it (none for a job of the whole run)."""

    stage: str
    path: str
    systems: list[str]
    task: str | None = None
    language: str | None = None
    seed: str | None = None


def jobs_of(plan: Plan) -> list[Job]:
    """Every job that records a cost, with the systems that need its result."""
    users: dict[Artefact, dict[str, None]] = {artefact: {} for artefact in plan.artefacts}
    for evaluation in plan.evaluations:
        for artefact in plan.closure([evaluation]):
            users[artefact][evaluation["system"]] = None
    jobs = []
    for artefact, systems in users.items():
        if artefact.stage not in UNMEASURED:
            known: dict[str, Any] = dict(artefact.wildcards)
            if "target" in known:
                known[artefact.target.kind] = artefact.target.name
            who = [known["system"]] if artefact.stage == "diagnostics" else list(systems)
            where = (known.get(name) for name in ("task", "language", "seed"))
            jobs.append(Job(artefact.stage, path_of(artefact), who, *where))
    return jobs


def read_jobs(jobs: Sequence[Job], folder: Path) -> pd.DataFrame:
    """A row for each job with the values of its cost file below `folder`; NaN without a file.

    The file of `full/lang-ace/seed0/model.safetensors` is `full/lang-ace/seed0/model.json`.
    Raises ArtefactError if a file is not a cost of that stage.
    """
    rows = [
        {**job._asdict(), **_read((folder / job.path).with_suffix(".json"), job.stage)}
        for job in jobs
    ]
    frame = pd.DataFrame(rows, columns=[*Job._fields, *MEASURED])
    frame = frame.astype({**dict.fromkeys(MEASURED, "float64"), "items": "Int64", **BYTES})
    sharers = frame["systems"].map(lambda who: len(who) or math.nan)
    return frame.assign(seconds_share=frame["seconds"] / sharers, unknown=frame["seconds"].isna())


def per_stage(jobs: pd.DataFrame) -> pd.DataFrame:
    """A row for each stage, in the order of its first job: sums, and the largest peaks."""
    return _totals(jobs.groupby("stage", sort=False), SUMS)


def per_system(jobs: pd.DataFrame, systems: Sequence[str]) -> pd.DataFrame:
    """A row for each system over all jobs that it needs. `seconds` is the sum of the jobs' times;
    for `seconds_share` each job's time is split evenly among the systems that need it.

    Raises KeyError if a system needs no job.
    """
    each = jobs.explode("systems").rename(columns={"systems": "system"}).groupby("system")
    found = _totals(each, [*SUMS, "seconds_share"])
    predicted = each[["inference_seconds", "items"]].sum(min_count=1)
    found["inference_seconds_per_1000"] = 1000 * predicted["inference_seconds"] / predicted["items"]
    return found.loc[list(systems)]


def _totals(groups: Any, sums: list[str]) -> pd.DataFrame:
    counts = groups.agg(jobs=("path", "size"), unknown=("unknown", "sum"))
    found = pd.concat([counts, groups[sums].sum(min_count=1), groups[PEAKS].max()], axis=1)
    return found.astype({"jobs": "Int64", "unknown": "Int64", **BYTES})


def readable(frame: pd.DataFrame) -> pd.DataFrame:
    """The table of `per_stage` or `per_system` as text with headings. A sum in which some jobs are
    unknown is a lower bound, marked with ≥. A column without a number is left out."""
    partly = (frame["unknown"] > 0) & (frame["unknown"] < frame["jobs"])
    shown = pd.DataFrame(index=frame.index)
    for name, (heading, text) in SHOWN.items():
        if name in frame and frame[name].fillna(0).any():
            texts = frame[name].map(lambda value, t=text: "—" if pd.isna(value) else t(value))
            bound = partly & frame[name].notna() & (name in LOWER_BOUNDS)
            shown[heading] = texts.mask(bound, "≥ " + texts)
    return shown


def _read(path: Path, stage: str) -> dict[str, Any]:
    """The cost of a job; empty if it was not recorded, as by earlier versions."""
    if not path.is_file():
        return {}
    found = read_json(path, "stage")
    if found["stage"] != stage:
        raise ArtefactError(f"{path}: of the stage {found['stage']}, expected {stage}")
    return found
