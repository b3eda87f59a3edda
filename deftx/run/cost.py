"""What a job cost: seconds, memory and bytes, and what its stage measured. Free of torch."""

import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

_began = _cpu_before = 0.0
_measured: dict[str, float] = {}


def begin() -> None:
    """Start to count for a job."""
    global _began, _cpu_before
    _began, _cpu_before = time.monotonic(), _cpu()
    _measured.clear()


def measured(name: str, value: float) -> None:
    """Record a number that a stage has measured, under its name in the job's cost."""
    _measured[name] = value


def cost(stage: str, out: Path, launched: bool = False) -> dict[str, Any]:
    """What the job that made `out` cost since `begin`.

    `seconds` is wall time without waiting for a GPU. `cpu_seconds` and `peak_bytes` (resident
    memory of the largest process) include child processes that have ended. `peak_device_bytes` is
    what PyTorch allocated on the GPU: 0 without one, null for a job of several processes, which is
    `launched`. `stored_bytes` counts the artefact and the files beside it that share its stem. What
    the stage measured is added.
    """
    stored = [file for file in out.parent.glob(f"{out.stem}.*") if file.suffix != ".corrupt"]
    return {
        **_measured,
        "stage": stage,
        "seconds": time.monotonic() - _began - _measured.get("waited_seconds", 0.0),
        "cpu_seconds": _cpu() - _cpu_before,
        "peak_bytes": peak_bytes(),
        "peak_device_bytes": None if launched else _device_peak(),
        "stored_bytes": sum(file.stat().st_size for file in stored),
    }


def peak_bytes() -> int:
    """Resident memory of the largest process so far: this one, or a child that has ended."""
    usages = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    kilobyte = 1 if sys.platform == "darwin" else 1024
    return kilobyte * max(usage.ru_maxrss for usage in usages)


def _cpu() -> float:
    return sum(os.times()[:4])  # of this process and of child processes that have ended


def _device_peak() -> int:
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return 0
    return sum(torch.cuda.max_memory_allocated(n) for n in range(torch.cuda.device_count()))
