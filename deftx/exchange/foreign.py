"""Fitting the vectors of others to a base: names, shapes, and the order of classes."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedModel

from deftx.core.mask import Mask
from deftx.core.parameters import head_parameters
from deftx.core.sparse_delta import SparseDelta
from deftx.core.vector_files import OURS
from deftx.exchange.lt_sft import read_lt_sft
from deftx.models.base import Base
from deftx.store.errors import ArtefactError

logger = logging.getLogger("deftx")


def read_foreign(
    path: Path,
    base: Base,
    classes: Sequence[str] | None = None,
    stored_classes: Sequence[str] | None = None,
) -> SparseDelta:
    """The vector in a file of ours, or of the public LT-SFT code, for a base. Every difference is
    kept bit for bit.

    Args:
        classes: for a task, in the order that its head is to have; None for a language, whose head,
            if one is stored, is left out.
        stored_classes: in the order of the stored rows; None if the file records them.

    Raises ArtefactError, naming file and tensor, if `read_lt_sft` or `SparseDelta.load` does, or if
    the vector does not fit the base, is of another kind, or has other classes.
    """
    return fitted(path, read_stored(path), base, classes, stored_classes)


def is_ours(path: Path) -> bool:
    """Whether a file is in our format, which records base and classes."""
    return path.suffix == Path(OURS).suffix


def read_stored(path: Path) -> SparseDelta:
    """The vector as it is stored, for whatever base. Raises ArtefactError if it cannot be read."""
    return SparseDelta.load(path) if is_ours(path) else read_lt_sft(path)


def fitted(
    path: Path,
    vector: SparseDelta,
    base: Base,
    classes: Sequence[str] | None,
    stored_classes: Sequence[str] | None,
) -> SparseDelta:
    """What `read_foreign` returns, for a vector that `read_stored` has read from `path`."""
    recorded = None
    if is_ours(path):
        base.check(vector.provenance, path)
        vector.mask.check_fits(base.shapes, str(path))
        recorded = vector.provenance.get("params", {}).get("classes")
    else:
        vector = _renamed(path, vector, base)
    if classes is None:
        if theirs := sorted(vector.head.keys() & classifier_head(base).keys()):
            raise ArtefactError(f"{path}: holds {theirs[0]}: the vector of a task, not a language")
        if vector.head:
            names = ", ".join(sorted(vector.head))
            logger.info("%s: left out, as no task uses a language model's head: %s", path, names)
        head = {}
    else:
        order = _order(path, classes, stored_classes, recorded)
        head = _head_in_order(path, vector.head, base, order)
    return SparseDelta(vector.mask, vector.values, head, vector.provenance)


def classifier_without_weights(base: Base, classes: int) -> PreTrainedModel:
    """A classifier of a base's architecture that takes no memory for its weights."""
    config = AutoConfig.from_pretrained(base.folder, local_files_only=True, num_labels=classes)
    with torch.device("meta"):
        model: PreTrainedModel = AutoModelForSequenceClassification.from_config(config)
    return model


def classifier_head(base: Base, classes: int = 2) -> dict[str, tuple[int, ...]]:
    """Name → shape of the parameters of the head of a base's classifier."""
    model = classifier_without_weights(base, classes)
    return {name: tuple(p.shape) for name, p in head_parameters(model).items()}


def _renamed(path: Path, found: SparseDelta, base: Base) -> SparseDelta:
    """The vector under the names of the backbone. What is stored whole becomes the head; so do
    differences of a pooler, added to that of the base."""
    heads = classifier_head(base)
    index, values, shapes, head = {}, {}, {}, dict(found.head)
    for name in found.head:
        if _in_backbone(name, base):
            raise ArtefactError(f"{path}: {name}: stored whole, though it is in the backbone")
    for name, stored in found.provenance["shapes"].items():
        own, shape = _in_backbone(name, base), tuple(stored)
        if own is not None:
            expected = base.shapes[own]
        elif name in heads:
            head[name] = _pooler(path, name, base)
            expected = tuple(head[name].shape)
        else:
            raise ArtefactError(f"{path}: {name}: {base.identity['id']} has no such parameter")
        if shape != expected:
            raise ArtefactError(
                f"{path}: {name} has shape {shape}, in {base.identity['id']} {expected}: the "
                "vector was made for another base"
            )
        if name not in found.values:
            continue
        if own is not None:
            index[own], values[own] = found.mask.index[name], found.values[name]
            shapes[own] = shape
        else:
            head[name].view(-1).index_add_(0, found.mask.index[name], found.values[name])
    return SparseDelta(Mask(index, shapes), values, head)


def _in_backbone(name: str, base: Base) -> str | None:
    """The backbone's name of a parameter that a model calls so, with its prefix or without."""
    return next((n for n in base.shapes if name == n or name.endswith(f".{n}")), None)


def _pooler(path: Path, name: str, base: Base) -> torch.Tensor:
    """A parameter of the head that the base has too, such as that of a pooler."""
    with safe_open(base.folder / "model.safetensors", framework="pt") as file:
        short = "pooler." + name.partition("pooler.")[2]
        keys = [key for key in file.keys() if f".{key}".endswith(f".{short}")]  # noqa: SIM118
        if "pooler." not in name or len(keys) != 1:
            raise ArtefactError(
                f"{path}: {name} is relative to that of the base, which {base.identity['id']} lacks"
            )
        return file.get_tensor(keys[0]).float()


def _order(
    path: Path,
    classes: Sequence[str],
    given: Sequence[str] | None,
    recorded: Sequence[str] | None,
) -> list[int]:
    """For each class the number of its row in what is stored."""
    if given and recorded and list(given) != list(recorded):
        raise ArtefactError(
            f"{path}: its classes are {', '.join(recorded)}, but {', '.join(given)} were given"
        )
    rows = list(given or recorded or [])
    if not rows:
        raise ArtefactError(
            f"{path}: does not record the order of its classes: give it, some order of "
            f"{', '.join(classes)}"
        )
    if sorted(rows) != sorted(classes):
        raise ArtefactError(
            f"{path}: its classes are {', '.join(rows)}, expected {', '.join(classes)}"
        )
    return [rows.index(name) for name in classes]


def _head_in_order(
    path: Path, head: Mapping[str, torch.Tensor], base: Base, order: list[int]
) -> dict[str, torch.Tensor]:
    """The head of a classifier of the base, its rows in the order of the classes. A dimension has
    a row for each class if another number of classes changes its size."""
    shapes, other = (classifier_head(base, len(order) + more) for more in (0, 1))
    if unknown := sorted(head.keys() - shapes.keys()):
        raise ArtefactError(
            f"{path}: {unknown[0]}: the classifier of {base.identity['id']} has no such parameter; "
            f"it has {', '.join(shapes)}. Is this the vector of a sentence classifier?"
        )
    found: dict[str, Any] = {}
    for name, shape in shapes.items():
        if name not in head and "pooler." not in name:
            raise ArtefactError(f"{path}: no {name}, which the head of a task needs")
        tensor = head[name] if name in head else _pooler(path, name, base)
        if tuple(tensor.shape) != shape:
            raise ArtefactError(
                f"{path}: {name} has shape {tuple(tensor.shape)}, expected {shape} for "
                f"{len(order)} classes"
            )
        for dimension, size in enumerate(shape):
            if size != other[name][dimension]:
                tensor = tensor.index_select(dimension, torch.tensor(order))
        found[name] = tensor.contiguous()
    return found
