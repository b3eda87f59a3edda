"""What a job cost: seconds, memory and bytes, and what its stage measured itself. Free of torch."""

import os
import resource
import sys
import time
from pathlib import Path

from deftx.store.artefact import write_json

_began, _cpu_before = time.monotonic(), 0.0
_measured: dict[str, float] = {}


def begin(whole_process: bool) -> None:
    """A job begins: now, or with its process if that runs nothing else."""
    global _began, _cpu_before
    _began = time.monotonic() - (_age() if whole_process else 0.0)
    _cpu_before = 0.0 if whole_process else _cpu()
    _measured.clear()


def measured(name: str, value: float) -> None:
    """Record a number that a stage has measured of itself, under its name in the job's cost."""
    _measured[name] = value


def write_cost(path: Path, stage: str, out: Path, launched: bool = False) -> None:
    """Write what the job that made `out` cost until now, as JSON.

    `seconds` of wall time, without those that it waited for a GPU; `cpu_seconds` and `peak_bytes`
    (resident) with its child processes, of memory the largest process; `peak_device_bytes` that
    PyTorch had in use, null for a job of several processes, which is `launched`; `stored_bytes` of
    the artefact and the files beside it that share its stem; and what the stage measured.
    """
    stored = [file for file in out.parent.glob(f"{out.stem}.*") if file.suffix != ".corrupt"]
    write_json(
        path,
        {
            **_measured,
            "stage": stage,
            "seconds": time.monotonic() - _began - _measured.get("waited_seconds", 0.0),
            "cpu_seconds": _cpu() - _cpu_before,
            "peak_bytes": _peak(),
            "peak_device_bytes": None if launched else _device_peak(),
            "stored_bytes": sum(file.stat().st_size for file in stored),
        },
    )


def _age() -> float:
    """Seconds since this process started, never too many: Linux tells it in whole ticks, of which
    the last had begun. 0 where the system does not tell."""
    if sys.platform != "linux":
        return 0.0
    ticks = Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]
    started = (int(ticks) + 1) / os.sysconf("SC_CLK_TCK")
    return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - started)


def _cpu() -> float:
    """CPU seconds of this process and of its children that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _peak() -> int:
    """Largest resident size, in bytes, of this process or of a child that has ended."""
    own, children = (
        resource.getrusage(who).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    if sys.platform == "linux":  # its rusage remembers the parent from which it was forked
        status = Path("/proc/self/status").read_text()
        own = 1024 * int(status.partition("VmHWM:")[2].split()[0])
    return max(own, children)


def _device_peak() -> int:
    """The most that PyTorch had allocated on this job's GPU; 0 where it used none."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return 0
    return sum(torch.cuda.max_memory_allocated(n) for n in range(torch.cuda.device_count()))
