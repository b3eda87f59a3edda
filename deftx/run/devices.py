"""GPUs of this machine, claimed so that no two jobs share one. Free of torch."""

import fcntl
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
from typing import Any

from deftx.store.errors import InputError

VISIBLE = "CUDA_VISIBLE_DEVICES"
DEV = Path("/dev")
PROC = Path("/proc/driver/nvidia/gpus")

SECONDS_BETWEEN_MESSAGES = 60

log = logging.getLogger(__name__)


def devices_of(params: dict[str, Any]) -> int:
    """How many devices one job uses: `engine.devices` of a stage's parameters, or else 1.

    Raises InputError if it is no positive integer.
    """
    engine = params.get("engine") or {}
    count = engine.get("devices", 1) if isinstance(engine, dict) else engine
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise InputError(f"engine.devices is {count!r}, expected a positive integer")
    return count


def is_worker() -> bool:
    """Whether this process is one of several that work on one job: its launcher has the claim."""
    return "LOCAL_RANK" in os.environ


def visible_devices() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them: what is set there, or
    else one index for each of /dev/nvidia0, /dev/nvidia1, …; none on a machine without.

    Raises InputError for what is no index, GPU-UUID or MIG id, and for a device named twice.
    """
    given = os.environ.get(VISIBLE)
    if given is None:
        return [str(index) for index in range(len(_minors()))]
    names = [name.strip() for name in given.split(",")]
    if names[0] in ("", "-1", "NoDevFiles"):  # the last is what SLURM says to a job without a GPU
        return []
    if "-1" in names:  # CUDA reads no further
        names = names[: names.index("-1")]
    if not all(re.fullmatch(r"\d+|(GPU|MIG)-\S+", name) for name in names):
        raise InputError(
            f"{VISIBLE} is {given!r}, expected indices, GPU-UUIDs or MIG ids between commas"
        )
    if len(set(names)) < len(names):
        raise InputError(f"{VISIBLE} is {given!r}, expected each device once")
    return names


@contextmanager
def claimed(count: int, holder: str) -> Iterator[list[int]]:
    """Of the visible devices `count` that no other job holds, alone in CUDA_VISIBLE_DEVICES for
    the time of the block. Yields the descriptors of their locks: a child that inherits them
    holds the devices too. To be entered before torch is imported.

    Where too few are free it waits, and says at once and then once a minute who holds what;
    `holder` is what others read of this job. It takes all or none, so two jobs never wait for
    each other; one that asks for several may wait long among many that ask for one.

    Nothing is claimed on a machine without a GPU, nor by the workers of a job. Nor with
    DEFTX_SHARE_DEVICES=1: such jobs all take the first devices. Under SLURM, which gives each job
    its own, only jobs inside of one allocation meet.

    The locks are files in /tmp (or $DEFTX_LOCK_DIR) under an advisory `flock`, which the system
    releases with the process, however it ends. A design choice: Snakemake counts GPUs but names
    none, and a daemon or NVIDIA's exclusive mode would need an administrator.

    Raises InputError if more devices are asked for than are visible.
    """
    devices = visible_devices()
    if is_worker() or not devices:
        yield []
        return
    if count > len(devices):
        seen = "" if os.environ.get(VISIBLE) is None else f" in {VISIBLE}"
        raise InputError(
            f"engine.devices is {count}, expected at most {len(devices)}: "
            f"the GPUs of this machine{seen} are {', '.join(devices)}"
        )
    held = dict.fromkeys(devices[:count], -1) if _shared() else _wait(devices, count, holder)
    locks = [lock for lock in held.values() if lock >= 0]
    before = os.environ.get(VISIBLE)
    os.environ[VISIBLE] = ",".join(held)
    try:
        yield locks
    finally:
        if before is None:
            del os.environ[VISIBLE]
        else:
            os.environ[VISIBLE] = before
        for lock in locks:
            os.close(lock)  # not LOCK_UN: that would take it from a child that still works


def _shared() -> bool:
    asked = os.environ.get("DEFTX_SHARE_DEVICES", "0")
    if asked not in ("0", "1"):
        raise InputError(f"DEFTX_SHARE_DEVICES is {asked!r}, expected 0 or 1")
    return asked == "1"


def _wait(devices: list[str], count: int, holder: str) -> dict[str, int]:
    """Device → descriptor of its lock, for `count` of the devices."""
    # Its own source of chance: waiting must not move a seeded stream.
    chance, said = random.SystemRandom(), -float("inf")
    while not (held := _take(devices, count)):
        if time.monotonic() - said >= SECONDS_BETWEEN_MESSAGES:
            said = time.monotonic()
            states = "; ".join(f"{device} {_state(device)}" for device in devices)
            log.info("waiting for %d of %d GPUs: %s", count, len(devices), states)
        time.sleep(chance.uniform(0.3, 0.9))  # so that two which each got a part do not do so again
    since = datetime.now().astimezone().isoformat(timespec="seconds")
    text = f"pid {os.getpid()} on {socket.gethostname()}, {holder}, since {since}\n".encode()
    for lock in held.values():
        os.ftruncate(lock, 0)
        os.pwrite(lock, text, 0)
    return held


def _take(devices: list[str], count: int) -> dict[str, int]:
    """The first `count` devices that are free, locked; nothing if there are fewer."""
    held: dict[str, int] = {}
    for device in devices:
        if (lock := _lock(_lock_file(device))) is not None:
            held[device] = lock
        if len(held) == count:
            return held
    for lock in held.values():
        os.close(lock)
    return {}


def _state(device: str) -> str:
    path = _lock_file(device)
    if (lock := _lock(path)) is not None:
        os.close(lock)
        return "is free"
    return f"is held by {path.read_text(encoding='utf-8').strip() or 'a job that is starting'}"


def _lock(path: Path) -> int | None:
    """The descriptor of the file, locked; None while another process has it."""
    # Created and opened in two steps: in a folder like /tmp Linux refuses O_CREAT for a file that
    # another user has made (fs.protected_regular).
    umask = os.umask(0)  # any user of the machine must be able to take the device next
    try:
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    finally:
        os.umask(umask)
    lock = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return lock


def _lock_file(device: str) -> Path:
    # Not $TMPDIR: users of one machine must meet, and it differs between them.
    folder = Path(os.environ.get("DEFTX_LOCK_DIR", "/tmp"))
    name = _identity(device)
    if "SLURM_JOB_ID" in os.environ and VISIBLE in os.environ:
        # Behind cgroups every job calls its first device 0.
        scope = [os.environ.get(key, "") for key in ("SLURM_JOB_ID", "SLURM_STEP_ID")]
        name = f"slurm-{'.'.join(scope)}-{name}"
    return folder / f"deftx-gpu-{re.sub(r'[^A-Za-z0-9.-]', '_', name)}.lock"


def _identity(device: str) -> str:
    """One name for one device: its minor number, as far as an index or a UUID leads to it.

    A container that has /dev/nvidia3 alone calls it 0. Where GPUs differ, CUDA's order is that of
    the minor numbers only with CUDA_DEVICE_ORDER=PCI_BUS_ID.
    """
    if device.isdigit():
        minors = _minors()
        return str(minors[int(device)]) if int(device) < len(minors) else str(int(device))
    # CUDA takes any beginning of a UUID that fits one device.
    found = [minor for uuid, minor in _uuids().items() if uuid.startswith(device)]
    return found[0] if len(found) == 1 else device


def _minors() -> list[int]:
    return sorted(int(path.name.removeprefix("nvidia")) for path in DEV.glob("nvidia[0-9]*"))


def _uuids() -> dict[str, str]:
    """UUID → minor number, as the driver tells."""
    found = {}
    for path in PROC.glob("*/information"):
        facts = dict(re.findall(r"^(.+?):\s*(.*?)\s*$", path.read_text(), re.M))
        found[facts.get("GPU UUID", "")] = facts.get("Device Minor", "")
    return found
