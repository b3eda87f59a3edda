"""Locks between processes, also where the file system has no flock."""

import errno
import logging
from pathlib import Path

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

log = logging.getLogger(__name__)

NO_FLOCK = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK}
"""What flock answers on file systems without it: Lustre and NFS as some sites mount them, cifs."""
SECONDS_BEFORE_A_MESSAGE = 10


def locked(path: Path, timeout: float = -1) -> BaseFileLock:
    """A lock that this process holds until it is released; by default it waits for it.

    The system releases it with the process. Where the file system has no flock, the existence of
    `path`.soft is the lock: what a killed process leaves there is recognised on its own machine
    only, and on others the log names the file to delete.

    Raises filelock.Timeout after `timeout` seconds, OSError if `path` cannot be written.
    """
    lock: BaseFileLock = FileLock(path, fallback_to_soft=False)
    try:
        lock.acquire(timeout)
        return lock
    except OSError as error:  # a Timeout is one, without a number
        if error.errno not in NO_FLOCK:
            raise
    lock = SoftFileLock(soft(path))
    try:
        lock.acquire(timeout if timeout >= 0 else SECONDS_BEFORE_A_MESSAGE)
    except Timeout:
        log.warning("%s: held; delete it if no process of a machine uses it", lock.lock_file)
        if timeout >= 0:
            raise
        lock.acquire()
    return lock


def soft(path: Path) -> Path:
    """The file that is the lock where there is no flock."""
    return path.with_name(f"{path.name}.soft")
