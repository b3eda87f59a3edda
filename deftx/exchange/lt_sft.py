"""Vectors as the public LT-SFT code writes them: `pytorch_diff.bin` (docs/format.md)."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch

from deftx.core.mask import Mask
from deftx.core.sparse_delta import SparseDelta
from deftx.exchange.torch_file import read_torch_file
from deftx.store.errors import ArtefactError, InputError

FILE = "pytorch_diff.bin"
"""What the public code calls it."""

EXACT = (torch.float32, torch.float16, torch.bfloat16)
"""Types whose values float32 holds without loss."""


@dataclass(frozen=True)
class PublicVector:
    """A vector of the public code, under the names that the parameters had in the model.

    Attributes:
        mask: where the differences are, in our order.
        values: tensor name → (k_i,) float32, in the order of `mask.index[name]`.
        shapes: name → shape of every tensor that could have differences; some have none.
        whole: parameters that are stored whole, such as those of a head, float32.
    """

    mask: Mask
    values: dict[str, torch.Tensor]
    shapes: dict[str, tuple[int, ...]]
    whole: dict[str, torch.Tensor]


def read_lt_sft(path: Path) -> PublicVector:
    """Read a file; nothing that is in it is run.

    Raises ArtefactError, naming file and tensor, if the file is missing, truncated or something
    else, asks for more than data, or holds positions outside of a tensor, twice the same one, or
    numbers that float32 cannot hold.
    """
    found = read_torch_file(path)
    parts = [found.get(part) if isinstance(found, dict) else None for part in ("diffs", "abs")]
    if not all(isinstance(part, dict) for part in parts):
        raise ArtefactError(f"{path}: not a vector of LT-SFT: expected `diffs` and `abs` in it")
    index, values, shapes = {}, {}, {}
    for name, stored in found["diffs"].items():
        try:
            shape, places, numbers = _tensor(stored)
        except (ValueError, TypeError, KeyError) as error:
            raise ArtefactError(f"{path}: {name}: {error}") from None
        shapes[name] = shape
        if len(places):
            index[name], values[name] = places, numbers
    whole = {}
    for name, tensor in found["abs"].items():
        if not isinstance(tensor, torch.Tensor) or tensor.dtype not in EXACT:
            kind = tensor.dtype if isinstance(tensor, torch.Tensor) else type(tensor).__name__
            raise ArtefactError(f"{path}: {name}: {kind}, expected a tensor of float32")
        whole[name] = tensor.float().contiguous()
    mask = Mask(index, {name: shapes[name] for name in index})
    return PublicVector(mask, values, shapes, whole)


def _tensor(stored: Mapping[str, Any]) -> tuple[tuple[int, ...], torch.Tensor, torch.Tensor]:
    """Shape, row-major positions and values of one tensor. Positions are stored column-major, as
    the first one and the steps to each next."""
    shape = tuple(int(size) for size in stored["size"])
    steps, values = np.asarray(stored["index_steps"]), stored["values"]
    if steps.ndim != 1 or (steps.dtype.kind != "i" and len(steps)):
        raise InputError(f"steps of type {steps.dtype}, expected whole numbers")
    if not isinstance(values, torch.Tensor) or values.dtype not in EXACT:
        kind = values.dtype if isinstance(values, torch.Tensor) else type(values).__name__
        raise InputError(f"values of type {kind}, expected float32")
    if values.shape != steps.shape:
        raise InputError(f"{len(steps)} positions, values of shape {tuple(values.shape)}")
    if not values.isfinite().all():
        raise InputError("values that are not finite")
    places = np.cumsum(steps.astype(np.int64))
    if (places[:1] < 0).any() or (places[1:] <= places[:-1]).any():
        raise InputError("positions that do not ascend from 0 on")
    if len(places) and places[-1] >= prod(shape):
        raise InputError(f"a position {places[-1]} in shape {shape}, of {prod(shape)} entries")
    if len(shape) > 1:
        rows = np.unravel_index(places, shape, order="F")
        places = np.ravel_multi_index(rows, shape)
        order = np.argsort(places)
        return shape, torch.from_numpy(places[order]), values.float()[torch.from_numpy(order)]
    return shape, torch.from_numpy(places), values.float().contiguous()


def without_prefix(vector: PublicVector) -> SparseDelta:
    """The vector with names that do without the first word, such as `roberta`, that all have in
    common; what is stored whole is its head."""
    words = {name.partition(".")[0] for name in vector.shapes}
    start = len(words.pop()) + 1 if len(words) == 1 else 0
    index = {name[start:]: places for name, places in vector.mask.index.items()}
    shapes = {name[start:]: shape for name, shape in vector.mask.shapes.items()}
    values = {name[start:]: numbers for name, numbers in vector.values.items()}
    return SparseDelta(Mask(index, shapes), values, vector.whole)
