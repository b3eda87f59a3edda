"""The kernels of `deftx.engine.kernels`, written plainly: the same functions with the same effects,
which run without Triton and wait for no device."""

import sys
from dataclasses import replace

import torch

from deftx.engine.session import resolve

ENGINE = "deftx.engine.kernels"


def put_in(monkeypatch):
    """Let the engine compute with these, which it imports where it needs them."""
    monkeypatch.setitem(sys.modules, ENGINE, sys.modules[__name__])


def train_with(monkeypatch, **changes):
    """Let a training do what is decided otherwise on a CPU, such as `fused=True`."""

    def resolved(engine, *given):
        return replace(resolve(engine.model_copy(update={"graph": "auto"}), *given), **changes)

    for module in ("loop", "full", "sparse"):
        monkeypatch.setattr(f"deftx.engine.{module}.resolve", resolved)


def cross_entropy_(logits, bias, targets, *, ignored, slope):
    """The cross-entropy of each row; its gradient takes the place of the logits."""
    scores = logits[:, : len(bias)].float() + bias
    counts, rows = targets != ignored, torch.arange(len(targets), device=targets.device)
    targets = targets.clamp(min=0)
    losses = torch.where(counts, scores.logsumexp(1) - scores[rows, targets], 0.0)
    if slope:
        slopes = scores.softmax(1)
        slopes[rows, targets] -= 1
        logits.zero_()[:, : len(bias)] = torch.where(counts.unsqueeze(1), slopes, 0.0)
    return losses


def entries_of_rows(place, sums, row, column):
    """Entries of the table that `by_row` describes."""
    here = place[row]
    return torch.where(here >= 0, sums[here.clamp(min=0), column], 0.0)


def pulled(gradient, values, start, pull):
    """The gradient, float32, with that of the L1 term."""
    gradient = gradient.float()
    return gradient if start is None else gradient + pull * (values - start).sign()


def squares_of(values, gradient, start, pull):
    """The squared norm of a gradient with that of the L1 term."""
    return pulled(gradient, values, start, pull).square().sum()


def moved(gradient, values, moments, numbers, squares, clip):
    """Values and moments after a step of AdamW, whose gradient is clipped."""
    gradient = gradient * (clip / (squares.sqrt() + 1e-6)).clamp(max=1.0)
    first = moments[0] + (1 - 0.9) * (gradient - moments[0])
    second = 0.999 * moments[1] + (1 - 0.999) * gradient * gradient
    return values - numbers[0] * first / (second.sqrt() * numbers[1] + 1e-8), first, second


def move_(values, gradient, moments, start, low, numbers, squares, *, pull, clip):
    """A step of AdamW, in place."""
    gradient = pulled(gradient, values, start, pull)
    after = moved(gradient, values, moments, numbers, squares, clip)
    for tensor, new in zip((values, *moments), after, strict=True):
        tensor.copy_(new)
    if low is not None:
        low.copy_(values)


def move_rows_(
    values, sums, place, moments, start, seen, apart, numbers, squares, *, pull, clip
):  # fmt: skip
    """A step of AdamW on the rows of a table that were ever looked up, in place."""
    looked_up = (place >= 0).unsqueeze(1)
    gradient = torch.where(looked_up, sums[place.clamp(min=0)], 0.0)
    gradient = pulled(gradient, values, start, pull)
    after = moved(gradient, values, moments, numbers, squares, clip)
    seen |= place >= 0
    for tensor, new in zip((values, *moments), after, strict=True):
        tensor.copy_(torch.where(seen.unsqueeze(1) != 0, new, tensor))
    if start is not None:
        apart.copy_(torch.where(seen != 0, (values != start).sum(1).float(), apart))
