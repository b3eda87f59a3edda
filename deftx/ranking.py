"""The entries of largest magnitude: exactly K of them, with a stated rule for ties."""

from collections.abc import Callable, Mapping

import numpy as np
import torch

from deftx.mask import Mask

Scores = Callable[[str], torch.Tensor]
"""Name of a tensor → scores of its entries, in any shape; larger magnitude is chosen first."""


def largest(scores: torch.Tensor, k: int) -> torch.Tensor:
    """Flat positions (k,), ascending, of the k largest magnitudes; ties to the smaller position."""
    mask = pooled({"": tuple(scores.shape)}, lambda _: scores, k, allow_zero=True)
    return mask.index.get("", torch.empty(0, dtype=torch.int64))


def pooled(
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
