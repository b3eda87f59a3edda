"""How two vectors meet: the entries that both have, and how much one disturbs the other."""

from collections import Counter
from collections.abc import Iterator, Mapping
from math import prod, sqrt
from typing import NamedTuple

import numpy as np
import torch

from deftx.core.mask import Mask
from deftx.core.sparse_delta import SparseDelta

Vector = SparseDelta | Mapping[str, torch.Tensor]
"""A sparse vector, or a dense one by backbone name."""

AT_ONCE = 1 << 24
"""Entries that are widened to float64 at a time: 128 MiB."""


class Meeting(NamedTuple):
    """How a language's vector φ_L and a task's φ_T meet; a ratio to 0 is None.

    Attributes:
        of_language, of_task: how many entries each has (a dense vector has all); shared: both.
        overlap: shared / the smaller of the two. Source: the percentages of DeFT-X Figures 2 and 3;
            their denominator is not known to us, this one is a design choice.
        sign_conflict: the part of the entries changed by both whose signs are opposite.
        interference: ‖φ_L where φ_T is not 0‖ / ‖φ_T‖: how far the language moves the entries that
            the task needs, relative to what the task has learnt. Design choice.
        norm_ratio: ‖φ_T‖ / ‖φ_L‖.
        cosine: φ_L · φ_T / (‖φ_L‖ ‖φ_T‖).
    """

    of_language: int
    of_task: int
    shared: int
    overlap: float | None
    sign_conflict: float | None
    interference: float | None
    norm_ratio: float | None
    cosine: float | None


def meet(language: Vector, task: Vector) -> Meeting:
    """Compare two vectors, each sparse or dense, reading one tensor of each at a time."""
    count: Counter[str] = Counter()
    total: dict[str, float] = dict.fromkeys(("language", "task", "dot", "disturbing"), 0.0)
    names = [v.mask.index if isinstance(v, SparseDelta) else v for v in (language, task)]
    for name in sorted({*names[0], *names[1]}):
        (at, phi), (where, psi) = _entries(language, name), _entries(task, name)
        for who, values in (("language", phi), ("task", psi)):
            count[who] += len(values)
            total[who] += sum(float(piece @ piece) for piece in _pieces(values))
        if at is not None and where is not None:
            common = _common(at, where)
            phi, psi = phi[np.searchsorted(at, common)], psi[np.searchsorted(where, common)]
        elif at is not None:
            psi = psi[at]
        elif where is not None:
            phi = phi[where]
        for x, y in zip(_pieces(phi), _pieces(psi), strict=True):
            changed = y != 0
            count["shared"] += len(x)
            count["both"] += int(np.count_nonzero(changed & (x != 0)))
            count["opposite"] += int(np.count_nonzero(x * y < 0))
            total["dot"] += float(x @ y)
            total["disturbing"] += float(np.sum(x[changed] ** 2))
    of_language, of_task = sqrt(total["language"]), sqrt(total["task"])
    return Meeting(
        count["language"],
        count["task"],
        count["shared"],
        overlap=_ratio(count["shared"], min(count["language"], count["task"])),
        sign_conflict=_ratio(count["opposite"], count["both"]),
        interference=_ratio(sqrt(total["disturbing"]), of_task),
        norm_ratio=_ratio(of_task, of_language),
        cosine=_ratio(total["dot"], of_language * of_task),
    )


def positions(mask: Mask, shapes: Mapping[str, tuple[int, ...]]) -> np.ndarray:
    """The chosen positions of a mask among the entries of all tensors of these shapes, one tensor
    behind the other; ascending, in the smallest integers, because many masks are held at once."""
    names = sorted(shapes)
    ends = np.cumsum([0, *(prod(shapes[name]) for name in names)])
    kind = np.min_scalar_type(ends[-1])
    chosen = [
        mask.index[name].numpy().astype(kind) + start.astype(kind)
        for name, start in zip(names, ends, strict=False)
        if name in mask.index
    ]
    return np.concatenate([np.empty(0, kind), *chosen])


def overlap(a: np.ndarray, b: np.ndarray) -> float | None:
    """|A ∩ B| / min(K_A, K_B) of two masks by `positions`; None if one is empty."""
    return _ratio(len(_common(a, b)), min(len(a), len(b)))


def jaccard(a: np.ndarray, b: np.ndarray) -> float | None:
    """|A ∩ B| / |A ∪ B| of two masks by `positions`; None if both are empty."""
    shared = len(_common(a, b))
    return _ratio(shared, len(a) + len(b) - shared)


def _common(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.intersect1d(a, b, assume_unique=True)


def _entries(vector: Vector, name: str) -> tuple[np.ndarray | None, np.ndarray]:
    """Positions (None: all of the tensor) and values of one tensor; a tensor that is absent has no
    entries."""
    if isinstance(vector, SparseDelta):
        if name in vector.mask.index:
            return vector.mask.index[name].numpy(), vector.values[name].numpy()
    elif name in vector:
        return None, vector[name].reshape(-1).numpy()
    return np.empty(0, np.int64), np.empty(0, np.float32)


def _pieces(values: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(values), AT_ONCE):
        yield values[start : start + AT_ONCE].astype(np.float64)


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None
