"""GPUs of this machine, claimed by jobs: whole, or one by several small jobs. Free of torch."""

import logging
import os
import re
import socket
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import cache
from itertools import chain, takewhile
from pathlib import Path

from filelock import FileLock, Timeout

from deftx.store.errors import DeviceError, InputError

VISIBLE = "CUDA_VISIBLE_DEVICES"
DEV = Path("/dev")
SECONDS_BETWEEN_MESSAGES = 60
SECONDS_BETWEEN_LOOKS = 0.5

SHARES = 4
"""How many small jobs may use one GPU at a time."""

USABLE = 0.95
"""Part of a GPU's memory that is shared out; the driver and a screen use some."""

LARGEST_SHARE = 8 * 2**30
"""Bytes. Design choice: what needs more keeps even a large GPU busy, so that it gains nothing from
others beside it."""

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


def share_for(memory: int | None) -> int | None:
    """Bytes of a GPU that a job may use beside others, if it declares that it needs at most
    `memory` bytes. None if it must have the GPU whole: it declares nothing or more than such a
    share, the memory of the GPUs is unknown, or DEFTX_SHARE_DEVICES is set.

    Raises InputError if DEFTX_SHARE_DEVICES is neither 0 nor 1.
    """
    if _claims_nothing() is not None or memory is None or memory > LARGEST_SHARE:
        return None
    share = min(int(USABLE * _memory_of_smallest()) // SHARES, LARGEST_SHARE)
    return share if memory <= share else None


def _claims_nothing() -> bool | None:
    """Whether DEFTX_SHARE_DEVICES lets all jobs use the first devices; None if it is not set."""
    asked = os.environ.get("DEFTX_SHARE_DEVICES")
    if asked not in (None, "0", "1"):
        raise InputError(f"DEFTX_SHARE_DEVICES is {asked!r}, expected 0 or 1, or no such variable")
    return None if asked is None else asked == "1"


@cache
def _memory_of_smallest() -> int:
    """Bytes of memory of the smallest GPU that nvidia-smi lists: CUDA may number them in another
    order. 0 if it is unknown, or if a GPU has MIG instances or admits one process only."""
    query = "--query-gpu=memory.total,mig.mode.current,compute_mode"
    command = ["nvidia-smi", query, "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return 0
    gpus = [line.split(", ") for line in done.stdout.splitlines()]
    if any(
        len(gpu) < 3 or not gpu[0].isdigit() or gpu[1] == "Enabled" or gpu[2] != "Default"
        for gpu in gpus
    ):
        return 0
    return min((int(gpu[0]) * 2**20 for gpu in gpus), default=0)


@contextmanager
def claimed(count: int, holder: str, memory: int | None = None) -> Iterator[int | None]:
    """Hold `count` visible devices; during the block CUDA_VISIBLE_DEVICES names only these. Enter
    it before torch looks for devices. The value is None if no other job has them too, else the
    bytes of the device that this job may use.

    A job on one device that declares, by `memory`, that it needs few bytes may share it with others
    that do: at most SHARES jobs, each of which declares at most `share_for` bytes. All other jobs
    have their devices whole. While too few are free the job waits and logs, at once and then
    once a minute, who holds which; `holder` describes this job to others. A job takes all its
    devices or none, and while it waits for the jobs that still share them no further ones join
    these. So no two jobs wait for each other, and none waits for a stream of smaller ones.

    Nothing is claimed without a GPU, by a worker, or with DEFTX_SHARE_DEVICES=1, when every job
    uses the first devices. The system releases the locks, files in /tmp or $DEFTX_LOCK_DIR, with
    the process. Design choice: Snakemake counts GPUs but does not name them, and NVIDIA's exclusive
    mode needs an administrator.

    Raises InputError if more devices are asked for than are visible, DeviceError if the files
    cannot be locked.
    """
    devices = visible_devices()
    if is_worker() or not devices:
        yield None
        return
    if count > len(devices):
        raise InputError(
            f"engine.devices is {count}, expected at most {len(devices)}: "
            f"the GPUs that this job may use are {', '.join(devices)}"
        )
    whole = count > 1 or any(device.startswith("MIG") for device in devices)
    share = share_for(None if whole else memory)
    locks = {} if _claims_nothing() else _wait(devices, count, holder, share is not None)
    before = {VISIBLE: os.environ[VISIBLE]} if VISIBLE in os.environ else {}
    os.environ[VISIBLE] = ",".join(locks or devices[:count])
    if share is not None and memory is not None:
        gib = 2**30
        log.info("shares GPU %s: declares %.1f GiB of %.1f", *locks, memory / gib, share / gib)
    try:
        yield share
    finally:
        del os.environ[VISIBLE]
        os.environ.update(before)
        _release(locks.values())


def _wait(devices: list[str], count: int, holder: str, shares: bool) -> dict[str, FileLock]:
    """Device → the lock that this job holds on it: of the whole, or of a share."""
    last_message = -float("inf")
    locks: dict[str, FileLock] = {}
    while True:
        with _looking():
            locks = locks or _take(devices, count, holder, shares)
            if locks and (shares or not any(_held(_shares(device)) for device in locks)):
                return locks
            if time.monotonic() - last_message >= SECONDS_BETWEEN_MESSAGES:
                last_message = time.monotonic()
                states = "; ".join(f"{d} is {_state(d, d in locks)}" for d in devices)
                log.info("waiting for %d of %d GPUs: %s", count, len(devices), states)
        time.sleep(SECONDS_BETWEEN_LOOKS)


@contextmanager
def _looking() -> Iterator[None]:
    """One job at a time looks at what is free and takes it, within milliseconds."""
    lock = _lock(_lock_file("all"), wait=True)
    try:
        yield
    finally:
        _release([lock])


def _take(devices: list[str], count: int, holder: str, shares: bool) -> dict[str, FileLock]:
    """As `_wait`; empty if too few are free. Whole devices may still be shared by other jobs. Those
    that are used by the fewest jobs are taken."""
    wholes = {device: lock for device in devices if (lock := _lock(_lock_file(device)))}
    parts = {device: [*filter(None, map(_lock, _shares(device)))] for device in wholes}
    idlest = sorted(wholes, key=lambda device: -len(parts[device]))
    if shares:
        taken = {device: parts[device].pop(0) for device in idlest[:1] if parts[device]}
    else:
        taken = {d: wholes.pop(d) for d in idlest[:count]} if len(wholes) >= count else {}
    _release([*wholes.values(), *chain.from_iterable(parts.values())])
    since = datetime.now().astimezone().isoformat(timespec="seconds")
    for lock in taken.values():
        # Without O_CREAT, with which Linux refuses another user's file in a folder such as /tmp.
        with open(lock.lock_file, "r+", encoding="utf-8") as file:
            file.truncate()
            file.write(f"pid {os.getpid()} on {socket.gethostname()}, {holder}, since {since}")
    return taken


def _state(device: str, taken: bool) -> str:
    """Who uses a device, which this job may have taken while others still share it."""
    whole, shares = [] if taken else _held([_lock_file(device)]), _held(_shares(device))
    names = [file.read_text("utf-8") for file in whole or shares]
    return f"{'held' if whole else 'shared'} by {' and '.join(names)}" if names else "free"


def _held(files: Iterable[Path]) -> list[Path]:
    """Those of these lock files that are locked."""
    locks = {file: _lock(file) for file in files}
    _release(locks.values())
    return [file for file, lock in locks.items() if lock is None]


def _lock(file: Path, wait: bool = False) -> FileLock | None:
    """The lock of a file, held; None if another job holds it, unless this one is to wait."""
    lock = FileLock(file, mode=0o666, blocking=wait, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout:  # an OSError too
        return None
    except OSError as error:
        raise DeviceError(
            f"{file}: cannot be locked ({error}); set DEFTX_LOCK_DIR to a local folder"
        ) from None
    return lock


def _release(locks: Iterable[FileLock | None]) -> None:
    for lock in filter(None, locks):
        lock.release()


def _shares(device: str) -> list[Path]:
    """The lock files of the shares of a device."""
    file = _lock_file(device)
    return [file.with_name(f"{file.stem}-share-{number}.lock") for number in range(1, SHARES + 1)]


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
