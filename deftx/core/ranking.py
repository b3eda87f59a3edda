"""The entries of largest magnitude: exactly K of them, with a stated rule for ties.

One pass over the tensors, whose entries in name order are one stream. Candidates are the entries
that exceed a bound, at first zero. Whenever there are many more than K, the K largest of them stay
and the smallest of these is the new bound. It can only rise, so what has been dropped would not
have been chosen; and since an entry must exceed it, ties go to those that came first.
"""

from collections.abc import Callable, Iterable
from math import prod
from typing import Any

import numpy as np
import torch

from deftx.core.mask import Mask
from deftx.store.errors import InputError

Flat = Any
"""One-dimensional: a NumPy array if the scores are on a CPU, else a tensor on their device.

NumPy partitions, and finds true values, several times faster on a CPU than PyTorch; and without
threads, which for steps as short as these only wait for each other where the machine is busy.
"""

CPU_CHUNK, GPU_CHUNK = 1 << 20, 1 << 25
"""Entries looked at together: on a CPU what stays in its cache; on a GPU starting a kernel is what
takes time."""

Scores = Callable[[str], torch.Tensor]
"""Name of a tensor → scores of its entries, in its shape; larger magnitude is chosen first."""


def largest(scores: torch.Tensor, k: int) -> torch.Tensor:
    """Flat positions (k,), ascending, of the k largest magnitudes; ties to the smaller position."""
    mask = pooled([""], lambda _: scores, k, allow_zero=True)
    return mask.index.get("", torch.empty(0, dtype=torch.int64, device=scores.device))


def pooled(
    names: Iterable[str],
    scores: Scores,
    k: int,
    where: str = "",
    allow_zero: bool = False,
    besides: Mask | None = None,
) -> Mask:
    """The k entries of largest |score| over the tensors of these names, on the device of the
    scores; see `top_k` for ties and errors, prefixed by `where`. Those of `besides` are never
    chosen, and count as if they were not there (not together with `allow_zero`).

    Each tensor is asked for once and let go; beyond it this needs a few times k entries of memory,
    and a copy of a tensor that `besides` has entries of.
    """
    if k < (0 if allow_zero else 1):
        raise InputError(f"{where}k must be at least 1, got {k}")
    if k == 0:
        return Mask({}, {})
    taken = besides.index if besides else {}
    candidates = _Candidates(k, -1.0 if allow_zero else 0.0)
    shapes: dict[str, tuple[int, ...]] = {}
    for name in sorted(names):
        tensor = scores(name).detach()
        shapes[name] = tuple(tensor.shape)
        flat = tensor.reshape(-1)
        if name in taken:  # what is zero is never chosen
            flat = flat.index_fill(0, taken[name].to(flat.device), 0)
        on_cpu = flat.device.type == "cpu"
        for part in flat.split(CPU_CHUNK if on_cpu else GPU_CHUNK):
            candidates.add(np.abs(part.numpy()) if on_cpu else part.abs())
    if not candidates.are_finite():
        name = next(name for name in shapes if not torch.isfinite(scores(name)).all())
        raise InputError(f"{name}: not all entries are finite")
    sizes = [prod(shape) for shape in shapes.values()]
    total = sum(sizes) - sum(len(taken.get(name, ())) for name in shapes)
    if k > total:
        raise InputError(f"{where}k is {k}, but there are only {total} entries to choose from")
    position = torch.as_tensor(candidates.best())
    if len(position) < k:
        raise InputError(
            f"{where}k is {k}, but only {len(position)} of {total} entries differ from zero: "
            "choose a smaller budget or train the full phase for longer"
        )
    ends = torch.tensor(sizes).cumsum(0)
    cuts = torch.searchsorted(position, ends.to(position.device)).tolist()
    index, first = {}, 0
    for name, size, end, cut in zip(shapes, sizes, ends.tolist(), cuts, strict=True):
        if cut > first:
            index[name] = position[first:cut] - (end - size)
        first = cut
    return Mask(index, {name: shapes[name] for name in index})


class _Candidates:
    """Entries of a stream that may be among its k largest, chunk by chunk in its order."""

    def __init__(self, k: int, bound: float) -> None:
        self._k = k
        self._bound: Any = bound
        self._chunks: list[tuple[Flat, Flat]] = []  # values, positions
        self._peaks: list[Flat] = []
        self._seen = self._held = 0

    def add(self, values: Flat) -> None:
        """Take up what exceeds the bound of the stream's next magnitudes."""
        if not len(values):
            return
        self._peaks.append(values.max())  # NaN if one of them is
        place = where_true(values > self._bound)
        self._chunks.append((values[place], place + self._seen))
        self._seen += len(values)
        self._held += len(place)
        if self._held > 2 * self._k + len(values):
            self._cut()

    def are_finite(self) -> bool:
        """Whether all magnitudes were. Once at the end: to ask a GPU for each chunk would make it
        wait each time."""
        peaks = [torch.as_tensor(peak) for peak in self._peaks]
        return not peaks or bool(torch.isfinite(torch.stack(peaks)).all())

    def best(self) -> Flat:
        """Positions, ascending, of the k largest, or of all if there are fewer."""
        if self._held > self._k:
            self._cut()
        return joined([positions for _, positions in self._chunks])

    def _cut(self) -> None:
        top = largest_values(joined([values for values, _ in self._chunks]), self._k)
        self._bound = top.min()
        ties_wanted = self._k - len(where_true(top > self._bound))
        for number, (values, positions) in enumerate(self._chunks):
            chosen = values > self._bound
            if ties_wanted:
                ties = where_true(values == self._bound)[:ties_wanted]
                ties_wanted -= len(ties)
                chosen[ties] = True
            place = where_true(chosen)
            self._chunks[number] = values[place], positions[place]
        self._held = self._k


def joined(parts: list[Flat]) -> Flat:
    """The parts in new memory."""
    return np.concatenate(parts) if isinstance(parts[0], np.ndarray) else torch.cat(parts)


def where_true(flags: Flat) -> Flat:
    """Positions, ascending."""
    return np.flatnonzero(flags) if isinstance(flags, np.ndarray) else flags.nonzero().view(-1)


def largest_values(values: Flat, k: int) -> Flat:
    """The k largest, in any order; `values` are used up. On a GPU `topk` is a radix selection, and
    `kthvalue` far slower."""
    if not isinstance(values, np.ndarray):
        return values.topk(k, sorted=False).values
    values.partition(len(values) - k)
    return values[len(values) - k :]
