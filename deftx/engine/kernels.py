"""Two computations that a GPU does in one pass over memory each: a large vocabulary's cross-entropy
with its gradient, and AdamW with the L1 term and clipping. Import this only with Triton.

What each must compute is written plainly in `decoder.py` and `update.py`, which run everywhere;
tests compare them, on a CPU by Triton's interpreter.
"""

import torch
import triton
import triton.language as tl

from deftx.engine.update import BETAS, EPS

BLOCK = 1024
"""Entries that one program of the update moves."""

COLUMNS = 4096
"""Logits of a row that a program reads at a time."""

# A kernel sees no other names of its module.
FIRST, SECOND, EPSILON = tl.constexpr(BETAS[0]), tl.constexpr(BETAS[1]), tl.constexpr(EPS)


def cross_entropy_(
    logits: torch.Tensor, bias: torch.Tensor, targets: torch.Tensor, *, ignored: int, slope: bool
) -> torch.Tensor:
    """The cross-entropy of each row of logits + bias, float32 (p,); 0 where the target is
    `ignored`. With `slope` its gradient takes the place of the logits.

    `logits` (p, w) in any precision, where w is at least the vocabulary v: further columns do not
    count, and their gradient is 0; `bias` (v,) float32; `targets` (p,).
    """
    losses = torch.empty(len(logits), device=logits.device)
    chosen = logits.gather(1, targets.clamp(min=0).unsqueeze(1)).squeeze(1)
    _cross_entropy[(len(logits),)](
        logits, bias, targets, chosen, losses, len(bias), logits.shape[1],
        IGNORED=ignored, SLOPE=slope, COLUMNS=COLUMNS, num_warps=16,
    )  # fmt: skip
    return losses


@triton.jit
def _cross_entropy(
    logits, bias, targets, chosen, losses, vocabulary, width,
    IGNORED: tl.constexpr, SLOPE: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    logits += row * width
    target = tl.load(targets + row)
    counts = target != IGNORED
    if not counts:
        tl.store(losses + row, 0.0)
        if SLOPE:
            for start in range(0, width, COLUMNS):
                column = start + tl.arange(0, COLUMNS)
                nothing = tl.zeros((COLUMNS,), logits.dtype.element_ty)
                tl.store(logits + column, nothing, mask=column < width)
    else:
        # Each lane has its own largest logit and sum; they meet once, at the end.
        top = tl.full((COLUMNS,), -1e30, tl.float32)
        total = tl.zeros((COLUMNS,), tl.float32)
        for start in range(0, vocabulary, COLUMNS):
            column = start + tl.arange(0, COLUMNS)
            here = column < vocabulary
            x = tl.load(logits + column, mask=here, other=float("-inf")).to(tl.float32)
            x += tl.load(bias + column, mask=here, other=0.0)
            larger = tl.maximum(top, x)
            total = total * tl.exp(top - larger) + tl.exp(x - larger)
            top = larger
        largest = tl.max(top, 0)
        log_z = largest + tl.log(tl.sum(total * tl.exp(top - largest), 0))
        reached = tl.load(chosen + row).to(tl.float32) + tl.load(bias + target)
        tl.store(losses + row, log_z - reached)
        if SLOPE:
            for start in range(0, width, COLUMNS):
                column = start + tl.arange(0, COLUMNS)
                here = column < vocabulary
                x = tl.load(logits + column, mask=here, other=float("-inf")).to(tl.float32)
                x += tl.load(bias + column, mask=here, other=0.0)
                slope = tl.exp(x - log_z) - tl.where(column == target, 1.0, 0.0)
                tl.store(logits + column, slope.to(logits.dtype.element_ty), mask=column < width)


def entries_of_rows(
    place: torch.Tensor, sums: torch.Tensor, row: torch.Tensor, column: torch.Tensor
) -> torch.Tensor:
    """The entries (row, column), each (k,), of a table whose row r is `sums[place[r]]`, or 0
    where that is -1; float32 (k,)."""
    found = torch.empty(len(row), device=sums.device)
    _entries_of_rows[(triton.cdiv(len(row), BLOCK),)](
        place, sums, row, column, found, sums.shape[1], len(row), BLOCK=BLOCK
    )
    return found


@triton.jit
def _entries_of_rows(places, sums, rows, columns, found, width, k, BLOCK: tl.constexpr):
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    here = at < k
    place = tl.load(places + tl.load(rows + at, mask=here, other=0), mask=here, other=-1)
    column = tl.load(columns + at, mask=here, other=0)
    value = tl.load(sums + place * width + column, mask=place >= 0, other=0.0)
    tl.store(found + at, value, mask=here)


@triton.jit
def _pulled(gradient, value, start, pull):
    """The gradient with that of the L1 term."""
    distance = value - start
    sign = tl.where(distance > 0, 1.0, 0.0) - tl.where(distance < 0, 1.0, 0.0)
    return gradient + pull * sign


@triton.jit
def _move_entries(
    values, firsts, seconds, at, here, value, gradient, numbers, squares, clip
):  # fmt: skip
    """A step of AdamW on the values at some places, whose gradient is clipped; the new values."""
    scale = tl.minimum(clip / (tl.sqrt(tl.load(squares)) + 1e-6), 1.0)
    gradient *= scale
    first = tl.load(firsts + at, mask=here, other=0.0)
    second = tl.load(seconds + at, mask=here, other=0.0)
    first += (1 - FIRST) * (gradient - first)
    second = SECOND * second + (1 - SECOND) * gradient * gradient
    denominator = tl.sqrt(second) * tl.load(numbers + 1) + EPSILON
    value -= tl.load(numbers) * first / denominator
    tl.store(values + at, value, mask=here)
    tl.store(firsts + at, first, mask=here)
    tl.store(seconds + at, second, mask=here)
    return value


def squares_of(
    values: torch.Tensor, gradient: torch.Tensor, start: torch.Tensor | None, pull: float
) -> torch.Tensor:
    """Σ (gradient + pull · sign(values - start))², float32 (); without `start` Σ gradient²."""
    n = values.numel()
    parts = torch.empty(triton.cdiv(n, BLOCK), device=values.device)
    _squares[(len(parts),)](
        values, gradient, values if start is None else start, parts, pull, n,
        PULLED=start is not None, BLOCK=BLOCK,
    )  # fmt: skip
    return parts.sum()


@triton.jit
def _squares(
    values, gradients, starts, parts, pull, n, PULLED: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    here = at < n
    gradient = tl.load(gradients + at, mask=here, other=0.0).to(tl.float32)
    if PULLED:
        value = tl.load(values + at, mask=here, other=0.0)
        gradient = _pulled(gradient, value, tl.load(starts + at, mask=here, other=0.0), pull)
    tl.store(parts + tl.program_id(0), tl.sum(gradient * gradient, 0))


def move_(
    values: torch.Tensor,
    gradient: torch.Tensor,
    moments: tuple[torch.Tensor, torch.Tensor],
    start: torch.Tensor | None,
    low: torch.Tensor | None,
    numbers: torch.Tensor,
    squares: torch.Tensor,
    *,
    pull: float,
    clip: float,
) -> None:
    """A step of AdamW on `values`, float32 (n,), in place, with what it remembers of them; `low`
    becomes the values in its own precision.

    `numbers` has the step size over its bias correction, and 1 / √ of that of the second moment;
    `squares` is the squared norm of the gradient of all that trains, which is clipped to `clip`.
    """
    n = values.numel()
    _move[(triton.cdiv(n, BLOCK),)](
        values, gradient, *moments, values if start is None else start,
        values if low is None else low, numbers, squares, pull, clip, n,
        PULLED=start is not None, LOW=low is not None, BLOCK=BLOCK,
    )  # fmt: skip


@triton.jit
def _move(
    values, gradients, firsts, seconds, starts, lows, numbers, squares, pull, clip, n,
    PULLED: tl.constexpr, LOW: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    here = at < n
    value = tl.load(values + at, mask=here, other=0.0)
    gradient = tl.load(gradients + at, mask=here, other=0.0).to(tl.float32)
    if PULLED:
        gradient = _pulled(gradient, value, tl.load(starts + at, mask=here, other=0.0), pull)
    value = _move_entries(
        values, firsts, seconds, at, here, value, gradient, numbers, squares, clip
    )
    if LOW:
        tl.store(lows + at, value.to(lows.dtype.element_ty), mask=here)


def move_rows_(
    values: torch.Tensor,
    sums: torch.Tensor,
    place: torch.Tensor,
    moments: tuple[torch.Tensor, torch.Tensor],
    start: torch.Tensor | None,
    seen: torch.Tensor,
    apart: torch.Tensor,
    numbers: torch.Tensor,
    squares: torch.Tensor,
    *,
    pull: float,
    clip: float,
) -> None:
    """As `move_`, on a table (v, h) with few rows that have a gradient: row r has that in `sums`
    (t, h) at `place[r]`, or none if that is -1.

    A row that was never looked up is where it started, and its moments are 0: its step changes
    nothing and is left out. `seen` (v,) int8 is 1 for all others, `apart` (v,) float32 counts the
    entries of a row that differ from their start.
    """
    rows, width = values.shape
    _move_rows[(rows,)](
        values, sums, place, *moments, values if start is None else start, seen, apart, numbers,
        squares, pull, clip, width,
        PULLED=start is not None, BLOCK=triton.next_power_of_2(width),
    )  # fmt: skip


@triton.jit
def _move_rows(
    values, sums, places, firsts, seconds, starts, seen, apart, numbers, squares, pull, clip,
    width, PULLED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    place = tl.load(places + row)
    if (place >= 0) | (tl.load(seen + row) != 0):
        column = tl.arange(0, BLOCK)
        here = column < width
        at = row * width + column
        value = tl.load(values + at, mask=here, other=0.0)
        looked_up = column < tl.where(place >= 0, width, 0)
        gradient = tl.load(sums + place * width + column, mask=looked_up, other=0.0)
        if PULLED:
            start = tl.load(starts + at, mask=here, other=0.0)
            gradient = _pulled(gradient, value, start, pull)
        value = _move_entries(
            values, firsts, seconds, at, here, value, gradient, numbers, squares, clip
        )
        tl.store(seen + row, 1)
        if PULLED:
            tl.store(apart + row, tl.sum(tl.where(here & (value != start), 1.0, 0.0), 0))
