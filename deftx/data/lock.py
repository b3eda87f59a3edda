"""`data.lock`: what each fetched file was at its first download. It is committed by the user and
enforced from then on."""

import json
from pathlib import Path
from typing import NotRequired, TypedDict

from deftx.store.artefact import write_json
from deftx.store.errors import DataError, InputError
from deftx.store.lock import alone

NAME = "data.lock"
"""The file, beside the config."""


class Locked(TypedDict):
    """One file: checksum and size, and the commit that a branch of the hub stood for."""

    sha256: str
    bytes: int
    commit: NotRequired[str]


def read_lock(path: Path) -> dict[str, Locked]:
    """URL → what lies there; empty where the file is not there. Raises DataError if it is none."""
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
    """Add what lies at a URL. Several jobs may do so at a time.

    Raises DataError if something else is recorded of it, or the file cannot be written.
    """
    try:
        with alone(path):
            lock = read_lock(path)
            if lock.setdefault(url, entry)["sha256"] != entry["sha256"]:
                raise DataError(f"{path}: {url} was recorded meanwhile with another checksum")
            write_json(path, lock)
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error}") from None
