"""Vectors, bases and classifiers by the names that people give on a command line: files, folders,
parts of a run, and hub ids."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import (
    AutoModelForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from deftx.core.mask import Mask
from deftx.core.sparse_delta import SparseDelta
from deftx.core.vector_files import OURS, PUBLIC, VECTOR_FILES, vector_file
from deftx.exchange.foreign import classes_of, classifier_head, fitted, read_stored
from deftx.exchange.lt_sft import PUBLIC_SHAPES
from deftx.exchange.model_folder import with_vectors
from deftx.models.base import Base
from deftx.models.folder import HUB_FILES
from deftx.models.load import load_tokenizer
from deftx.models.make import base_of_folder
from deftx.models.tokenizer import read_tokenizer
from deftx.store.artefact import file_sha256
from deftx.store.errors import ArtefactError, InputError
from deftx.store.hub import fetch

HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")
"""`owner/name`, optionally with a revision."""


@dataclass(frozen=True)
class Found:
    """A vector as it is stored, for whatever base, and its origin: the `name` is a path, or a hub
    id with the commit `revision`; `file` holds it."""

    name: str
    file: Path
    revision: str | None
    vector: SparseDelta

    @property
    def comparable(self) -> SparseDelta:
        """The vector under the names of the backbone as far as they are known without the base: a
        first word that all names of the public code share, such as `roberta`, is cut off."""
        words = {name.partition(".")[0] for name in self.vector.provenance.get(PUBLIC_SHAPES, ())}
        cut = len(words.pop()) + 1 if len(words) == 1 else 0
        index, shapes, values = (
            {name[cut:]: value for name, value in part.items()}
            for part in (self.vector.mask.index, self.vector.mask.shapes, self.vector.values)
        )
        return SparseDelta(Mask(index, shapes), values, self.vector.head)  # type: ignore[arg-type]

    @property
    def facts(self) -> dict[str, Any]:
        """What identifies the vector for others: name, commit, checksum, and how it was made."""
        facts: dict[str, Any] = {"name": self.name, "revision": self.revision}
        for key in ("method", "target", "seed", "k", "source"):
            if (value := self.vector.provenance.get(key)) is not None:
                facts[key] = value
        if "source" in facts:
            facts["source"] = {k: v for k, v in facts["source"].items() if k != "made"}
        return {**facts, "sha256": file_sha256(self.file)}

    def fitting(self, base: Base, classes: Sequence[str]) -> SparseDelta:
        """The vector for a base. `classes` give the order of the head if the file does not record
        it. Raises ArtefactError as `read_foreign` does, or if a task's classes are unknown."""
        is_task = self.vector.head.keys() & classifier_head(base).keys()
        if not is_task:
            return fitted(self.file, self.vector, base, None, None)
        if not classes:
            known = "does not record its classes: give --classes, in the order of its head"
            raise ArtefactError(f"{self.name}: {known}")
        return fitted(self.file, self.vector, base, classes, classes)


def find_vector(name: str) -> Found:
    """A vector by its file, its folder, or its hub id, with `@revision` or the newest. Raises
    ArtefactError if there is none, or if `read_stored` does."""
    folder, revision = find_files(name, VECTOR_FILES)
    file = vector_file(folder)
    if file is None:
        raise ArtefactError(f"{name}: no {OURS} and no {PUBLIC} in it: not a vector")
    return Found(name.partition("@")[0] if revision else name, file, revision, read_stored(file))


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


def find_base(name: str, scratch: Path) -> Base:
    """A base by its folder, made by the stage `base` or any model folder, or by its hub id. It is
    in the folder `scratch` if it has to be made. Raises ArtefactError if it is no base or cannot be
    downloaded."""
    given, revision = find_files(name, HUB_FILES)
    model = given.parent if given.name == "model.safetensors" else given
    if revision is None and (model / "backbone.json").is_file():
        return Base.load(model)
    id = name.partition("@")[0] if revision else model.resolve().name
    return base_of_folder(model, scratch / "base", {"id": id, "revision": revision})


def _base_of(vectors: Sequence[Found]) -> str:
    """The base of the run that holds the first vector, if that was made for it; else the hub id of
    the base that a vector records."""
    bases = [found.vector.provenance.get("base", {}) for found in vectors]
    for folder in (parent / "base" for parent in vectors[0].file.absolute().parents):
        is_base = (folder / "backbone.json").is_file()
        if is_base and Base.load(folder).identity["hash"] == bases[0].get("hash"):
            return str(folder)
    for base in bases:
        if base.get("id") and base.get("revision"):
            return f"{base['id']}@{base['revision']}"
    raise ArtefactError("the vectors do not record which base they are for: name it by --base")


class Fitted(NamedTuple):
    """Vectors, their base, and the classes of the task, if one of them is of a task."""

    found: list[Found]
    base: Base
    vectors: list[SparseDelta]
    classes: list[str]

    @property
    def max_length(self) -> int | None:
        """How many tokens of an item the task was trained on, if its file records it."""
        params = (each.vector.provenance.get("params", {}) for each in self.found)
        return next((each["task"].get("max_length") for each in params if each.get("task")), None)


def find_fitted(
    names: Sequence[str], base: str | None, classes: Sequence[str], scratch: Path
) -> Fitted:
    """Vectors by their names, each fitted to the base, or without its name to the one that they
    were made for, from the run that holds them or from the hub. `classes` are needed for a task
    whose file does not record them. Raises ArtefactError as `find_vector`, `find_base` and
    `Found.fitting` do, if the vectors record no base, or if their classes differ."""
    found = [find_vector(name) for name in names]
    recorded = {each.name: own for each in found if (own := classes_of(each.vector))}
    order = list(classes) or next(iter(recorded.values()), [])
    for which, own in recorded.items():
        if own != order:
            raise ArtefactError(f"{which}: its classes are {own}, expected {order}")
    known = find_base(base or _base_of(found), scratch)
    return Fitted(found, known, [each.fitting(known, order) for each in found], order)


def find_classifier(
    names: Sequence[str], base: str | None, classes: Sequence[str], scratch: Path
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, int | None]:
    """A classifier by the names of its vectors, or by a model folder that `save_model_folder`
    wrote; its tokenizer; and how many tokens of an item it was trained on, if known. Raises
    ArtefactError as `find_fitted` does or if the folder holds no classifier; InputError if no
    vector is of a task, or a model is combined with anything."""
    folder = Path(names[0])
    if (folder / "model.safetensors").is_file():
        if len(names) > 1 or base or classes:
            raise InputError(f"{folder}: a whole model goes with no vector, base or classes")
        saved = AutoModelForSequenceClassification.from_pretrained(
            folder,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            dtype=torch.float32,
        )
        config = saved.config.to_dict()
        if "ForSequenceClassification" not in str(config.get("architectures")):
            raise ArtefactError(f"{folder}: {config['architectures']}, expected a classifier")
        tokenizer = read_tokenizer(folder)
        return saved, tokenizer, config.get("deftx", {}).get("max_length")
    fitted = find_fitted(names, base, classes, scratch)
    if not fitted.classes:
        raise InputError("no vector of a task among those given: there is nothing to predict")
    model = with_vectors(fitted.base, fitted.vectors, fitted.classes)
    return model, load_tokenizer(fitted.base), fitted.max_length
