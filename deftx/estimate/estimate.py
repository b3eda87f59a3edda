"""The estimate of a config: what remains to be done, what it takes, and the printed report."""

import shutil
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from deftx.engine.settings import Engine
from deftx.estimate.choice import remaining, wanted
from deftx.estimate.sizes import Sizes, find_shape
from deftx.estimate.speeds import finished, measured
from deftx.estimate.table import load_speeds
from deftx.estimate.work import Amount, Work, Works
from deftx.plan.artefact import Artefact, Target
from deftx.plan.config import read_config
from deftx.plan.plan import Plan
from deftx.report.units import duration, size
from deftx.stages.table import STAGES
from deftx.store.errors import ConfigError

FINISHED, MEASURED, DASH = "finished jobs", "--measure", "—"

NOTES = f"""
time: one job after another, of the stages that train, factor or predict. Other jobs take seconds.
{FINISHED}: their mean in this run, with loading, validation and saving.
{MEASURED}: full fine-tuning timed on this machine, for every stage that trains on the same kind of
data; without validation, loading and saving.
hours: one job after another on one device, at the measured speeds that are listed below that table;
start and steps, without validation and saving. scaled: measured with another batch or length.
≤: an upper bound. Steps: max_steps, until the text and the base's tokenizer exist.
n unknown: so many jobs are in no sum. {MEASURED} times training; the first finished job of a stage
gives its time and size; `items` of a dataset gives steps.
disk: the base and the vectors. A small file counts once it exists."""


@dataclass(frozen=True)
class Job:
    """A job, and whether it remains `to_do`. It takes `speed` seconds for a step, or for the whole
    job if it has none, according to a `source`. `disk` is the bytes of its artefact. None means
    unknown."""

    artefact: Artefact
    work: Work
    to_do: bool
    speed: float | None
    source: str
    disk: Amount | None

    @property
    def long(self) -> bool:
        """Whether its stage trains, factors or predicts, so that its time counts. A base that is
        not pretrained here does not."""
        stage = self.artefact.stage
        return STAGES[stage].gpus != "none" and (stage != "base" or self.work.trains)

    @property
    def steps(self) -> Amount | None:
        """Training steps that remain."""
        return self.work.steps if self.to_do and self.work.trains else Amount(0)

    @property
    def seconds(self) -> Amount | None:
        """Seconds that remain of a long job."""
        if not self.to_do or not self.long:
            return Amount(0)
        units = self.steps if self.work.trains else Amount(1)
        return Amount(units.value * self.speed, units.at_most) if units and self.speed else None

    @property
    def subject(self) -> str:
        """The language or task that it serves, or the whole run."""
        known = dict(self.artefact.wildcards)
        if "target" in known:
            return Target.parse(known["target"]).name
        return known.get("language") or known.get("task") or "the run"


def estimate(
    config: Path,
    chosen: Mapping[str, Sequence[str]],
    *,
    measure: bool = False,
    console: Console | None = None,
) -> None:
    """Print what the whole run of a config, or its chosen evaluations, will take.

    Raises ConfigError as `read_config`, `wanted` and `find_shape` do, and if steps are to be
    measured on a base of unknown shape.
    """
    plan = Plan(read_config(config))
    console = console or Console(width=None if sys.stdout.isatty() else 120)
    works = Works(plan)
    every = {artefact: works.of(artefact) for artefact in plan.artefacts}
    asked = plan.closure(wanted(plan, **chosen)) if any(chosen.values()) else list(every)
    to_do, caution = remaining(plan, config)
    shape, source = find_shape(plan)
    timed = {}
    if measure:
        if shape is None:
            raise ConfigError(f"--measure: {source}")
        timed = measured(plan, [every[artefact] for artefact in asked], shape)
    jobs, known, sizes = [], finished(plan, every), Sizes(plan, shape)
    for artefact in asked:
        work = every[artefact]
        speed, origin = known.get((artefact.stage, work.subject, work.trains)), FINISHED
        if speed is None and work.settings:
            speed, origin = timed.get(work.subject), MEASURED
        disk = sizes.of(artefact, work.trains)
        jobs.append(Job(artefact, work, artefact in to_do, speed, origin, disk))
    more = [job.disk for job in jobs if job.to_do]
    free = shutil.disk_usage(Path.cwd()).free
    enough = ": [bold red]not enough[/]" if sum(a.value for a in more if a) > free else ""
    # For each value: itself, two moments and the best so far in float32, in an old and a new file.
    states = size(32 * sizes.parameters)
    base = f"{sizes.parameters:,} parameters ({source})" if shape else f"unknown. {source}"
    for part in (
        f"[bold]{plan.root}[/]: {len(more):,} of {len(jobs):,} jobs to do",
        *([escape(caution)] if caution else []),
        f"base: {escape(base)}\n",
        _table("stage", jobs, lambda job: job.artefact.stage),
        "",
        _table("language or task", jobs, lambda job: job.subject),
        *_by_device(jobs, plan.config.engine, sizes.parameters),
        f"\nto be written: {total(more, size)}; free: {size(free)}{enough}",
        f"checkpoints: ≤ {states} more for each job while it trains",
        *(f"{MEASURED}: {1000 * s:.3g} ms for a step of {name}" for name, s in timed.items()),
        NOTES,
    ):
        console.print(part, highlight=False, soft_wrap=isinstance(part, str))


def _table(title: str, jobs: Sequence[Job], key: Callable[[Job], str]) -> Table:
    heads = [Column(n, justify="right") for n in ("jobs", "to do", "steps", "time", "disk")]
    table = Table(title, *heads, "times from", box=None, padding=(0, 1, 0, 0))
    groups = defaultdict(list)
    for job in jobs:
        groups[key(job)].append(job)
    for name, those in {**groups, "all": jobs}.items():
        table.add_row(
            *(name, f"{len(those):,}", f"{sum(job.to_do for job in those):,}"),
            total([job.steps for job in those], "{:,.0f}".format),
            total([job.seconds for job in those], _hours),
            total([job.disk for job in those], size),
            ", ".join(sorted({j.source for j in those if j.to_do and j.long and j.speed})),
        )
    return table


def _by_device(jobs: Iterable[Job], engine: Engine, parameters: int) -> Iterator[Table | str]:
    """The hours that remain on each device in the table of speeds, by phase and kind of data, and
    the rows that they rest on."""
    speeds, rest = load_speeds(), [job for job in jobs if job.to_do and job.long]
    timed = {
        device: {
            job.artefact: speeds.time(device, job.artefact.stage, job.work, parameters, engine)
            for job in rest
        }
        for device in speeds.devices
    }
    timed = {device: times for device, times in timed.items() if any(times.values())}
    if not timed:
        yield "\nhours by device: unknown; deftx/estimate/speeds.yaml has no row for these jobs"
        return
    heads = [Column(name, justify="right") for name in ("to do", *timed)]
    table = Table("hours", "data", *heads, box=None, padding=(0, 2, 0, 0))
    groups = defaultdict(list)
    for job in rest:
        groups[job.artefact.stage, job.work.kind].append(job.artefact)
    for (stage, kind), those in {**groups, ("all", ""): [job.artefact for job in rest]}.items():
        found = ([times[artefact] for artefact in those] for times in timed.values())
        hours = (
            total([time.seconds if time else None for time in times], _hours) for times in found
        )
        table.add_row(stage, kind or DASH, f"{len(those):,}", *hours)
    yield from ("", table, "")
    used = [time for times in timed.values() for time in times.values() if time]
    for row in speeds.measured:
        if ours := [time for time in used if time.row is row]:
            scaled = sum(time.scaled for time in ours)
            yield escape(str(row)) + (f"; scaled for {scaled:,} jobs" if scaled else "")


def total(amounts: Iterable[Amount | None], write: Callable[[float], str]) -> str:
    """A sum as text, such as `3.0 h`; with `≤` if a part is an upper bound, and with `+ 2 unknown`
    if two parts are unknown."""
    parts = list(amounts)
    known = [amount for amount in parts if amount is not None]
    value, unknown = sum(amount.value for amount in known), len(parts) - len(known)
    if not value:
        return "unknown" if unknown else DASH
    bound = "≤ " if any(amount.at_most for amount in known) else ""
    return f"{bound}{write(value)}" + (f" + {unknown:,} unknown" if unknown else "")


def _hours(seconds: float) -> str:
    if seconds < 3600:
        return duration(seconds)
    return f"{seconds / 3600:,.{1 if seconds < 360_000 else 0}f} h"
