"""Choosing the entries that train: exactly K of them, with a stated rule for ties.

Sources: LT-SFT (Ansell et al. 2022, section 3): the K entries that changed most, pooled over all
tensors. SC-SFT (Sharma & Chauhan, section 3.3): the same inside groups of tensors that share K
out. Rand-SFT (ibid.): K drawn uniformly. Exactness and ties are design choices: the public code
takes every entry at the threshold, and so more than K where entries tie.
"""

import hashlib
from collections.abc import Callable, Mapping
from fractions import Fraction

import numpy as np
import torch

from deftx.mask import Mask
from deftx.shares import group_names, largest_remainder

Scores = Callable[[str], torch.Tensor]
"""Name of a tensor → scores of its entries, in any shape; larger magnitude is chosen first."""


def top_k(delta: Mapping[str, torch.Tensor], k: int) -> Mask:
    """The k entries of largest magnitude over all tensors of `delta`, pooled.

    Ties go to the smaller tensor name, then to the smaller row-major position.

    Raises ValueError if k is not positive, if more entries are asked for than differ from zero,
    or if a tensor is not finite.
    """
    shapes = {name: tuple(delta[name].shape) for name in delta}
    return _pooled(shapes, delta.__getitem__, k)


def top_k_in_groups(
    delta: Mapping[str, torch.Tensor], k: int, shares: Mapping[str, float | Fraction]
) -> Mask:
    """k entries, shared out over groups of tensors and chosen as by `top_k` inside each group.

    `shares` maps a regular expression, matched from the start of the tensor name, to its part of
    k; each tensor belongs to the first expression that matches. The parts are rounded by largest
    remainder, so that they sum to exactly k.

    Raises ValueError if the shares do not sum to 1, a tensor belongs to no group, a group matches
    no tensor, or a group has fewer non-zero entries than its part of k.
    """
    groups = group_names(delta, shares)
    parts = largest_remainder(k, shares)
    mask = Mask({}, {})
    for pattern, names in groups.items():
        if parts[pattern] == 0:
            continue
        shapes = {name: tuple(delta[name].shape) for name in names}
        mask |= _pooled(shapes, delta.__getitem__, parts[pattern], f"group '{pattern}': ")
    return mask


def uniform(shapes: Mapping[str, tuple[int, ...]], k: int, seed: int) -> Mask:
    """k entries drawn uniformly without replacement over all tensors of these shapes.

    Each entry gets a random score from a stream keyed by (seed, tensor name), and the largest win:
    so the draw does not depend on the order of tensors, nor on any draw made before.
    """

    def scores(name: str) -> torch.Tensor:
        key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
        generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, key])))
        # 1 - u lies in (0, 1]: a score of zero would count as "never moved".
        return torch.from_numpy(1.0 - generator.random(int(np.prod(shapes[name], dtype=np.int64))))

    return _pooled(shapes, scores, k)


def everything(shapes: Mapping[str, tuple[int, ...]]) -> Mask:
    """Every entry of the tensors of these shapes."""
    index = {
        name: torch.arange(int(np.prod(shape, dtype=np.int64))) for name, shape in shapes.items()
    }
    return Mask(index, dict(shapes))


def largest(scores: torch.Tensor, k: int) -> torch.Tensor:
    """Flat positions (k,), ascending, of the k largest magnitudes; ties to the smaller position."""
    mask = _pooled({"": tuple(scores.shape)}, lambda _: scores, k, allow_zero=True)
    return mask.index.get("", torch.empty(0, dtype=torch.int64))


def _pooled(
    shapes: Mapping[str, tuple[int, ...]],
    scores: Scores,
    k: int,
    where: str = "",
    allow_zero: bool = False,
) -> Mask:
    """The k entries of largest |score|; see `top_k` for ties and errors, prefixed by `where`.

    Memory beyond one tensor's scores: one buffer of all magnitudes, partitioned in place.
    """
    names = sorted(shapes)
    sizes = [int(np.prod(shapes[name], dtype=np.int64)) for name in names]
    if k < (0 if allow_zero else 1):
        raise ValueError(f"{where}k must be at least 1, got {k}")
    if k > sum(sizes):
        raise ValueError(f"{where}k is {k}, but there are only {sum(sizes)} entries to choose from")
    if k == 0:
        return Mask({}, {})
    threshold, ties_wanted, moved = _threshold(names, sizes, scores, k)
    if threshold == 0 and not allow_zero:
        raise ValueError(
            f"{where}k is {k}, but only {moved} of {sum(sizes)} entries differ from zero: choose a "
            "smaller budget or train the full phase for longer"
        )
    index = {}
    for name in names:
        magnitude = _magnitude(name, scores)
        above = np.flatnonzero(magnitude > threshold)
        ties = np.flatnonzero(magnitude == threshold)[:ties_wanted]
        ties_wanted -= len(ties)
        if len(above) or len(ties):
            index[name] = torch.from_numpy(np.sort(np.concatenate([above, ties])))
    return Mask(index, {name: tuple(shapes[name]) for name in index})


def _threshold(
    names: list[str], sizes: list[int], scores: Scores, k: int
) -> tuple[float, int, int]:
    """The k-th largest magnitude, how many entries equal to it are wanted, and how many entries
    are not zero."""
    pooled, end = np.empty(0), 0
    for name, size in zip(names, sizes, strict=True):
        magnitude = _magnitude(name, scores)
        if not end:
            pooled = np.empty(sum(sizes), dtype=magnitude.dtype)
        pooled[end : end + size] = magnitude
        end += size
    pooled.partition(len(pooled) - k)
    threshold = pooled[len(pooled) - k]
    ties_wanted = k - int((pooled[len(pooled) - k :] > threshold).sum())
    return float(threshold), ties_wanted, int(np.count_nonzero(pooled))


def _magnitude(name: str, scores: Scores) -> np.ndarray:
    """|scores| of one tensor, flat in row-major order. Raises ValueError if not all are finite."""
    magnitude = scores(name).detach().cpu().reshape(-1).abs().numpy()
    if not np.isfinite(magnitude).all():
        raise ValueError(f"{name}: not all entries are finite")
    return magnitude
