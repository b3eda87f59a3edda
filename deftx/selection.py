"""Choosing the entries that train: exactly K of them, with a stated rule for ties.

Sources: LT-SFT (Ansell et al. 2022, section 3): the K entries that changed most, pooled over all
tensors. SC-SFT (Sharma & Chauhan, section 3.3): the same inside groups of tensors that share K
out. Rand-SFT (ibid.): K drawn uniformly. Exactness and ties are design choices: the public code
takes every entry at the threshold, and so more than K where entries tie.
"""

import hashlib
from collections.abc import Mapping
from fractions import Fraction

import numpy as np
import torch

from deftx.mask import Mask
from deftx.ranking import pooled
from deftx.shares import group_names, largest_remainder


def top_k(delta: Mapping[str, torch.Tensor], k: int) -> Mask:
    """The k entries of largest magnitude over all tensors of `delta`, pooled.

    Ties go to the smaller tensor name, then to the smaller row-major position.

    Raises ValueError if k is not positive, if more entries are asked for than differ from zero,
    or if a tensor is not finite.
    """
    return pooled(delta, delta.__getitem__, k)


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
        mask |= pooled(names, delta.__getitem__, parts[pattern], f"group '{pattern}': ")
    return mask


def uniform(shapes: Mapping[str, tuple[int, ...]], k: int, seed: int) -> Mask:
    """k entries drawn uniformly without replacement over all tensors of these shapes.

    Each entry gets a random score from a stream keyed by (seed, tensor name), and the largest win:
    so the draw does not depend on the order of tensors, nor on any draw made before.
    """

    def scores(name: str) -> torch.Tensor:
        key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
        generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, key])))
        score = generator.random(shapes[name])
        # 1 - u lies in (0, 1]: a score of zero would count as "never moved".
        return torch.from_numpy(np.subtract(1.0, score, out=score))

    return pooled(shapes, scores, k)


def everything(shapes: Mapping[str, tuple[int, ...]]) -> Mask:
    """Every entry of the tensors of these shapes."""
    index = {
        name: torch.arange(int(np.prod(shape, dtype=np.int64))) for name, shape in shapes.items()
    }
    return Mask(index, dict(shapes))
