"""Vectors, bases and classifiers by the names that people give on a command line: files, folders,
parts of a run, and hub ids."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from transformers import AutoConfig, PreTrainedModel, PreTrainedTokenizerBase

from deftx.core.mask import Mask
from deftx.core.sparse_delta import SparseDelta
from deftx.core.vector_files import OURS, PUBLIC, VECTOR_FILES, vector_file
from deftx.exchange.foreign import classes_of, fitted, kinds_of, read_stored
from deftx.exchange.lt_sft import PUBLIC_SHAPES
from deftx.exchange.model_folder import with_vectors
from deftx.models.base import Base
from deftx.models.folder import HUB_FILES
from deftx.models.load import load_from, load_tokenizer
from deftx.models.make import base_of_folder
from deftx.models.tokenizer import read_tokenizer
from deftx.store.artefact import file_sha256
from deftx.store.errors import ArtefactError, InputError
from deftx.store.hub import fetch
from deftx.tasks.heads import head_of, kind_of_model

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

    def kind(self, base: Base, given: str | None) -> str | None:
        """The kind of the task that the vector is of, which is the given one where its file does
        not record it; None if it is of a language. Raises ArtefactError if the kind is unknown."""
        kinds = kinds_of(self.vector, base)
        if len(kinds) > 1 and given not in kinds:
            known = f"its head may be of a task of the kind {' or '.join(kinds)}: give --kind"
            raise ArtefactError(f"{self.name}: {known}")
        return given if kinds and given else next(iter(kinds), None)

    def fitting(self, base: Base, classes: Sequence[str], kind: str | None) -> SparseDelta:
        """The vector for a base, of this kind of task, or None for a language. `classes` give the
        order of the head if the file does not record it. Raises ArtefactError as `read_foreign`
        does, or if a task's classes are unknown."""
        if kind is None:
            return fitted(self.file, self.vector, base, None, None, None)
        if not classes:
            known = "does not record its classes: give --classes, in the order of its head"
            raise ArtefactError(f"{self.name}: {known}")
        return fitted(self.file, self.vector, base, classes, classes, kind)


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
    """Vectors, their base, and the classes and the kind of the task, if one of them is of a
    task."""

    found: list[Found]
    base: Base
    vectors: list[SparseDelta]
    classes: list[str]
    kind: str | None

    @property
    def max_length(self) -> int | None:
        """How many tokens of an item the task was trained on, if its file records it."""
        params = (each.vector.provenance.get("params", {}) for each in self.found)
        return next((each["task"].get("max_length") for each in params if each.get("task")), None)

    def model(self) -> PreTrainedModel:
        """The base with the vectors added, see `with_vectors`."""
        return with_vectors(self.base, self.vectors, self.classes, self.kind)


def find_fitted(
    names: Sequence[str],
    base: str | None,
    classes: Sequence[str],
    kind: str | None,
    scratch: Path,
) -> Fitted:
    """Vectors by their names, each fitted to the base, or without its name to the one that they
    were made for, from the run that holds them or from the hub. `classes` are needed for a task
    whose file does not record them, and `kind` where its head does not show it.

    Raises ArtefactError as `find_vector`, `find_base`, `Found.kind` and `Found.fitting` do, if the
    vectors record no base, or if their classes differ.
    """
    found = [find_vector(name) for name in names]
    recorded = {each.name: own for each in found if (own := classes_of(each.vector))}
    order = list(classes) or next(iter(recorded.values()), [])
    for which, own in recorded.items():
        if own != order:
            raise ArtefactError(f"{which}: its classes are {own}, expected {order}")
    known = find_base(base or _base_of(found), scratch)
    kinds = [each.kind(known, kind) for each in found]
    vectors = [each.fitting(known, order, own) for each, own in zip(found, kinds, strict=True)]
    return Fitted(found, known, vectors, order, next(filter(None, kinds), None))


class Classifier(NamedTuple):
    """A model that predicts for a task of this kind, before it is loaded, and how many tokens of an
    item it was trained on, if that is known."""

    kind: str
    max_length: int | None
    load: Callable[[], tuple[PreTrainedModel, PreTrainedTokenizerBase]]


def find_classifier(
    names: Sequence[str],
    base: str | None,
    classes: Sequence[str],
    kind: str | None,
    scratch: Path,
) -> Classifier:
    """A classifier by the names of its vectors, or by a model folder that `save_model_folder`
    wrote; load it with its tokenizer while the folder `scratch` exists. Raises ArtefactError as
    `find_fitted` does or if the folder holds no classifier; InputError if no vector is of a task,
    or a model is combined with anything."""
    folder = Path(names[0])
    if not (folder / "model.safetensors").is_file():
        fitted = find_fitted(names, base, classes, kind, scratch)
        if fitted.kind is None:
            raise InputError("no vector of a task among those given: there is nothing to predict")
        return Classifier(
            fitted.kind,
            fitted.max_length,
            lambda: (fitted.model(), load_tokenizer(fitted.base)),
        )
    if len(names) > 1 or base or classes or kind:
        raise InputError(f"{folder}: a whole model goes with no vector, base, classes or kind")
    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    own = next(filter(None, map(kind_of_model, config.architectures or [])), None)
    if own is None:
        raise ArtefactError(f"{folder}: {config.architectures}, expected a classifier")
    return Classifier(
        own,
        config.to_dict().get("deftx", {}).get("max_length"),
        lambda: (_saved(folder, own), read_tokenizer(folder)),
    )


def _saved(folder: Path, kind: str) -> PreTrainedModel:
    model, report = load_from(folder, head_of(kind).model())
    if drawn := sorted([*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])]):
        raise ArtefactError(
            f"{folder}: {drawn[0]} is missing, or has another shape than its config"
        )
    return model
