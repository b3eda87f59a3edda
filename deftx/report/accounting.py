"""The cost of the jobs of a run, summed for each stage and for each system."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import Field

from deftx.report.units import duration, size
from deftx.store.errors import ArtefactError
from deftx.store.strict import Strict

UNKNOWN = "—"

MEASURED = (
    "seconds",
    "cpu_seconds",
    "peak_bytes",
    "peak_device_bytes",
    "stored_bytes",
    "inference_seconds",
    "items",
)
"""The values that are read from the record of a job's cost."""

SUMS = ["seconds", "cpu_seconds", "stored_bytes"]
PEAKS = ["peak_bytes", "peak_device_bytes"]


_count = "{:,.0f}".format

SHOWN: Mapping[str, tuple[str, Callable[[Any], str]]] = {
    "stage": ("stage", str),
    "system": ("system", str),
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

SYSTEMS_NOTE = (
    "Time: the sum over all jobs that the system needs, as if no other system were run. Its share: "
    "the time of a job that several systems need is split evenly among them, so that the shares "
    "add up to the run. Memory: the largest job. Stored: all intermediate results included. "
    "Trained: numbers of trained parameters."
)
STAGES_NOTE = (
    "Time: from the start to the end of a job's process, with loading but without waiting for a "
    "GPU. If a job was interrupted and resumed, only its last part is recorded."
)


class Job(Strict):
    """A job of the run, named by the artefact that it made."""

    stage: str
    path: str = Field(description="of the artefact, below results/{run}/")
    systems: list[str] = Field(description="that need it; none for a job of the whole run")
    task: str | None = None
    language: str | None = None
    seed: int | None = None


def read_jobs(jobs: Sequence[Job], folder: Path) -> pd.DataFrame:
    """A row for each job with the values of its cost file below `folder`; NaN without a file.

    The file of `full/lang-ace/seed0/model.safetensors` is `full/lang-ace/seed0/model.json`.
    Raises ArtefactError if a file is not a cost of that stage.
    """
    rows = []
    for job in jobs:
        found = _read((folder / job.path).with_suffix(".json"), job.stage)
        rows.append({**job.model_dump(), **{name: found.get(name) for name in MEASURED}})
    frame = pd.DataFrame(rows, columns=[*Job.model_fields, *MEASURED])
    whole = ("seed", "items", "stored_bytes", *PEAKS)
    frame = frame.astype({**dict.fromkeys(MEASURED, "float64"), **_whole(*whole)})
    frame["seconds_share"] = frame["seconds"] / frame["systems"].map(
        lambda who: len(who) or math.nan
    )
    frame["unknown"] = frame["seconds"].isna()
    return frame


def per_stage(jobs: pd.DataFrame) -> pd.DataFrame:
    """A row for each stage, in the order of its first job: sums, and the largest peaks."""
    return _totals(jobs.groupby("stage", sort=False), SUMS).reset_index()


def per_system(jobs: pd.DataFrame, systems: Sequence[str]) -> pd.DataFrame:
    """A row for each system over all jobs that it needs. `seconds` is the sum of the jobs' times;
    for `seconds_share` each job's time is split evenly among the systems that need it.

    Raises KeyError if a system needs no job.
    """
    each = jobs.explode("systems").rename(columns={"systems": "system"}).groupby("system")
    found = _totals(each, [*SUMS, "seconds_share"])
    predicted = each[["inference_seconds", "items"]].sum(min_count=1)
    found["inference_seconds_per_1000"] = 1000 * predicted["inference_seconds"] / predicted["items"]
    return found.loc[list(systems)].rename_axis("system").reset_index()


def _totals(groups: Any, sums: list[str]) -> pd.DataFrame:
    counts = groups.agg(jobs=("path", "size"), unknown=("unknown", "sum"))
    found = pd.concat([counts, groups[sums].sum(min_count=1), groups[PEAKS].max()], axis=1)
    return found.astype(_whole("jobs", "unknown", "stored_bytes", *PEAKS))


def readable(frame: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """The table of `per_stage` or `per_system` as text: headings and rows. A sum in which some jobs
    are unknown is a lower bound, marked with ≥. A column without a number is left out."""
    names = [name for name in SHOWN if name in frame and frame[name].fillna(0).any()]
    rows = []
    for row in frame.to_dict("records"):
        texts = ["" if pd.isna(row[name]) else SHOWN[name][1](row[name]) for name in names]
        partly = 0 < row["unknown"] < row["jobs"]
        rows.append(
            [
                f"≥ {text}" if partly and text and name in LOWER_BOUNDS else text or UNKNOWN
                for name, text in zip(names, texts, strict=True)
            ]
        )
    return [SHOWN[name][0] for name in names], rows


def unknown_note(unknown: int, jobs: int) -> str:
    """A note on the jobs without a record of their cost."""
    return (
        f"Unknown: {unknown} of {jobs} jobs have no record of their cost. A number with ≥ is a "
        "lower bound, since it does not include some of them."
    )


def _read(path: Path, stage: str) -> dict[str, Any]:
    """The cost of a job; empty if it was not recorded, as by earlier versions."""
    if not path.is_file():
        return {}
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if found["stage"] == stage:
            return found
    except (ValueError, KeyError, TypeError):
        pass
    raise ArtefactError(f"{path}: expected the cost of a job of the stage {stage} as JSON")


def _whole(*names: str) -> dict[str, str]:
    return dict.fromkeys(names, "Int64")
