"""Fair timing of several contestants: in one process, in turns, and warm."""

import argparse
import datetime
import gc
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers

MIB = 2**20


@dataclass
class Timing:
    """Measurements of one contestant.

    Attributes:
        name: of the contestant.
        rounds: seconds per step, one number for each round.
        peak: peak of memory in its first steps, in bytes, beyond the memory in use before it was
            built.
        warmup: seconds from the start of its construction to the end of its warm-up.
    """

    name: str
    rounds: list[float] = field(default_factory=list)
    peak: int = 0
    warmup: float = 0.0

    @property
    def seconds(self) -> float:
        """Seconds per step: the median over the rounds."""
        return statistics.median(self.rounds)

    def ratio(self, other: "Timing") -> float:
        """How many times faster this one is than `other`: the median of the rounds' ratios."""
        return statistics.median(b / a for a, b in zip(self.rounds, other.rounds, strict=True))


def compare(
    makers: Mapping[str, Callable[[], Callable[[], object]]],
    rounds: int = 5,
    steps: int = 3,
    warmup: int = 3,
    clock: Callable[[], float] = time.perf_counter,
) -> list[Timing]:
    """Time contestants in turns: in each round each one makes `steps` steps, one after another.
    Print each figure as soon as it is measured.

    `makers`: name → function that builds a contestant and returns the function for one step. All
    contestants stay in memory. Each makes `warmup` untimed steps when it is built, in which its
    peak of memory is measured. The GPU is synchronised at both ends of a turn, not after each step.
    """
    timings, contestants = [], []
    for name, make in makers.items():
        began = clock()
        memory = Memory()
        step = make()
        memory.reset()
        for _ in range(max(1, warmup)):
            step()
        synchronize()
        timings.append(Timing(name, peak=memory.peak(), warmup=clock() - began))
        print(f"  {name}: warm-up of {timings[-1].warmup:.1f} s", flush=True)
        contestants.append(step)
    for number in range(1, rounds + 1):
        for timing, step in zip(timings, contestants, strict=True):
            synchronize()
            began = clock()
            for _ in range(steps):
                step()
            synchronize()
            timing.rounds.append((clock() - began) / steps)
            print(f"  {timing.name}, round {number}: {timing.rounds[-1]:.4f} s a step", flush=True)
    return timings


class Memory:
    """The peak of memory since `reset`, minus the memory in use when this object was created.

    On a GPU it is the memory that PyTorch's allocator handed out, on a CPU the resident set of the
    process. Where Linux does not allow its peak to be reset, it is the growth of `ru_maxrss`, which
    misses anything below an earlier peak. In both cases the allocator may reuse memory that an
    earlier contestant freed; for a figure to cite, measure each contestant in its own process.
    """

    def __init__(self) -> None:
        gc.collect()
        self._gpu = torch.cuda.is_available()
        if self._gpu:
            synchronize()
            torch.cuda.empty_cache()
            self._before = torch.cuda.memory_allocated()
        else:
            self.reset()
            self._before = resident_peak()

    def reset(self) -> None:
        """Reset the peak; building a model takes more memory than keeping it."""
        if self._gpu:
            torch.cuda.reset_peak_memory_stats()
        elif sys.platform == "linux":
            try:
                Path("/proc/self/clear_refs").write_text("5")
            except OSError:
                return

    def peak(self) -> int:
        """Bytes."""
        now = torch.cuda.max_memory_allocated() if self._gpu else resident_peak()
        return max(0, now - self._before)


def resident_peak() -> int:
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def synchronize() -> None:
    """Wait for the GPU, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def table(timings: list[Timing]) -> str:
    """Timings as text; the others are compared with the first."""
    base = timings[0]
    rows = [("", "s/step", "fastest", "slowest", "times faster", "peak MiB", "warm-up s")]
    rows += [
        (
            timing.name,
            f"{timing.seconds:.4f}",
            f"{min(timing.rounds):.4f}",
            f"{max(timing.rounds):.4f}",
            "" if timing is base else f"{timing.ratio(base):.2f}",
            f"{timing.peak / MIB:.0f}",
            f"{timing.warmup:.1f}",
        )
        for timing in timings
    ]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )


def machine() -> str:
    """The machine and the versions in one line."""
    parts = [
        _processor(),
        f"{len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()}"
        f" cores ({torch.get_num_threads()} threads)",
        torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU",
        f"Python {platform.python_version()}",
        f"torch {torch.__version__}",
        f"transformers {transformers.__version__}",
        datetime.datetime.now(datetime.UTC).date().isoformat(),
    ]
    return ", ".join(parts)


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `compare`."""
    parser.add_argument("--rounds", type=int, default=5, help="turns of each contestant")
    parser.add_argument("--steps", type=int, default=3, help="steps in a turn")
    parser.add_argument("--warmup", type=int, default=3, help="steps before that, not timed")
    parser.add_argument(
        "--cpu-time",
        action="store_true",
        help="time the process on the CPU, not the wall clock (no GPU)",
    )


def settings(given: argparse.Namespace) -> dict[str, Any]:
    """The given options as arguments of `compare`."""
    chosen = {"rounds": given.rounds, "steps": given.steps, "warmup": given.warmup}
    return {**chosen, "clock": time.process_time} if given.cpu_time else chosen
