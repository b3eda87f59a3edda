"""Fitting the vectors of others to a base: names, shapes, and the order of classes."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import torch
from safetensors import safe_open
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedModel

from deftx.core.mask import Mask
from deftx.core.parameters import head_parameters, shapes_of
from deftx.core.sparse_delta import SparseDelta
from deftx.core.vector_files import OURS
from deftx.exchange.lt_sft import PUBLIC_SHAPES, read_lt_sft
from deftx.models.base import Base
from deftx.models.make import without_weights
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


def read_stored(path: Path) -> SparseDelta:
    """The vector as it is stored, for whatever base. Raises ArtefactError if it cannot be read."""
    return SparseDelta.load(path) if path.suffix == Path(OURS).suffix else read_lt_sft(path)


def fitted(
    path: Path,
    vector: SparseDelta,
    base: Base,
    classes: Sequence[str] | None,
    stored_classes: Sequence[str] | None,
) -> SparseDelta:
    """What `read_foreign` returns, for a vector that `read_stored` has read from `path`."""
    if PUBLIC_SHAPES in vector.provenance:
        vector = _renamed(path, vector, base)
    else:
        base.check(vector.provenance, path)
        vector.mask.check_fits(base.shapes, str(path))
    head: dict[str, torch.Tensor] = {}
    if classes is not None:
        head = _head_in_order(path, vector, base, classes, stored_classes)
    elif theirs := sorted(vector.head.keys() & classifier_head(base).keys()):
        raise ArtefactError(f"{path}: holds {theirs[0]}: the vector of a task, not a language")
    elif vector.head:
        names = ", ".join(sorted(vector.head))
        logger.info("%s: left out, as no task uses a language model's head: %s", path, names)
    return replace(vector, head=head)


def classes_of(vector: SparseDelta) -> list[str]:
    """The classes of a task, in the order of the logits, if the file records them."""
    return vector.provenance.get("params", {}).get("classes") or []


def classifier_without_weights(base: Base, classes: int) -> PreTrainedModel:
    """A classifier of a base's architecture that takes no memory for its weights."""
    config = AutoConfig.from_pretrained(
        base.folder, local_files_only=True, trust_remote_code=False, num_labels=classes
    )
    return without_weights(AutoModelForSequenceClassification, config)


def classifier_head(base: Base, classes: int = 2) -> dict[str, tuple[int, ...]]:
    """Name → shape of the parameters of the head of a base's classifier."""
    model = classifier_without_weights(base, classes)
    return shapes_of(head_parameters(model))


def _renamed(path: Path, found: SparseDelta, base: Base) -> SparseDelta:
    """The vector under the names of the backbone. What is stored whole becomes the head; so do
    differences of a pooler, added to that of the base."""
    stored, head = found.provenance[PUBLIC_SHAPES], dict(found.head)
    # Names in the backbone, with the prefix of a model's class or without.
    pairs = product([*stored, *head], base.shapes)
    own = {name: short for name, short in pairs if f".{name}".endswith(f".{short}")}
    if whole := sorted(head.keys() & own.keys()):
        raise ArtefactError(f"{path}: {whole[0]}: stored whole, though it is in the backbone")
    shapes = {**classifier_head(base), **{name: base.shapes[own[name]] for name in own}}
    Mask({}, stored).check_fits(shapes, f"{path}: made for a base other than {base.identity['id']}")
    head |= {name: _pooler(path, name, base) for name in stored if name not in own}
    index, values = {}, {}
    for name, places in found.mask.index.items():
        if name in own:
            index[own[name]], values[own[name]] = places, found.values[name]
        else:
            head[name].view(-1).index_add_(0, places, found.values[name])
    return SparseDelta(Mask(index, {name: base.shapes[name] for name in index}), values, head)


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


def _head_in_order(
    path: Path,
    vector: SparseDelta,
    base: Base,
    classes: Sequence[str],
    given: Sequence[str] | None,
) -> dict[str, torch.Tensor]:
    """The head of a classifier of the base, its rows in the order of the classes. A dimension has
    a row for each class if another number of classes changes its size."""
    rows = classes_of(vector) or list(given or [])
    if not rows:
        raise ArtefactError(f"{path}: does not record the order of its classes: give it")
    if sorted(rows) != sorted(classes) or (given and rows != list(given)):
        expected = ", ".join(given or classes)
        raise ArtefactError(f"{path}: its classes are {', '.join(rows)}, expected {expected}")
    order = torch.tensor([rows.index(name) for name in classes])
    shapes, other = (classifier_head(base, len(rows) + more) for more in (0, 1))
    what = f"{path}: head of a classifier of {base.identity['id']} for {len(rows)} classes"
    Mask({}, shapes_of(vector.head)).check_fits(shapes, what)
    found = {}
    for name, shape in shapes.items():
        if name not in vector.head and "pooler." not in name:
            raise ArtefactError(f"{path}: no {name}, which the head of a task needs")
        tensor = vector.head[name] if name in vector.head else _pooler(path, name, base)
        for dimension, size in enumerate(shape):
            if size != other[name][dimension]:
                tensor = tensor.index_select(dimension, order)
        found[name] = tensor.contiguous()
    return found
