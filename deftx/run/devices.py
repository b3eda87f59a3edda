"""GPUs of this machine, claimed so that no two jobs share one. Free of torch."""

import logging
import os
import random
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from itertools import takewhile
from pathlib import Path

from filelock import FileLock, Timeout

from deftx.store.errors import DeviceError, InputError

VISIBLE = "CUDA_VISIBLE_DEVICES"
DEV = Path("/dev")
SECONDS_BETWEEN_MESSAGES = 60

log = logging.getLogger(__name__)


def is_worker() -> bool:
    """Whether this process is one of several that share a job, whose launcher holds the claim."""
    return "LOCAL_RANK" in os.environ


def visible_devices() -> list[str]:
    """The GPUs that this process may use: the names in CUDA_VISIBLE_DEVICES, or if it is not set
    the index of each of /dev/nvidia0, /dev/nvidia1, …; empty without a GPU.

    Raises InputError for a name that is no index, GPU-UUID or MIG id, and for a repeated one.
    """
    given = os.environ.get(VISIBLE)
    if given is None:
        return [str(index) for index in range(len(_minors()))]
    names = [name.strip() for name in given.split(",")]
    if names[0] in ("", "-1", "NoDevFiles"):  # SLURM sets the last for a job without a GPU
        return []
    names = list(takewhile(lambda name: name != "-1", names))  # CUDA ignores what follows
    valid = all(re.fullmatch(r"\d+|(GPU|MIG)-\S+", name) for name in names)
    if not valid or len(set(names)) < len(names):
        raise InputError(f"{VISIBLE} is {given!r}, expected indices, GPU-UUIDs or MIG ids, once")
    return names


@contextmanager
def claimed(count: int, holder: str) -> Iterator[None]:
    """Hold `count` visible devices that no other job holds; during the block
    CUDA_VISIBLE_DEVICES names only these. Enter it before torch is imported.

    While too few are free the job waits and logs, at once and then once a minute, who holds which;
    `holder` describes this job to others. It takes all its devices or none, so no two jobs wait for
    each other. Nothing is claimed without a GPU, by a worker, or with DEFTX_SHARE_DEVICES=1, when
    every job uses the first devices. The system releases the locks, files in /tmp or
    $DEFTX_LOCK_DIR, with the process. Design choice: Snakemake counts GPUs but does not name them,
    and NVIDIA's exclusive mode needs an administrator.

    Raises InputError if more devices are asked for than are visible, DeviceError if the files
    cannot be locked.
    """
    devices = visible_devices()
    if is_worker() or not devices:
        yield
        return
    if count > len(devices):
        raise InputError(
            f"engine.devices is {count}, expected at most {len(devices)}: "
            f"the GPUs that this job may use are {', '.join(devices)}"
        )
    shared = os.environ.get("DEFTX_SHARE_DEVICES", "0")
    if shared not in ("0", "1"):
        raise InputError(f"DEFTX_SHARE_DEVICES is {shared!r}, expected 0 or 1")
    locks = {} if shared == "1" else _wait(devices, count, holder)
    before = {VISIBLE: os.environ[VISIBLE]} if VISIBLE in os.environ else {}
    os.environ[VISIBLE] = ",".join(locks or devices[:count])
    try:
        yield
    finally:
        del os.environ[VISIBLE]
        os.environ.update(before)
        _release(locks)


def _wait(devices: list[str], count: int, holder: str) -> dict[str, FileLock]:
    chance = random.SystemRandom()  # waiting must not advance a seeded stream
    last_message = -float("inf")
    while len(locks := _free(devices, count)) < count:
        if time.monotonic() - last_message >= SECONDS_BETWEEN_MESSAGES:
            last_message = time.monotonic()
            states = "; ".join(f"{d} is {'free' if d in locks else _held(d)}" for d in devices)
            log.info("waiting for %d of %d GPUs: %s", count, len(devices), states)
        _release(locks)
        time.sleep(chance.uniform(0.3, 0.9))  # two jobs that each took some must not do so again
    since = datetime.now().astimezone().isoformat(timespec="seconds")
    for lock in locks.values():
        # Without O_CREAT, with which Linux refuses another user's file in a folder such as /tmp.
        with open(lock.lock_file, "r+", encoding="utf-8") as file:
            file.truncate()
            file.write(f"pid {os.getpid()} on {socket.gethostname()}, {holder}, since {since}")
    return locks


def _free(devices: list[str], count: int) -> dict[str, FileLock]:
    """Device → its lock, held, for at most `count` devices: those that were free."""
    locks: dict[str, FileLock] = {}
    for device in devices:
        lock = FileLock(_lock_file(device), mode=0o666, blocking=False, fallback_to_soft=False)
        try:
            if len(locks) < count:
                lock.acquire()
                locks[device] = lock
        except Timeout:  # an OSError too: another job holds it
            continue
        except OSError as error:
            raise DeviceError(
                f"{lock.lock_file}: cannot be locked ({error}); "
                "set DEFTX_LOCK_DIR to a local folder"
            ) from None
    return locks


def _release(locks: dict[str, FileLock]) -> None:
    for lock in locks.values():
        lock.release()


def _held(device: str) -> str:
    return f"held by {_lock_file(device).read_text('utf-8') or 'a job that is starting'}"


def _lock_file(device: str) -> Path:
    # A container that has only /dev/nvidia3 calls it 0.
    numbers = {str(index): minor for index, minor in enumerate(_minors())}
    device = str(numbers.get(device, device))
    if VISIBLE in os.environ and (job := os.environ.get("SLURM_JOB_ID")):
        # Behind cgroups every job calls its first device 0.
        device = f"slurm-{job}.{os.environ.get('SLURM_STEP_ID', '')}-{device}"
    # Not in $TMPDIR, which differs between the users of one machine.
    folder = Path(os.environ.get("DEFTX_LOCK_DIR", "/tmp"))
    return folder / f"deftx-gpu-{re.sub(r'[^A-Za-z0-9.-]', '_', device)}.lock"


def _minors() -> list[int]:
    return sorted(int(path.name.removeprefix("nvidia")) for path in DEV.glob("nvidia[0-9]*"))
