"""Vectors, bases and classifiers by the names that people give on a command line: files, folders,
parts of a run, and hub ids."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from deftx.core.mask import Mask
from deftx.core.sparse_delta import SparseDelta
from deftx.core.vector_files import OURS, PUBLIC, VECTOR_FILES, vector_file
from deftx.exchange.foreign import classifier_head, fitted, is_ours, read_stored
from deftx.exchange.model_folder import with_vectors
from deftx.models.base import Base
from deftx.models.folder import MODEL_FILES
from deftx.models.load import load_tokenizer
from deftx.models.make import base_of_folder
from deftx.store.artefact import file_sha256
from deftx.store.errors import ArtefactError, InputError
from deftx.store.hub import fetch
from deftx.store.tensors import TensorFile

HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")
"""`owner/name`, optionally with a revision."""

ADDED = ("sparse", "convert", "compose", None)
"""Stages whose files are sparse vectors; None for a file saved by the library."""


@dataclass(frozen=True)
class Found:
    """A vector and its origin.

    Attributes:
        name: a path, or a hub id.
        file: that holds it.
        revision: commit of a hub id.
    """

    name: str
    file: Path
    revision: str | None = None

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """The file's metadata; empty for a file of the public code. Raises ArtefactError if a stage
        made it that makes no sparse vectors."""
        if not is_ours(self.file):
            return {}
        found = TensorFile(self.file).provenance
        if found.get("stage") not in ADDED or "layout" not in found:
            raise ArtefactError(
                f"{self.file}: made by {found.get('stage')}, expected a sparse vector, as sparse, "
                "convert and compose make them"
            )
        return found

    @cached_property
    def stored(self) -> SparseDelta:
        """The vector as it is stored, for whatever base."""
        _ = self.provenance
        return read_stored(self.file)

    @property
    def comparable(self) -> SparseDelta:
        """The vector under the names of the backbone as far as they are known without the base: a
        first word that all names of the public code share, such as `roberta`, is cut off."""
        stored = self.stored
        words = {name.partition(".")[0] for name in stored.provenance.get("shapes", ())}
        cut = len(words.pop()) + 1 if len(words) == 1 else 0
        index, shapes, values = (
            {name[cut:]: value for name, value in part.items()}
            for part in (stored.mask.index, stored.mask.shapes, stored.values)
        )
        return SparseDelta(Mask(index, shapes), values, stored.head)  # type: ignore[arg-type]

    @property
    def classes(self) -> list[str]:
        """The classes of a task, in the order of the logits, if the file records them."""
        return self.provenance.get("params", {}).get("classes") or []

    @property
    def max_length(self) -> int | None:
        """How many tokens of an item a task was trained on, if the file records it."""
        settings = self.provenance.get("params", {}).get("task") or {}
        return settings.get("max_length")

    @property
    def facts(self) -> dict[str, Any]:
        """What identifies the vector for others: name, commit, checksum, and how it was made."""
        known = {key: self.provenance.get(key) for key in ("method", "target", "seed", "k")}
        if source := self.provenance.get("source"):
            known["source"] = {key: value for key, value in source.items() if key != "made"}
        return {
            "name": self.name,
            "revision": self.revision,
            **{key: value for key, value in known.items() if value is not None},
            "sha256": file_sha256(self.file),
        }

    def fitting(self, base: Base, classes: Sequence[str]) -> SparseDelta:
        """The vector for a base. `classes` give the order of the head if the file does not record
        it. Raises ArtefactError as `read_foreign` does, or if a task's classes are unknown."""
        is_task = self.stored.head.keys() & classifier_head(base).keys()
        if is_task and not classes:
            raise ArtefactError(
                f"{self.name}: does not record its classes: give --classes, in the order of its "
                "head"
            )
        order = classes if is_task else None
        return fitted(self.file, self.stored, base, order, order)


def find_vector(name: str) -> Found:
    """A vector by its file, its folder, or its hub id, with `@revision` or the newest. Raises
    ArtefactError if there is none."""
    folder, revision = find_files(name, VECTOR_FILES)
    file = vector_file(folder)
    if file is None:
        raise ArtefactError(f"{name}: no {OURS} and no {PUBLIC} in it: not a vector")
    return Found(name.partition("@")[0] if revision else name, file, revision)


def find_files(name: str, files: Sequence[str]) -> tuple[Path, str | None]:
    """A file or folder as it is; or a folder with these files of a hub id, and its commit. Raises
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
    """A base by its folder, made by the stage `base` or any model folder, or by its hub id. Without
    a name, the base that the vectors were made for, from the run that holds them or from the hub.

    Raises ArtefactError if it is no base or cannot be downloaded, or if the vectors name none.
    """
    name = name or _base_of(vectors)
    given, revision = find_files(name, MODEL_FILES)
    model = given.parent if given.name == "model.safetensors" else given
    if revision is None and (model / "backbone.json").is_file():
        yield Base.load(model)
        return
    id = name.partition("@")[0] if revision else model.resolve().name
    with TemporaryDirectory() as folder:
        yield base_of_folder(model, Path(folder) / "base", {"id": id, "revision": revision})


def _base_of(vectors: Sequence[Found]) -> str:
    """The base of the run that holds the first vector, if that was made for it; else the hub id of
    the base that a vector records."""
    bases = [found.provenance.get("base", {}) for found in vectors]
    for parent in vectors[0].file.absolute().parents if vectors else ():
        folder = parent / "base"
        if (folder / "backbone.json").is_file():
            known = Base.load(folder).identity
            if known["hash"] == bases[0].get("hash"):
                return str(folder)
    for base in bases:
        if base.get("id") and base.get("revision"):
            return f"{base['id']}@{base['revision']}"
    raise ArtefactError("the vectors do not record which base they are for: name it by --base")


@dataclass(frozen=True)
class Fitted:
    """Vectors, their base, and the classes of the task, if one of them is of a task."""

    found: list[Found]
    base: Base
    vectors: list[SparseDelta]
    classes: list[str]

    @property
    def max_length(self) -> int | None:
        """How many tokens of an item the task was trained on, if its file records it."""
        return next((each.max_length for each in self.found if each.max_length), None)


@contextmanager
def opened_vectors(
    names: Sequence[str], base: str | None, classes: Sequence[str] = ()
) -> Iterator[Fitted]:
    """Vectors by their names, each fitted to the base. `classes` are needed for a task whose file
    does not record them. Raises ArtefactError as `find_vector`, `opened_base` and `Found.fitting`
    do, or if the vectors' classes differ."""
    found = [find_vector(name) for name in names]
    recorded = [each for each in found if each.classes]
    order = list(classes) or next((each.classes for each in recorded), [])
    for each in recorded:
        if each.classes != order:
            raise ArtefactError(f"{each.name}: its classes are {each.classes}, expected {order}")
    with opened_base(base, found) as known:
        yield Fitted(found, known, [each.fitting(known, order) for each in found], order)


Classifier = tuple[PreTrainedModel, PreTrainedTokenizerBase, int | None]
"""A model, its tokenizer, and how many tokens of an item it was trained on, if known."""


@contextmanager
def opened_classifier(
    names: Sequence[str], base: str | None, classes: Sequence[str] = ()
) -> Iterator[Classifier]:
    """A classifier by the names of its vectors, or by a model folder that `save_model_folder`
    wrote. Raises ArtefactError as `opened_vectors` does or if the folder holds no classifier;
    InputError if no vector is of a task, or a model is combined with anything."""
    folder = Path(names[0])
    if (folder / "config.json").is_file() and vector_file(folder) is None:
        if len(names) > 1 or base or classes:
            raise InputError(f"{folder}: a whole model goes with no vector, base or classes")
        yield _saved_classifier(folder)
        return
    with opened_vectors(names, base, classes) as fitted:
        if not fitted.classes:
            raise InputError("no vector of a task among those given: there is nothing to predict")
        model = with_vectors(fitted.base, fitted.vectors, fitted.classes)
        yield model, load_tokenizer(fitted.base), fitted.max_length


def _saved_classifier(folder: Path) -> Classifier:
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    if "ForSequenceClassification" not in str(config.architectures):
        raise ArtefactError(f"{folder}: a {config.architectures}, expected a classifier")
    if not (folder / "model.safetensors").is_file():
        raise ArtefactError(f"{folder}: no model.safetensors in it")
    model = AutoModelForSequenceClassification.from_pretrained(
        folder, local_files_only=True, use_safetensors=True, dtype=torch.float32
    )
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    return model, tokenizer, config.to_dict().get("deftx", {}).get("max_length")
