"""One job as several processes, one a device, by PyTorch's own launcher. Free of torch."""

import ctypes
import os
import signal
import subprocess
import sys
from types import FrameType

FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)


def launch(workers: int, program: list[str], inherited: list[int]) -> int:
    """Run `python PROGRAM` as so many workers and wait; the exit status, 0 only if each ended so,
    and 128 + n where signal n ended the launcher.

    The launcher inherits the given descriptors. SIGTERM, SIGINT, SIGHUP and SIGUSR1 go on to all
    workers, which then have 30 seconds to end. A worker that fails ends the others. From the
    main thread only, as signals are.

    Source: torchrun. A design choice: it sets up ranks and the meeting point as every PyTorch user
    knows them, and nothing starts again by itself, for that is the workflow's.
    """
    names = ",".join(number.name for number in FORWARDED)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone",
               f"--nproc-per-node={workers}", f"--signals-to-handle={names}", *program]  # fmt: skip
    early: list[int] = []
    process: subprocess.Popen[bytes] | None = None

    def forward(number: int, frame: FrameType | None) -> None:
        if process is None:
            early.append(number)
        else:
            process.send_signal(number)

    before = {number: signal.signal(number, forward) for number in FORWARDED}
    try:
        process = subprocess.Popen(
            command,
            # What torchrun takes by itself, but with a banner; a stage sets its threads anyway.
            env={"OMP_NUM_THREADS": "1", **os.environ},
            pass_fds=inherited,
            # A session of its own: Ctrl-C goes to a whole group, and would reach it twice.
            start_new_session=True,
            preexec_fn=end_with_parent,
        )
        for number in early:
            process.send_signal(number)
        status = process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return status if status >= 0 else 128 - status


def end_with_parent(number: int = signal.SIGTERM) -> None:
    """Ask the system to send this process a signal when its parent ends, however that happens:
    else a job would go on using devices that nobody holds. Only Linux can."""
    if sys.platform == "linux":
        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, number, 0, 0, 0)
