"""GPUs of this machine, claimed so that no two jobs share one. Free of torch."""

import logging
import os
import random
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
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
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them: its value, or if it
    is not set one index for each of /dev/nvidia0, /dev/nvidia1, …; empty without a GPU.

    Raises InputError for a name that is no index, GPU-UUID or MIG id, and for a repeated one.
    """
    given = os.environ.get(VISIBLE)
    if given is None:
        return [str(index) for index in range(len(_minors()))]
    names = [name.strip() for name in given.split(",")]
    if names[0] in ("", "-1", "NoDevFiles"):  # SLURM sets the last for a job without a GPU
        return []
    if "-1" in names:  # CUDA ignores what follows
        names = names[: names.index("-1")]
    valid = all(re.fullmatch(r"\d+|(GPU|MIG)-\S+", name) for name in names)
    if not valid or len(set(names)) < len(names):
        raise InputError(f"{VISIBLE} is {given!r}, expected indices, GPU-UUIDs or MIG ids, once")
    return names


@contextmanager
def claimed(count: int, holder: str) -> Iterator[None]:
    """Hold `count` visible devices that no other job holds; during the block
    CUDA_VISIBLE_DEVICES names only these. Enter it before torch is imported.

    While too few are free the job waits and logs, at once and then once a minute, who holds which;
    `holder` describes this job to others. A job takes all its devices or none, so no two jobs wait
    for each other. Nothing is claimed without a GPU, by the workers of a job, or with
    DEFTX_SHARE_DEVICES=1, with which every job uses the first devices.

    The locks are files in /tmp or $DEFTX_LOCK_DIR; the system releases them with the process.
    Design choice: Snakemake counts GPUs but does not name them, and NVIDIA's exclusive mode needs
    an administrator.

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
    before = os.environ.get(VISIBLE)
    os.environ[VISIBLE] = ",".join(locks or devices[:count])
    try:
        yield
    finally:
        if before is None:
            del os.environ[VISIBLE]
        else:
            os.environ[VISIBLE] = before
        for lock in locks.values():
            lock.release()


def _wait(devices: list[str], count: int, holder: str) -> dict[str, FileLock]:
    """Device → its lock, held, for `count` of the devices."""
    chance = random.SystemRandom()  # waiting must not advance a seeded stream
    last_message = -float("inf")
    while len(locks := _free(devices, count)) < count:
        if time.monotonic() - last_message >= SECONDS_BETWEEN_MESSAGES:
            last_message = time.monotonic()
            states = [f"{d} is {'free' if d in locks else _holder(d)}" for d in devices]
            log.info("waiting for %d of %d GPUs: %s", count, len(devices), "; ".join(states))
        for lock in locks.values():
            lock.release()
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
        if len(locks) == count:
            break
        path = _lock_file(device)
        lock = FileLock(path, mode=0o666, blocking=False, fallback_to_soft=False)
        try:
            with suppress(Timeout):
                lock.acquire()
                locks[device] = lock
        except OSError as error:
            raise DeviceError(
                f"{path}: cannot be locked ({error}); set DEFTX_LOCK_DIR to a local folder"
            ) from None
    return locks


def _holder(device: str) -> str:
    text = _lock_file(device).read_text(encoding="utf-8")
    return f"held by {text or 'a job that is starting'}"


def _lock_file(device: str) -> Path:
    minors = _minors()
    # A container that has only /dev/nvidia3 calls it 0.
    if device.isdigit() and int(device) < len(minors):
        device = str(minors[int(device)])
    if "SLURM_JOB_ID" in os.environ and VISIBLE in os.environ:
        # Behind cgroups every job calls its first device 0.
        scope = [os.environ.get(key, "") for key in ("SLURM_JOB_ID", "SLURM_STEP_ID")]
        device = f"slurm-{'.'.join(scope)}-{device}"
    # Not in $TMPDIR, which differs between the users of one machine.
    folder = Path(os.environ.get("DEFTX_LOCK_DIR", "/tmp"))
    return folder / f"deftx-gpu-{re.sub(r'[^A-Za-z0-9.-]', '_', device)}.lock"


def _minors() -> list[int]:
    return sorted(int(path.name.removeprefix("nvidia")) for path in DEV.glob("nvidia[0-9]*"))
