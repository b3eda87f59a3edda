"""Artefacts on disk: written whole or not at all, with provenance inside and a checksum beside."""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from deftx.store.errors import ArtefactError

FORMAT = 1
"""Version of the file formats in docs/format.md; a reader refuses a newer one."""

METADATA_KEY = "deftx"


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values give equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary path in the same folder that becomes `path` when the block, which only writes
    there, ends without error. Raises ArtefactError if the disk is full, the folder cannot be
    written, and the like."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        umask = os.umask(0)  # the system returns it only when it is set
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # safetensors writes for the owner alone
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:  # safetensors has its own for those of the system
        raise ArtefactError(f"{path}: cannot be written: {error}") from None
    finally:
        with suppress(OSError):
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


def set_aside(path: Path, problem: str) -> ArtefactError:
    """Rename a file to `*.corrupt`, so that the next run of the workflow makes it again; the error
    to raise, with the problem in it."""
    aside = path.with_name(path.name + ".corrupt")
    with suppress(FileNotFoundError):  # another reader was faster
        os.replace(path, aside)
    return ArtefactError(
        f"{path}: {problem}. It was renamed to {aside.name}; run the same command again to "
        "rebuild it."
    )


def read_json(path: Path, *keys: str) -> dict[str, Any]:
    """The object in a JSON file of a run, which has these keys.

    Raises ArtefactError if the file is missing, or damaged; a damaged one is set aside.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ArtefactError(f"{path}: no such file") from None
    except ValueError as error:
        raise set_aside(path, f"corrupt: not JSON: {error}") from None
    if not isinstance(found, dict) or (missing := [key for key in keys if key not in found]):
        lacks = f"without {', '.join(missing)}" if isinstance(found, dict) else "no JSON object"
        raise set_aside(path, f"corrupt: {lacks}")
    return found


def read_manifest(path: Path, *keys: str) -> dict[str, Any]:
    """The manifest of an artefact, which has `sha256` and these keys. Raises ArtefactError as
    `read_json` does."""
    manifest = manifest_path(path)
    if not manifest.is_file():
        raise ArtefactError(f"{manifest}: no such manifest; is {path} complete?")
    return read_json(manifest, "sha256", *keys)


def recorded_sha256(path: Path) -> str:
    """SHA-256 of an artefact: what its manifest says if it has one, else of its bytes."""
    return read_manifest(path)["sha256"] if manifest_path(path).is_file() else file_sha256(path)


def digests(**paths: Path | None) -> dict[str, str]:
    """Name → sha256 of an input, as its manifest has it; inputs that there are not are left out.
    Raises ArtefactError if a manifest is missing."""
    return {name: read_manifest(p)["sha256"] for name, p in paths.items() if p is not None}


def verify(path: Path | str, *keys: str) -> dict[str, Any]:
    """The manifest of an artefact whose bytes are as recorded, with these keys in it.

    A file that differs from its manifest is renamed to `*.corrupt`, so that the next run of the
    workflow makes it anew; then ArtefactError is raised.
    """
    path = Path(path)
    if not path.is_file():
        raise ArtefactError(f"{path}: no such file")
    manifest = read_manifest(path, *keys)
    check_sha256(path, manifest["sha256"], "its manifest")
    return manifest


def check_sha256(path: Path, expected: str, where: str) -> None:
    """Raise ArtefactError if a file is missing, or if its bytes are not those that `where` records;
    such a file is set aside."""
    if not path.is_file():
        raise ArtefactError(f"{path}: no such file")
    if (found := file_sha256(path)) != expected:
        raise set_aside(path, f"corrupt: its sha256 is {found}, {where} says {expected}")
