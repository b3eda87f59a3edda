"""One process at a time, on one machine or several that share the folder."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Waits until no other process is inside of this block for the same path. The file beside it
    that is locked meanwhile is deleted at the end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    guard = path.with_name(f".{path.name}.alone")
    while True:
        with open(guard, "a") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            # Its last holder may have deleted it while we waited; then it guards nothing.
            if not _lies_at(guard, held.fileno()):
                continue
            try:
                yield
            finally:
                guard.unlink(missing_ok=True)
            return


def _lies_at(path: Path, file: int) -> bool:
    """Whether an open file is the one of this name."""
    try:
        return path.stat().st_ino == os.fstat(file).st_ino
    except FileNotFoundError:
        return False
