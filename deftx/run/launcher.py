"""One job as several processes, one per device, by PyTorch's own launcher. Free of torch."""

import ctypes
import os
import signal
import subprocess
import sys
from functools import partial

from deftx.run.handover import FORWARDED, forward_signals


def launch(workers: int, program: list[str]) -> int:
    """Run `python PROGRAM` as that many workers and wait. Returns the exit status: 0 only if every
    worker returned 0, and 128 + n if signal n ended the launcher.

    The signals of FORWARDED go on to all workers, which then have 30 seconds to end. A worker that
    fails ends the others. If this process is killed, so are the workers. Call it from the main
    thread: only that can handle signals. Source: torchrun; it restarts nothing, because restarting
    is up to the workflow.
    """
    names = ",".join(number.name for number in FORWARDED)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone",
               f"--nproc-per-node={workers}", f"--signals-to-handle={names}", *program]  # fmt: skip
    process = subprocess.Popen(
        command,
        # torchrun's own default, without its banner; a stage sets its threads anyway.
        env={"OMP_NUM_THREADS": "1", **os.environ},
        # A session of its own: Ctrl-C goes to a whole group, and would arrive twice.
        start_new_session=True,
        preexec_fn=partial(end_with_parent, parent=os.getpid()),
    )
    forward_signals(process.send_signal)
    status = process.wait()
    return status if status >= 0 else 128 - status


def end_with_parent(number: int = signal.SIGKILL, parent: int | None = None) -> None:
    """Ask the system to send this process a signal when its parent ends, for whatever reason, and
    send it now if `parent` has ended: otherwise a job would go on using devices that it no longer
    holds. Linux only."""
    if sys.platform == "linux":
        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, number, 0, 0, 0)
    if parent is not None and os.getppid() != parent:
        os.kill(os.getpid(), number)
