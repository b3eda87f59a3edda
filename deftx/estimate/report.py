"""The estimate as people read it."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from math import isinf
from statistics import median
from typing import TypeVar

from rich.console import Console
from rich.table import Table

from deftx.estimate.ranges import Range
from deftx.estimate.shape import Shape
from deftx.estimate.speeds import Speeds
from deftx.estimate.totals import Job, Sum, checkpoints, summed, wall_time
from deftx.plan.plan import Plan
from deftx.report.units import duration, size

Key = TypeVar("Key")

RUN = "the run"
HOUR = 3600
NOTHING = "—"


def show_estimate(
    console: Console,
    plan: Plan,
    jobs: Sequence[Job],
    shape: Shape | str,
    speeds: Speeds,
    *,
    gpus: int,
    cores: int,
    free: int,
    caution: str,
    unknown: Iterable[str],
) -> None:
    """Print what is to be done, stage by stage, language by language and in total, and what each
    number rests on. `gpus` and `cores` are used at once; `free` are the bytes that are left;
    `caution` and `unknown` say what is not certain."""
    everything, sources = summed(jobs), _Sources(jobs)
    wall, states = wall_time(plan, jobs, gpus, cores), checkpoints(jobs, gpus or cores)
    _say(console, f"[bold]{plan.root}[/]: {everything.to_do:,} of {everything.jobs:,} jobs to do")
    _say(console, caution)
    if isinstance(shape, Shape):
        _say(console, f"base: {shape.backbone:,} parameters ({shape.known_from})")
    else:
        _say(console, f"base: [bold]unknown[/], so there are jobs and steps alone. {shape}")
    for table in (_stages(jobs, speeds, sources), _subjects(plan, jobs, gpus)):
        console.print()
        console.print(table)
    console.print()
    for line in _one_more_language(plan, jobs):
        _say(console, line)
    where = f"on {gpus} GPU{'s' * (gpus > 1)} and {cores} cores" if gpus else f"on {cores} cores"
    seconds = everything.device_seconds if gpus else everything.seconds
    for name, text in {
        "GPU time" if gpus else "one after the other": _time(everything, seconds, hours),
        where: _time(everything, wall, duration),
        "disk": _disk(everything, everything.disk),
        "while it trains": f"{size(states)} more at most, of states to go on from",
        "free here": size(free) + _enough(everything.more_disk, states, free),
    }.items():
        _say(console, f"{name:24} {text}")
    _say(console, "\nTimes rest on:")
    for number, source in sources.numbered():
        _say(console, rf"  \[{number}] {source}")
    for line in _notes(jobs, unknown):
        _say(console, line)


def _enough(more: Range, states: int, free: int) -> str:
    if more.low > free:
        return f": [bold red]not enough[/], {more.shown(size)} are still to be written"
    if more.high + states > free:
        return f": [bold]may not be enough[/], {more.shown(size)} are still to be written"
    return ""


def hours(seconds: float) -> str:
    """Seconds in hours, as compute time is counted; less than one as `duration` has it."""
    if seconds < HOUR:
        return duration(seconds)
    return f"{seconds / HOUR:,.1f} h" if seconds < 99.5 * HOUR else f"{seconds / HOUR:,.0f} h"


class _Sources:
    """The sources of the times of jobs, numbered in the order of the jobs."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        names = (name for job in jobs if job.to_do and job.time for name in job.time.sources)
        self._numbers = {name: i for i, name in enumerate(dict.fromkeys(names), 1)}

    def numbered(self) -> list[tuple[int, str]]:
        return [(number, name) for name, number in self._numbers.items()]

    def of(self, jobs: Iterable[Job]) -> str:
        names = {name for job in jobs if job.to_do and job.time for name in job.time.sources}
        return " ".join(rf"\[{n}]" for name, n in self._numbers.items() if name in names)


def _stages(jobs: Sequence[Job], speeds: Speeds, sources: _Sources) -> Table:
    table = Table(box=None, title="Stages", title_justify="left", padding=(0, 1, 0, 0))
    for head in (
        "stage",
        "jobs",
        "to do",
        "steps of a job",
        "a step",
        "time",
        "memory",
        "disk",
        "by",
    ):
        table.add_column(head, justify="left" if head in ("stage", "by") else "right")
    for stage, those in _grouped(jobs, lambda job: job.artefact.stage).items():
        together = summed(those)
        steps = _bounds(job.work.steps for job in those)
        each = _bounds(job.step for job in those if job.to_do)
        table.add_row(
            stage,
            f"{together.jobs:,}",
            f"{together.to_do:,}",
            NOTHING if steps is None else steps.shown(_count),
            NOTHING if each is None else each.shown(_step),
            _time(together, together.seconds, hours),
            _memory(those, speeds.memory(stage)),
            _disk(together, together.disk),
            sources.of(those),
        )
    return table


def _subjects(plan: Plan, jobs: Sequence[Job], gpus: int) -> Table:
    """A row for each language, for each task in all languages alike, and for the rest."""
    what = "GPU time" if gpus else "time"
    table = Table(box=None, title="Languages and tasks", title_justify="left", padding=(0, 1, 0, 0))
    for head in ("for", "", "jobs", "to do", what, "disk"):
        table.add_column(head, justify="left" if head in ("for", "") else "right")
    groups = _grouped(jobs, _subject)
    others = [key for key in groups if key not in plan.config.tasks and key != RUN]
    order = [*plan.config.languages, *others, *plan.config.tasks, RUN]
    for key, those in sorted(groups.items(), key=lambda group: order.index(group[0])):
        together = summed(those)
        seconds = together.device_seconds if gpus else together.seconds
        table.add_row(
            key,
            _called(plan, key),
            f"{together.jobs:,}",
            f"{together.to_do:,}",
            _time(together, seconds, hours),
            _disk(together, together.disk),
        )
    return table


def _subject(job: Job) -> str:
    return job.language or job.task or RUN


def _called(plan: Plan, subject: str) -> str:
    if subject == RUN:
        return "base, tables, pages"
    if subject in plan.config.tasks:
        return "task, in all languages"
    language = plan.config.languages.get(subject)
    return (language.name if language else "") or "language"


def _one_more_language(plan: Plan, jobs: Sequence[Job]) -> Iterator[str]:
    """What a language with text costs in the median."""
    each = _grouped((job for job in jobs if job.language), lambda job: str(job.language))
    sums = [summed(those) for key, those in each.items() if plan.config.has_text(key)]
    sums = [one for one in sums if one.to_do == one.jobs and not one.untimed]
    if len(sums) < 2:
        return
    seconds, disk = ([getattr(one, name) for one in sums] for name in ("seconds", "disk"))
    yield (
        f"One more language with text: about {_median(seconds).shown(hours)} of jobs and "
        f"{_median(disk).shown(size)} (median of {len(sums)})."
    )


def _median(ranges: Sequence[Range]) -> Range:
    return Range(median(r.low for r in ranges), median(r.high for r in ranges))


def _notes(jobs: Sequence[Job], unknown: Iterable[str]) -> Iterator[str]:
    pending = [job for job in jobs if job.to_do]
    if untimed := [job.artefact.stage for job in pending if job.time is None]:
        yield f"No time is known for {_counted(untimed)}: in no sum."
    if unsized := [job.artefact.stage for job in jobs if job.disk is None]:
        yield f"No size is known for {_counted(unsized)}: in no sum."
    if lines := list(unknown):
        yield "Not known yet, so bounds of the config count (min_steps, max_steps, max_length):"
        yield from (f"  {line}" for line in lines)


def _counted(stages: Sequence[str]) -> str:
    counts: Mapping[str, int] = {stage: stages.count(stage) for stage in dict.fromkeys(stages)}
    return ", ".join(f"{count:,} {stage}" for stage, count in counts.items())


def _grouped(jobs: Iterable[Job], key: Callable[[Job], Key]) -> dict[Key, list[Job]]:
    groups: dict[Key, list[Job]] = {}
    for job in jobs:
        groups.setdefault(key(job), []).append(job)
    return groups


def _bounds(ranges: Iterable[Range | None]) -> Range | None:
    known = [found for found in ranges if found is not None]
    if not known:
        return None
    return Range(min(r.low for r in known), max(r.high for r in known))


def _time(jobs: Sum, seconds: Range, write: Callable[[float], str]) -> str:
    if jobs.to_do == 0:
        return NOTHING
    if not seconds.high:
        return "unknown"
    return seconds.shown(write) + (" or more" if jobs.untimed and not isinf(seconds.high) else "")


def _disk(jobs: Sum, disk: Range) -> str:
    if jobs.unsized == jobs.jobs:
        return "unknown"
    return disk.shown(size)


def _memory(jobs: Sequence[Job], measured: float | None) -> str:
    if measured is not None:
        return size(measured)
    least = max((job.memory for job in jobs if job.memory), default=None)
    return NOTHING if least is None else f"≥ {size(least)}"


def _count(value: float) -> str:
    return f"{value:,.0f}"


def _step(seconds: float) -> str:
    return f"{1000 * seconds:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


def _say(console: Console, line: str) -> None:
    if line:
        console.print(line, highlight=False, soft_wrap=True)
