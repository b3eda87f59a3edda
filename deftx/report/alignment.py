"""How similarly a model represents an item and its translation."""

import numpy as np

AT_ONCE = 1024
"""Items compared with all others at a time."""

ROUNDING = 1e-9
"""Cosines that differ by less are equal: they depend on the order of summation."""


def align(
    ids: np.ndarray, pooled: np.ndarray, source_ids: np.ndarray, source_pooled: np.ndarray
) -> dict[str, float] | None:
    """Compare the representations (items, hidden) of a language with those of the source, over the
    items whose ids both have; None if there are fewer than two.

    Returns:
        similarity_matched: mean cosine of an item and its translation, in [-1, 1].
        similarity_mismatched: mean cosine of an item and every other item of the other language.
        retrieval: share of items whose translation is nearest among the items of the other
            language.

    Source: planned by Sharma & Chauhan, section 6; the measures are a design choice.
    """
    _, mine, theirs = np.intersect1d(ids, source_ids, return_indices=True)
    items = len(mine)
    if items < 2:
        return None
    a, b = _directions(pooled[mine]), _directions(source_pooled[theirs])
    matched = np.einsum("nh,nh->n", a, b)
    found = 0
    for start in range(0, items, AT_ONCE):
        piece = slice(start, start + AT_ONCE)
        nearest = (a[piece] @ b.T).max(axis=1)
        found += int(np.count_nonzero(matched[piece] >= nearest - ROUNDING))
    everything = float(a.sum(axis=0) @ b.sum(axis=0))  # Σ over all pairs at once
    others = (everything - float(matched.sum())) / (items * (items - 1))
    return {
        "similarity_matched": float(matched.mean()),
        "similarity_mismatched": others,
        "retrieval": found / items,
    }


def _directions(pooled: np.ndarray) -> np.ndarray:
    """Rows of length 1, in float64; a row of zeros stays one."""
    rows = pooled.astype(np.float64)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(lengths > 0, lengths, 1)
