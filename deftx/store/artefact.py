"""Artefacts on disk: written whole or not at all, with provenance inside and a checksum beside."""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from deftx.store.errors import ArtefactError

FORMAT = 1
"""Version of the file formats in docs/format.md; a reader refuses a newer one."""

METADATA_KEY = "deftx"


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values give equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary path in the same folder that becomes `path` when the block ends without error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        umask = os.umask(0)  # the system returns it only when it is set
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # safetensors writes for the owner alone
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON with sorted keys atomically."""
    write_text(path, json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False) + "\n")


def manifest_path(path: Path) -> Path:
    """The path of an artefact's manifest: its name plus `.json`."""
    return path.with_name(path.name + ".json")


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_manifest(path: Path, **facts: Any) -> None:
    """Write the manifest of a finished artefact: its checksum, its size and `facts`."""
    manifest = {"sha256": file_sha256(path), "bytes": path.stat().st_size, **facts}
    write_json(manifest_path(path), manifest)


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of an artefact. Raises ArtefactError where it is absent or unreadable."""
    try:
        manifest: dict[str, Any] = json.loads(manifest_path(path).read_text(encoding="utf-8"))
        manifest["sha256"]
    except FileNotFoundError:
        raise ArtefactError(
            f"{manifest_path(path)}: no such manifest; is {path} complete?"
        ) from None
    except (ValueError, KeyError, TypeError):
        raise ArtefactError(f"{manifest_path(path)}: not a manifest (JSON with `sha256`)") from None
    return manifest


def digests(**paths: Path | None) -> dict[str, str]:
    """Name → sha256 of an input, as its manifest has it; inputs that there are not are left out.
    Raises ArtefactError if a manifest is missing."""
    return {name: read_manifest(p)["sha256"] for name, p in paths.items() if p is not None}


def verify(path: Path | str) -> dict[str, Any]:
    """The manifest of an artefact whose bytes are as recorded.

    A file that differs from its manifest is renamed to `*.corrupt`, so that the next run of the
    workflow makes it anew; then ArtefactError is raised.
    """
    path = Path(path)
    if not path.is_file():
        raise ArtefactError(f"{path}: no such file")
    manifest = read_manifest(path)
    check_sha256(path, manifest["sha256"], "its manifest")
    return manifest


def check_sha256(path: Path, expected: str, where: str) -> None:
    """Raise ArtefactError if a file is missing, or if its bytes are not those that `where` records;
    such a file is renamed first."""
    if not path.is_file():
        raise ArtefactError(f"{path}: no such file")
    if (found := file_sha256(path)) != expected:
        aside = path.with_name(path.name + ".corrupt")
        with suppress(FileNotFoundError):  # another reader was faster
            os.replace(path, aside)
        raise ArtefactError(
            f"{path}: corrupt: its sha256 is {found}, {where} says {expected}. "
            f"It was renamed to {aside.name}; run the same command again to rebuild it."
        )
