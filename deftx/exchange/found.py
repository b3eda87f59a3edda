"""What people name on a command line, found: vectors and bases in folders, runs and on the hub."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from deftx.core.sparse_delta import SparseDelta
from deftx.core.vector_files import OURS, PUBLIC, VECTOR_FILES, vector_file
from deftx.exchange.foreign import classifier_head, read_foreign
from deftx.exchange.lt_sft import read_lt_sft, without_prefix
from deftx.models.base import Base
from deftx.models.folder import MODEL_FILES
from deftx.stages.base.run import Params as BaseParams
from deftx.stages.base.run import base as make_base
from deftx.store.artefact import file_sha256
from deftx.store.errors import ArtefactError
from deftx.store.hub import fetch
from deftx.store.tensors import TensorFile

HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")
"""`owner/name`, and perhaps a revision."""

ADDED = ("sparse", "convert", "compose", None)
"""Stages whose files are sparse vectors; None for what the library saved by itself."""


@dataclass(frozen=True)
class Found:
    """A vector where it lies.

    Attributes:
        name: a path, or a hub id.
        file: that holds it.
        revision: commit of a hub id.
    """

    name: str
    file: Path
    revision: str | None = None

    @property
    def is_ours(self) -> bool:
        """Whether it is in our format, which tells base and classes."""
        return self.file.suffix == Path(OURS).suffix

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """What its file says of it. Raises ArtefactError if it is of a stage that makes no sparse
        vectors."""
        if not self.is_ours:
            return {}
        found = TensorFile(self.file).provenance
        if found.get("stage") not in ADDED or "layout" not in found:
            raise ArtefactError(
                f"{self.file}: made by {found.get('stage')}, expected a sparse vector, as sparse, "
                "convert and compose make them"
            )
        return found

    def raw(self) -> SparseDelta:
        """The vector as it is stored, whatever base it is for; of the public code its names without
        their common prefix, and what it stores whole as head."""
        if self.is_ours:
            _ = self.provenance
            return SparseDelta.load(self.file)
        return without_prefix(read_lt_sft(self.file))

    def fitting(self, base: Base, classes: Sequence[str] | None) -> SparseDelta:
        """The vector for a base; `classes` tell the order of the head of one of the public code.
        Raises ArtefactError as `read_foreign` does, or if they are not given."""
        if self.is_ours:
            base.check(self.provenance, self.file)
            return self.raw()
        whole = read_lt_sft(self.file).whole
        if not whole.keys() & classifier_head(base, 2).keys():
            return read_foreign(self.file, base)
        if not classes:
            raise ArtefactError(
                f"{self.name}: does not tell its classes: give --classes, in the order of its head"
            )
        return read_foreign(self.file, base, classes, classes)

    @property
    def classes(self) -> list[str]:
        """Those of a task, in the order of the logits, if the file tells them."""
        return self.provenance.get("params", {}).get("classes") or []

    @property
    def max_length(self) -> int | None:
        """How many tokens of an item a task was trained on, if the file tells."""
        settings = self.provenance.get("params", {}).get("task") or {}
        return settings.get("max_length")

    @property
    def source(self) -> dict[str, Any] | None:
        """What it was converted from, if it was not made by this package."""
        known = self.provenance.get("source")
        return known and {key: value for key, value in known.items() if key != "made"}

    def told(self) -> dict[str, Any]:
        """What others need to know of it: name, commit, checksum, and what its file says."""
        about = {
            key: self.provenance[key]
            for key in ("method", "target", "seed", "k")
            if self.provenance.get(key) is not None
        }
        if self.source is not None:
            about["source"] = self.source
        return {
            "name": self.name,
            "revision": self.revision,
            **about,
            "sha256": file_sha256(self.file),
        }


def find_vector(name: str) -> Found:
    """A vector by its file, its folder, or its hub id, with `@revision` or the newest. Raises
    ArtefactError if there is none."""
    folder, revision = find_files(name, VECTOR_FILES)
    file = vector_file(folder)
    if file is None:
        raise ArtefactError(f"{name}: no {OURS} and no {PUBLIC} in it: not a vector")
    return Found(name.partition("@")[0] if revision else name, file, revision)


def find_files(name: str, files: Sequence[str]) -> tuple[Path, str | None]:
    """A file or folder as it is, or one with the files of a hub id, and then its commit. Raises
    ArtefactError if there is neither."""
    if Path(name).exists():
        return Path(name), None
    if not HUB_NAME.fullmatch(name):
        raise ArtefactError(f"{name}: no such file or folder, and no hub id (owner/name@revision)")
    id, _, revision = name.partition("@")
    folder = fetch(id, revision or None, files)
    return folder, folder.name  # the hub's cache has a folder for each commit


@contextmanager
def opened_base(name: str | None, vectors: Sequence[Found] = ()) -> Iterator[Base]:
    """A base by its folder, as a stage made it or any model folder, or by its hub id; without a
    name the one that the vectors were made for, in the run that they lie in or on the hub.

    Raises ArtefactError if it cannot be had, as the stage `base` does, or if nothing tells it.
    """
    path = Path(name) if name is not None else _beside(vectors)
    if path is not None:
        path = path.parent if path.name == "model.safetensors" else path
        if (path / "backbone.json").is_file():
            yield Base.load(path)
            return
    with TemporaryDirectory() as folder:
        wanted = str(path) if path is not None and path.exists() else name or _told(vectors)
        given, revision = find_files(wanted, MODEL_FILES)
        id = wanted.partition("@")[0] if revision else given.resolve().name
        out = Path(folder) / "base/model.safetensors"
        make_base(BaseParams(id=id, revision=revision), model=given, out=out)
        yield Base.load(out)


def _beside(vectors: Sequence[Found]) -> Path | None:
    """The base of the run that the first vector lies in, if it was made for that."""
    for found in vectors[:1]:
        for parent in found.file.absolute().parents:
            facts = parent / "base/backbone.json"
            wanted = found.provenance.get("base", {}).get("hash")
            if facts.is_file() and Base.load(facts.parent).identity["hash"] == wanted:
                return facts.parent
    return None


def _told(vectors: Sequence[Found]) -> str:
    """The hub id of the base that the vectors name."""
    for found in vectors:
        base = found.provenance.get("base", {})
        if base.get("id") and base.get("revision"):
            return f"{base['id']}@{base['revision']}"
    raise ArtefactError("nothing tells the base that the vectors are for: name it by --base")
