"""How two vectors meet: the entries that both have, and how much one disturbs the other."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod, sqrt

import numpy as np
import torch

from deftx.core.mask import Mask
from deftx.core.sparse_delta import SparseDelta

Vector = SparseDelta | Mapping[str, torch.Tensor]
"""A sparse vector, or a dense one by backbone name."""

Positions = dict[str, np.ndarray]
"""Tensor name → chosen flat positions, ascending, in the smallest integers that hold them."""

AT_ONCE = 1 << 24
"""Entries that are widened to float64 at a time: 128 MiB."""


@dataclass
class Meeting:
    """What a language's and a task's vector have in common, as sums over all tensors; all from 0.

    Attributes:
        of_language, of_task: how many entries each has (a dense vector has all); shared: both.
        both: entries where both are other than 0; opposite: those with opposite signs.
        dot: Σ φ_L φ_T; task, language: Σ φ_T², Σ φ_L²; disturbing: Σ φ_L² where φ_T is not 0.
    """

    of_language: int = 0
    of_task: int = 0
    shared: int = 0
    both: int = 0
    opposite: int = 0
    dot: float = 0.0
    task: float = 0.0
    language: float = 0.0
    disturbing: float = 0.0

    @property
    def overlap(self) -> float | None:
        """|A ∩ B| / min(K_A, K_B). Source: the percentages of DeFT-X Figures 2 and 3; which
        denominator they have is not stored anywhere, this one is a design choice."""
        return _ratio(self.shared, min(self.of_language, self.of_task))

    @property
    def sign_conflict(self) -> float | None:
        """The part of the entries changed by both that they change in opposite directions."""
        return _ratio(self.opposite, self.both)

    @property
    def interference(self) -> float | None:
        """‖φ_L where φ_T is not 0‖ / ‖φ_T‖: by how much, relative to what the task has learnt, the
        language moves the entries that the task needs. Design choice."""
        return _ratio(sqrt(self.disturbing), sqrt(self.task))

    @property
    def norm_ratio(self) -> float | None:
        """‖φ_T‖ / ‖φ_L‖."""
        return _ratio(sqrt(self.task), sqrt(self.language))

    @property
    def cosine(self) -> float | None:
        """φ_L · φ_T / (‖φ_L‖ ‖φ_T‖)."""
        return _ratio(self.dot, sqrt(self.language) * sqrt(self.task))


def meet(language: Vector, task: Vector) -> Meeting:
    """Compare two vectors, each sparse or dense, reading one tensor of each at a time."""
    found = Meeting()
    for name in sorted({*_names(language), *_names(task)}):
        (at, phi), (where, psi) = _entries(language, name), _entries(task, name)
        found.of_language += len(phi)
        found.of_task += len(psi)
        found.language += _squares(phi)
        found.task += _squares(psi)
        for x, y in _met(at, phi, where, psi):
            changed = y != 0
            found.shared += len(x)
            found.both += int(np.count_nonzero(changed & (x != 0)))
            found.opposite += int(np.count_nonzero(x * y < 0))
            found.dot += float(x @ y)
            found.disturbing += float(np.sum(x[changed] ** 2))
    return found


def positions(mask: Mask) -> Positions:
    """The chosen positions of a mask, to be held beside those of others."""
    return {
        name: index.numpy().astype(np.min_scalar_type(max(1, prod(mask.shapes[name]) - 1)))
        for name, index in mask.index.items()
    }


def overlap(a: Positions, b: Positions) -> float | None:
    """|A ∩ B| / min(K_A, K_B); None if one is empty."""
    return _ratio(_shared(a, b), min(_count(a), _count(b)))


def jaccard(a: Positions, b: Positions) -> float | None:
    """|A ∩ B| / |A ∪ B|; None if both are empty."""
    shared = _shared(a, b)
    return _ratio(shared, _count(a) + _count(b) - shared)


def _count(chosen: Positions) -> int:
    return sum(map(len, chosen.values()))


def _shared(a: Positions, b: Positions) -> int:
    return sum(len(_common(a[name], b[name])) for name in a.keys() & b.keys())


def _common(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.intersect1d(a, b, assume_unique=True)


def _names(vector: Vector) -> Sequence[str]:
    return list(vector.mask.index if isinstance(vector, SparseDelta) else vector)


def _entries(vector: Vector, name: str) -> tuple[np.ndarray | None, np.ndarray]:
    """Positions (None: all of the tensor) and values of one tensor; a tensor that is absent has no
    entries."""
    if isinstance(vector, SparseDelta):
        if name in vector.mask.index:
            return vector.mask.index[name].numpy(), vector.values[name].numpy()
    elif name in vector:
        return None, vector[name].reshape(-1).numpy()
    return np.empty(0, np.int64), np.empty(0, np.float32)


def _met(
    at: np.ndarray | None, phi: np.ndarray, where: np.ndarray | None, psi: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The values of both at the entries that both have, in float64 and in pieces."""
    if at is not None and where is not None:
        common = _common(at, where)
        phi, psi = phi[np.searchsorted(at, common)], psi[np.searchsorted(where, common)]
    elif at is not None:
        psi = psi[at]
    elif where is not None:
        phi = phi[where]
    for start in range(0, len(phi), AT_ONCE):
        piece = slice(start, start + AT_ONCE)
        yield phi[piece].astype(np.float64), psi[piece].astype(np.float64)


def _squares(values: np.ndarray) -> float:
    pieces = (values[i : i + AT_ONCE].astype(np.float64) for i in range(0, len(values), AT_ONCE))
    return sum(float(piece @ piece) for piece in pieces)


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None
