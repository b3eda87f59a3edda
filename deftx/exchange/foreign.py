"""Vectors that others made, made to fit a base: names, shapes, and the order of classes."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from transformers import AutoConfig, AutoModelForSequenceClassification

from deftx.core.mask import Mask
from deftx.core.parameters import head_parameters
from deftx.core.sparse_delta import SparseDelta
from deftx.core.vector_files import OURS
from deftx.exchange.lt_sft import PublicVector, read_lt_sft
from deftx.models.base import Base
from deftx.store.errors import ArtefactError

logger = logging.getLogger("deftx")


def read_foreign(
    path: Path,
    base: Base,
    classes: Sequence[str] | None = None,
    stored_classes: Sequence[str] | None = None,
) -> SparseDelta:
    """The vector in a file of ours, or of the public LT-SFT code, for a base; every difference is
    kept as it is.

    Args:
        classes: of a task, in the order that its head is to have; None for a language, whose head,
            if one is stored, is left out.
        stored_classes: in the order of the rows that are stored; None if the file tells.

    Raises ArtefactError, naming file and tensor, if the file is as `read_lt_sft` and `SparseDelta`
    say, the vector does not fit the base, it is of another kind, or its classes are other ones.
    """
    if path.suffix == Path(OURS).suffix:
        vector = SparseDelta.load(path)
        base.check(vector.provenance, path)
        told = vector.provenance.get("params", {}).get("classes")
    else:
        vector, told = _renamed(path, read_lt_sft(path), base), None
    vector.mask.check_fits(base.shapes, str(path))
    if classes is None:
        return SparseDelta(vector.mask, vector.values, {}, _left_out(path, vector, base))
    order = _order(path, classes, stored_classes, told)
    head = _head_in_order(path, vector.head, base, order)
    return SparseDelta(vector.mask, vector.values, head, vector.provenance)


def classifier_head(base: Base, classes: int) -> dict[str, tuple[int, ...]]:
    """Name → shape of the parameters of the head of a base's classifier."""
    config = AutoConfig.from_pretrained(base.folder, local_files_only=True, num_labels=classes)
    with torch.device("meta"):
        model = AutoModelForSequenceClassification.from_config(config)
    return {name: tuple(p.shape) for name, p in head_parameters(model).items()}


def _renamed(path: Path, found: PublicVector, base: Base) -> SparseDelta:
    """The vector under the names of the backbone. What is stored whole becomes the head; so do
    differences of a pooler, added to that of the base."""
    heads = classifier_head(base, 2)
    index, values, shapes, head = {}, {}, {}, dict(found.whole)
    for name, shape in found.shapes.items():
        own = _in_backbone(name, base)
        if own is None and name in heads:
            head[name] = _pooler(path, name, base)
            expected = tuple(head[name].shape)
        elif own is None:
            raise ArtefactError(f"{path}: {name}: {base.identity['id']} has no such parameter")
        else:
            expected = base.shapes[own]
        if shape != expected:
            raise ArtefactError(
                f"{path}: {name} has shape {shape}, in {base.identity['id']} {expected}: the "
                "vector was made for another base"
            )
        if name not in found.mask.index:
            continue
        if own is None:
            head[name].view(-1).index_add_(0, found.mask.index[name], found.values[name])
        else:
            index[own], values[own] = found.mask.index[name], found.values[name]
            shapes[own] = shape
    for name in found.whole:
        if _in_backbone(name, base):
            raise ArtefactError(f"{path}: {name}: stored whole, though it is of the backbone")
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


def _left_out(path: Path, vector: SparseDelta, base: Base) -> dict[str, Any]:
    """The provenance of a language's vector, once it is told which parameters are left out. Raises
    ArtefactError if they are those of a classifier."""
    if theirs := sorted(vector.head.keys() & classifier_head(base, 2).keys()):
        raise ArtefactError(f"{path}: holds {theirs[0]}: the vector of a task, and no language's")
    if vector.head:
        names = ", ".join(sorted(vector.head))
        logger.info("%s: left out, as the head of a language model serves no task: %s", path, names)
    return vector.provenance


def _order(
    path: Path,
    classes: Sequence[str],
    stored: Sequence[str] | None,
    told: Sequence[str] | None,
) -> list[int]:
    """For each class the number of its row in what is stored."""
    if stored and told and list(stored) != list(told):
        raise ArtefactError(
            f"{path}: its classes are {', '.join(told)}, but {', '.join(stored)} were given"
        )
    rows = list(stored or told or [])
    if not rows:
        raise ArtefactError(
            f"{path}: does not tell the order of its classes: give it, some order of "
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
    """The head of a classifier of the base, its rows in the order of the classes. What has a row
    for each class is told from what another number of classes changes."""
    shapes, other = (classifier_head(base, len(order) + more) for more in (0, 1))
    if strange := sorted(head.keys() - shapes.keys()):
        raise ArtefactError(
            f"{path}: {strange[0]}: the classifier of {base.identity['id']} has no such parameter; "
            f"it has {', '.join(shapes)}. Is this the vector of a classification of sentences?"
        )
    found = {}
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
