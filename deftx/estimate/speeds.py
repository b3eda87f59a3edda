"""How long jobs take, by what was measured: in this run, on this machine, or by the project."""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from safetensors import SafetensorError, safe_open

from deftx.estimate.ranges import Range, exactly
from deftx.estimate.work import TRAINING, Work
from deftx.plan.graph import Artefact
from deftx.plan.plan import Plan
from deftx.store.artefact import METADATA_KEY
from deftx.store.errors import ConfigError

SHIPPED = Path(__file__).with_name("speeds.yaml")

STEP, JOB = "step", "job"

RUN, HERE, MACHINE, ANOTHER = range(4)
"""How near a measurement is: of this run, by `deftx plan --measure`, of the machine that was asked
for, of another one."""


@dataclass(frozen=True)
class Speed:
    """A measured time.

    Attributes:
        stage, subject: of what was measured; an empty subject fits every one.
        unit: `step`, or `job` for one that takes no steps and for what one does beside its steps.
        seconds: of one unit.
        source: who measured it where, for people.
        nearness: how near that is.
        size: operations of the step, or entries of the base; None where it does not matter.
        threads: of the processor, where its speed is that of the step; None elsewhere.
        whole: whether the seconds of a step hold its part of all else that the job did.
        memory: the most that such a job had, in bytes: on its GPU if it used one.
    """

    stage: str
    subject: str
    unit: str
    seconds: Range
    source: str
    nearness: int
    size: Range | None = None
    threads: int | None = None
    whole: bool = False
    memory: float | None = None

    def scaled(self, work: Work) -> Range | None:
        """Its seconds for a unit of other work; None if the sizes cannot be compared.

        Of another size it takes between as long and its share of that: the share where the
        processor is busy, as long where a step is too small to fill it.
        """
        seconds = self.seconds
        if self.threads is not None:
            seconds = seconds * (self.threads / work.threads)
        if self.nearness == RUN and (self.stage, self.subject) == (work.stage, work.subject):
            return seconds
        if self.size is None:
            return seconds
        if (wanted := self.comparable(work)) is None:
            return None
        share = wanted / self.size
        return Range(seconds.low * min(1, share.low), seconds.high * max(1, share.high))

    def comparable(self, work: Work) -> Range | None:
        """Of other work what `size` is of this."""
        if self.unit == STEP:
            return work.operations
        return None if work.entries is None else exactly(work.entries)


@dataclass(frozen=True)
class Time:
    """Seconds of a job, and where this number is from."""

    seconds: Range
    sources: tuple[str, ...]


class Speeds:
    """The speeds that are known."""

    def __init__(self, speeds: Iterable[Speed]) -> None:
        self._speeds = list(speeds)

    def time(self, work: Work) -> Time | None:
        """How long a job takes, or None if nothing tells.

        The speed that counts is the nearest. Where no job of the stage was measured, one that
        trains goes by another stage that trains, `full` before others.
        """
        beside = self._nearest(work, JOB)
        alone = None if beside is None else beside.scaled(work)
        if work.steps is None:
            return None if beside is None or alone is None else Time(alone, (beside.source,))
        step = self._nearest(work, STEP)
        if step is None or (each := step.scaled(work)) is None:
            return None
        if step.whole:
            return Time(each * work.steps, (step.source,))
        seconds, sources = each * (work.steps + work.validation), [step.source]
        if beside is not None and alone is not None:
            seconds, sources = seconds + alone, [*sources, beside.source]
        return Time(seconds, tuple(dict.fromkeys(sources)))

    def step(self, work: Work) -> Range | None:
        """Seconds of one step of a job that trains."""
        speed = self._nearest(work, STEP)
        return None if speed is None else speed.scaled(work)

    def memory(self, stage: str) -> float | None:
        """The most that a job of this stage had, where this run or this machine tells."""
        near = [s.memory for s in self._speeds if s.stage == stage and s.nearness <= HERE]
        return max((memory for memory in near if memory), default=None)

    def _nearest(self, work: Work, unit: str) -> Speed | None:
        def distance(speed: Speed) -> tuple[float, ...]:
            apart, wanted = 0.0, speed.comparable(work)
            if speed.size is not None and wanted is not None:
                apart = abs(math.log(speed.size.high / wanted.high))
            return (
                max(speed.nearness, HERE),  # another stage of this run or machine is near enough
                speed.stage != work.stage,
                speed.stage != "full",
                speed.nearness,
                speed.nearness <= HERE and speed.subject not in ("", work.subject),
                apart,
            )

        trains = unit == STEP
        fitting = (
            speed
            for speed in self._speeds
            if speed.unit == unit
            and (speed.stage == work.stage or (trains and speed.stage in TRAINING))
        )
        return min(fitting, key=distance, default=None)


def of_run(plan: Plan, works: Sequence[tuple[Artefact, Work]]) -> list[Speed]:
    """What the jobs of a run tell that have ended: for each stage and subject the seconds of all
    of them over their steps, or over their number."""
    root, found = Path(plan.root), dict[tuple[str, str], list[tuple[dict[str, Any], Work, float]]]()
    for artefact, work in works:
        cost = _cost(root / "benchmarks" / artefact.path, work.stage)
        if cost is None:
            continue
        steps = 1.0
        if work.steps is not None:
            known = _steps(root / artefact.path)
            if known is None and work.steps.low != work.steps.high:
                continue
            steps = known or work.steps.low
        found.setdefault((work.stage, work.subject), []).append((cost, work, steps))
    speeds = []
    for (stage, subject), jobs in found.items():
        seconds = sum(cost["seconds"] for cost, *_ in jobs)
        work = jobs[0][1]
        peaks = [cost.get("peak_device_bytes") or cost.get("peak_bytes") for cost, *_ in jobs]
        trains = work.steps is not None
        speeds.append(
            Speed(
                stage,
                subject,
                STEP if trains else JOB,
                exactly(seconds / sum(steps for *_, steps in jobs)),
                "the jobs of this run that have ended",
                RUN,
                size=work.operations if trains else None,
                whole=True,
                memory=max((peak for peak in peaks if peak), default=None),
            )
        )
    return speeds


def of_file(path: Path) -> list[Speed]:
    """What `deftx plan --measure` has written; nothing if it has not. Raises ConfigError if the
    file is not one of these."""
    if not path.is_file():
        return []
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return [_speed(one, found["machine"], HERE) for one in found["speeds"]]
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{path}: not what `deftx plan --measure` writes ({error!r}); delete it"
        ) from None


def shipped(machine: str) -> list[Speed]:
    """What the project has measured, the chosen machine nearest. Raises ConfigError if there is no
    such machine."""
    known = machines()
    if machine not in known:
        raise ConfigError(f"--machine {machine}: none that was measured; known: {', '.join(known)}")
    speeds = []
    for name, facts in known.items():
        nearness = MACHINE if name == machine else ANOTHER
        speeds += [_speed(one, facts["about"], nearness) for one in facts["speeds"]]
    return speeds


def machines() -> dict[str, dict[str, Any]]:
    """Name → `device`, `about` and `speeds` of the machines that the project has measured on."""
    found: dict[str, dict[str, Any]] = yaml.safe_load(SHIPPED.read_text(encoding="utf-8"))
    return found


def _speed(given: dict[str, Any], machine: str, nearness: int) -> Speed:
    seconds, size = given["seconds"], given.get("operations", given.get("entries"))
    source = f"{machine}: {given['source']}" if "source" in given else machine
    return Speed(
        given["stage"],
        given.get("subject", ""),
        given["unit"],
        Range(*seconds) if isinstance(seconds, list) else exactly(seconds),
        source,
        nearness,
        size=None if size is None else exactly(size),
        threads=given.get("threads"),
        whole=given.get("whole", False),
        memory=given.get("memory"),
    )


def _cost(path: Path, stage: str) -> dict[str, Any] | None:
    """What a job that has ended cost; None if it has not: its file is empty while it runs."""
    try:
        found: dict[str, Any] = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return found if found.get("stage") == stage and "seconds" in found else None


def _steps(path: Path) -> float | None:
    """How many steps an artefact was trained for, of its metadata alone."""
    try:
        with safe_open(path, framework="np") as file:
            metadata = json.loads((file.metadata() or {}).get(METADATA_KEY, "{}"))
    except (OSError, SafetensorError):
        return None
    steps = metadata.get("outcome", {}).get("steps")
    return float(steps) if steps else None
