"""Fitting the vectors of others to a base: names, shapes, and the order of classes."""

import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import product
from pathlib import Path

import torch
from safetensors import safe_open
from transformers import AutoConfig, PreTrainedModel

from deftx.core.mask import Mask
from deftx.core.parameters import head_parameters, shapes_of
from deftx.core.sparse_delta import SparseDelta
from deftx.core.vector_files import OURS
from deftx.exchange.lt_sft import PUBLIC_SHAPES, read_lt_sft
from deftx.models.base import Base
from deftx.models.make import without_weights
from deftx.store.errors import ArtefactError
from deftx.tasks.heads import HEADS, head_of

logger = logging.getLogger("deftx")


def read_foreign(
    path: Path,
    base: Base,
    classes: Sequence[str] | None = None,
    stored_classes: Sequence[str] | None = None,
    kind: str | None = None,
) -> SparseDelta:
    """The vector in a file of ours, or of the public LT-SFT code, for a base. Every difference is
    kept bit for bit.

    Args:
        classes: for a task, in the order that its head is to have; None for a language, whose head,
            if one is stored, is left out.
        stored_classes: in the order of the stored rows; None if the file records them. If it does
            not, tags are taken to be sorted, as the public code sorts them.
        kind: of the task; default: classification.

    Raises ArtefactError, naming file and tensor, if `read_lt_sft` or `SparseDelta.load` does, or if
    the vector does not fit the base, is of another kind, or has other classes.
    """
    return fitted(path, read_stored(path), base, classes, stored_classes, kind)


def read_stored(path: Path) -> SparseDelta:
    """The vector as it is stored, for whatever base. Raises ArtefactError if it cannot be read."""
    return SparseDelta.load(path) if path.suffix == Path(OURS).suffix else read_lt_sft(path)


def fitted(
    path: Path,
    vector: SparseDelta,
    base: Base,
    classes: Sequence[str] | None,
    stored_classes: Sequence[str] | None,
    kind: str | None,
) -> SparseDelta:
    """What `read_foreign` returns, for a vector that `read_stored` has read from `path`."""
    if PUBLIC_SHAPES in vector.provenance:
        vector = _renamed(path, vector, base, kind)
    else:
        base.check(vector.provenance, path)
        vector.mask.check_fits(base.shapes, str(path))
    head: dict[str, torch.Tensor] = {}
    if classes is not None:
        head = _head_in_order(path, vector, base, classes, stored_classes, kind)
    elif theirs := sorted(vector.head.keys() & {n for own in _heads(base).values() for n in own}):
        raise ArtefactError(f"{path}: holds {theirs[0]}: the vector of a task, not a language")
    elif vector.head:
        names = ", ".join(sorted(vector.head))
        logger.info("%s: left out, as no task uses a language model's head: %s", path, names)
    return replace(vector, head=head)


def classes_of(vector: SparseDelta) -> list[str]:
    """The classes of a task, in the order of the logits, if the file records them."""
    return vector.provenance.get("params", {}).get("classes") or []


def kinds_of(vector: SparseDelta, base: Base) -> list[str]:
    """The kind of the task that a vector is of, if its file records it; else the kinds whose head
    on this base has all tensors of the vector's, and the fewest others. Empty for a language."""
    if classes_of(vector):
        return [_recorded_kind(vector)]
    pooler = {name for name in vector.provenance.get(PUBLIC_SHAPES, ()) if "pooler." in name}
    names = vector.head.keys() | pooler if vector.head else {None}
    others = {kind: own.keys() - names for kind, own in _heads(base).items() if names <= own.keys()}
    fewest = min(map(len, others.values()), default=0)
    return [kind for kind, rest in others.items() if len(rest) == fewest]


def _recorded_kind(vector: SparseDelta) -> str:
    return vector.provenance["params"].get("kind") or "classification"


def classifier_without_weights(
    base: Base, classes: int, kind: str | None = None
) -> PreTrainedModel:
    """A model of a base's architecture that predicts for a kind of task, by default classification;
    it takes no memory for its weights. Raises ArtefactError if transformers has none."""
    config = AutoConfig.from_pretrained(
        base.folder, local_files_only=True, trust_remote_code=False, num_labels=classes
    )
    return without_weights(head_of(kind).model(), config)


def classifier_head(
    base: Base, classes: int = 2, kind: str | None = None
) -> dict[str, tuple[int, ...]]:
    """Name → shape of the parameters of the head of `classifier_without_weights`."""
    return shapes_of(head_parameters(classifier_without_weights(base, classes, kind)))


def _heads(base: Base) -> dict[str, dict[str, tuple[int, ...]]]:
    """Kind of task → its head, for each that the base's architecture has a model of."""
    found = {}
    for kind in HEADS:
        with suppress(ArtefactError):
            found[kind] = classifier_head(base, kind=kind)
    return found


def _renamed(path: Path, found: SparseDelta, base: Base, kind: str | None) -> SparseDelta:
    """The vector under the names of the backbone. What is stored whole becomes the head; so do
    differences of a pooler, added to that of the base."""
    stored, head = found.provenance[PUBLIC_SHAPES], dict(found.head)
    # Names in the backbone, with the prefix of a model's class or without.
    pairs = product([*stored, *head], base.shapes)
    own = {name: short for name, short in pairs if f".{name}".endswith(f".{short}")}
    if whole := sorted(head.keys() & own.keys()):
        raise ArtefactError(f"{path}: {whole[0]}: stored whole, though it is in the backbone")
    shapes = {**classifier_head(base, kind=kind), **{name: base.shapes[own[name]] for name in own}}
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
    kind: str | None,
) -> dict[str, torch.Tensor]:
    """The head of a classifier of the base, its rows in the order of the classes. A dimension has
    a row for each class if another number of classes changes its size."""
    kind = kind or "classification"
    if classes_of(vector) and (own := _recorded_kind(vector)) != kind:
        raise ArtefactError(f"{path}: the vector of a task of the kind {own}, expected {kind}")
    rows = classes_of(vector) or list(given or [])
    if not rows and head_of(kind).is_sorted:
        rows = sorted(classes)
        logger.info(
            "%s: records no order of its classes; taken to be %s, sorted as the public code sorts "
            "those of %s",
            path,
            ", ".join(rows),
            kind,
        )
    if not rows:
        raise ArtefactError(f"{path}: does not record the order of its classes: give it")
    if sorted(rows) != sorted(classes) or (given and rows != list(given)):
        expected = ", ".join(given or classes)
        raise ArtefactError(f"{path}: its classes are {', '.join(rows)}, expected {expected}")
    order = torch.tensor([rows.index(name) for name in classes])
    shapes, other = (classifier_head(base, len(rows) + more, kind) for more in (0, 1))
    what = f"{path}: head for {kind} of {base.identity['id']} for {len(rows)} classes"
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
