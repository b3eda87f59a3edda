"""`data.lock`: size and checksum of each downloaded file at its first download. The user commits
it, and it is enforced from then on."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NotRequired, TypedDict

from deftx.run.workflow import SHIPPED
from deftx.store.artefact import write_json
from deftx.store.errors import DataError, InputError
from deftx.store.locks import locked

NAME = "data.lock"
"""The file, beside the config."""


class Locked(TypedDict):
    """One file: its checksum and size, and the commit that a branch of the hub pointed to."""

    sha256: str
    bytes: int
    commit: NotRequired[str]


def read_lock(path: Path) -> dict[str, Locked]:
    """URL → entry; empty if there is no file. A wheel has a lock of its own for the workflow's
    datasets, which holds where `path` has no entry. Raises DataError if the file is not a lock."""
    return {**_read(SHIPPED / NAME), **_read(path)}


def _read(path: Path) -> dict[str, Locked]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    try:
        lock: dict[str, Locked] = json.loads(text)
        for url, entry in lock.items():
            if len(entry["sha256"]) != 64 or entry["bytes"] < 0:
                raise InputError(f"{url} has no sha256 of 64 digits, or no size")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(
            f"{path}: not a lock (JSON: URL → sha256, bytes): {error}; put the committed one back"
        ) from None
    return lock


def record(path: Path, url: str, entry: Locked) -> None:
    """Add the entry of a URL. Several jobs may do so at the same time.

    Raises DataError if another checksum is recorded for it, or the file cannot be written.
    """
    try:
        with one_at_a_time(path):
            lock = read_lock(path)
            if lock.setdefault(url, entry)["sha256"] != entry["sha256"]:
                raise DataError(f"{path}: another job recorded another checksum for {url}")
            write_json(path, lock)
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error}") from None


@contextmanager
def one_at_a_time(path: Path) -> Iterator[None]:
    """Wait until no other process is in this block for the same path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    guard = path.with_name(f".{path.name}.lock")
    lock = locked(guard)
    try:
        yield
    finally:
        guard.unlink(missing_ok=True)  # while it is held: who waits then locks a new file
        lock.release()
