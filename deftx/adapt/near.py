"""Near-duplicates: lines that share most of their pairs of words with an earlier one.

MinHash with banding (Broder 1997; Leskovec, Rajaraman and Ullman, Mining of Massive Datasets,
chapter 3) proposes pairs of lines; a pair counts if the Jaccard similarity of its sets, computed
exactly, reaches the threshold. So no line is named wrongly; a few are missed."""

import zlib
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

SIMILAR = 0.6
"""The share of pairs of words, of those that either line has, which both have. Design choice: two
sentences of 15 words that differ in two words reach it."""

BANDS, ROWS = 16, 3
"""Bands of the signature, and hashes in each. Two lines of similarity s meet in a band with
probability 1 − (1 − s³)¹⁶, which is 0.98 for 0.6 and 0.99999 for 0.8."""


def pairs_of_words(words: Sequence[str]) -> frozenset[tuple[str, ...]]:
    """The pairs of neighbouring words of a line; of a single word itself."""
    if len(words) < 2:
        return frozenset({tuple(words)})
    return frozenset(pairwise(words))


def near_duplicates(lines: Sequence[Sequence[str]]) -> dict[int, int]:
    """Lines, each as its words, that are SIMILAR to an earlier one → the number of that line."""
    if not lines:
        return {}
    number: dict[str, int] = {}
    for line in lines:
        for word in line:
            if word not in number:
                number[word] = zlib.crc32(word.encode()) << 31 ^ zlib.adler32(word.encode())
    hashes = [np.array([number[word] for word in line] or [0], np.uint64) for line in lines]
    sizes = np.array([max(1, len(each) - 1) for each in hashes])
    factor = np.uint64(0x9E3779B97F4A7C15)
    flat = np.concatenate(
        [each[:-1] * factor + each[1:] if len(each) > 1 else each for each in hashes]
    )
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    random = np.random.default_rng(0)
    found: dict[int, int] = {}
    for _ in range(BANDS):
        keys = np.zeros(len(lines), np.uint64)
        for _ in range(ROWS):
            odd = np.uint64(random.integers(2**63) | 1)
            mixed = (flat ^ np.uint64(random.integers(2**63))) * odd
            mixed ^= mixed >> np.uint64(29)
            mixed *= factor
            keys = keys * factor + np.minimum.reduceat(mixed >> np.uint64(7), starts)
        first: dict[int, int] = {}
        for here, key in enumerate(keys.tolist()):
            earlier = first.setdefault(key, here)
            if earlier != here and here not in found:
                mine, other = pairs_of_words(lines[here]), pairs_of_words(lines[earlier])
                if len(mine & other) >= SIMILAR * len(mine | other):
                    found[here] = earlier
    return found
