"""The jobs of a plan, each with its time and its bytes, and their sums."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from deftx.cli.main import ON_GPU, ON_SEVERAL_GPUS
from deftx.estimate.items import Items
from deftx.estimate.ranges import Range, exactly, total
from deftx.estimate.shape import Shape
from deftx.estimate.sizes import Sizes
from deftx.estimate.speeds import Speeds, Time
from deftx.estimate.work import Work
from deftx.plan.graph import Artefact, Target
from deftx.plan.plan import Plan
from deftx.report.jobs import UNMEASURED


@dataclass(frozen=True)
class Job:
    """A job with what it takes; None is what nothing tells.

    Attributes:
        work: what it does.
        to_do: whether it is still to be done.
        time: how long it takes.
        step: seconds of one of its steps.
        disk: bytes of its artefact: those that lie there, if it is done.
        memory: bytes that it needs at least.
        checkpoint: bytes of the state that it keeps while it trains; 0 for others.
        devices: GPUs that it uses where there are any.
    """

    artefact: Artefact
    work: Work
    to_do: bool
    time: Time | None
    step: Range | None
    disk: Range | None
    memory: int | None
    checkpoint: int
    devices: int

    @property
    def language(self) -> str | None:
        """The language that it is done for alone; None for a task's and for the run's."""
        known = dict(self.artefact.wildcards)
        if "target" in known:
            target = Target.parse(known["target"])
            return target.name if target.kind == "language" else None
        return known.get("language")

    @property
    def task(self) -> str | None:
        """The task that it is done for in all languages alike."""
        known = dict(self.artefact.wildcards)
        if "target" in known:
            target = Target.parse(known["target"])
            return target.name if target.kind == "task" else None
        return None if "language" in known else known.get("task")


def jobs_of(
    plan: Plan,
    works: Sequence[tuple[Artefact, Work]],
    to_do: set[Artefact],
    shape: Shape | None,
    items: Items,
    speeds: Speeds,
) -> list[Job]:
    """A job for each artefact, inputs first."""
    sizes = None if shape is None else Sizes(plan, shape, items)
    root, found = Path(plan.root), []
    for artefact, work in works:
        path, pending = root / artefact.path, artefact in to_do
        trains = sizes is not None and work.steps is not None and artefact.stage != "base"
        disk = None if sizes is None else sizes.of(artefact)
        if path.is_file() and (not pending or disk is None):
            disk = exactly(path.stat().st_size)
        found.append(
            Job(
                artefact,
                work,
                pending,
                speeds.time(work),
                None if work.steps is None else speeds.step(work),
                disk,
                sizes.memory(artefact) if sizes and trains else None,
                sizes.checkpoint(artefact) if sizes and trains else 0,
                _devices(plan, artefact.stage),
            )
        )
    return found


def _devices(plan: Plan, stage: str) -> int:
    if stage in ON_SEVERAL_GPUS:
        return plan.config.engine.devices
    return int(stage in ON_GPU)


@dataclass(frozen=True)
class Sum:
    """Jobs added up.

    Attributes:
        jobs: how many.
        to_do: how many of them are still to be done; times are theirs.
        seconds: of the jobs, one after the other.
        device_seconds: of those that use a GPU, times the GPUs that they use.
        untimed: jobs to be done of which nothing tells how long they take; they are in no sum.
            Those that never leave a record of it are not counted: they take seconds.
        disk: bytes of all, done or to be done.
        more_disk: of those to be done.
        unsized: jobs whose bytes nothing tells.
    """

    jobs: int
    to_do: int
    seconds: Range
    device_seconds: Range
    untimed: int
    disk: Range
    more_disk: Range
    unsized: int


def summed(jobs: Iterable[Job]) -> Sum:
    """Of some jobs."""
    jobs = list(jobs)
    pending = [job for job in jobs if job.to_do]
    timed = [(job, job.time.seconds) for job in pending if job.time is not None]
    return Sum(
        len(jobs),
        len(pending),
        total(seconds for _, seconds in timed),
        total(seconds * job.devices for job, seconds in timed),
        sum(job.time is None and job.artefact.stage not in UNMEASURED for job in pending),
        total(job.disk for job in jobs if job.disk is not None),
        total(job.disk for job in pending if job.disk is not None),
        sum(job.disk is None for job in jobs),
    )


def wall_time(plan: Plan, jobs: Sequence[Job], gpus: int, cores: int) -> Range:
    """Seconds until the last job is done, on so many GPUs (0: all on the processor) and cores.

    At least the longest chain of jobs that wait for each other, and what the busiest resource has
    to do; at most both together (Graham 1969), and never more than one job after the other.
    """
    pending = [(job, job.time.seconds) for job in jobs if job.to_do and job.time is not None]
    load = exactly(0)
    if gpus:
        load = total(seconds * (job.devices / gpus) for job, seconds in pending if job.devices)
    busy = total(
        seconds * (min(job.work.threads, cores) / cores)
        for job, seconds in pending
        if not (gpus and job.devices)
    )
    load = Range(max(load.low, busy.low), max(load.high, busy.high))
    chain = _longest_chain(plan, jobs)
    serial = total(seconds for _, seconds in pending)
    low = max(load.low, chain.low)
    return Range(low, max(low, min(serial.high, load.high + chain.high)))


def _longest_chain(plan: Plan, jobs: Sequence[Job]) -> Range:
    ends: dict[Artefact, tuple[float, float]] = {}
    for job in jobs:  # inputs first
        inputs = [
            ends.get(part, (0.0, 0.0))
            for parts in plan.inputs(job.artefact).values()
            for part in parts
        ]
        low, high = (max((end[side] for end in inputs), default=0.0) for side in (0, 1))
        if job.to_do and job.time is not None:
            low, high = low + job.time.seconds.low, high + job.time.seconds.high
        ends[job.artefact] = low, high
    return Range(
        max((low for low, _ in ends.values()), default=0.0),
        max((high for _, high in ends.values()), default=0.0),
    )


def checkpoints(jobs: Sequence[Job], at_once: int) -> int:
    """Bytes of the states of so many trainings at a time, the largest, each twice: a new one is
    written before the old one goes."""
    states = sorted((job.checkpoint for job in jobs if job.to_do), reverse=True)
    return 2 * sum(states[:at_once])
