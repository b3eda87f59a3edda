"""The cross-entropy of a frozen decoder over a large vocabulary, and its gradients.

A GPU multiplies by a matrix of 250,112 rows in a third of the time that it needs for one of
250,002: each row of the other operand should begin at a multiple of 16 bytes.
"""

from typing import Any

import torch
from torch.nn.functional import linear, pad

from deftx.engine.objective import at_least_float32, rounded_up
from deftx.models.device import has_kernels
from deftx.models.token_arrays import IGNORED

LOGITS_AT_ONCE = {"cpu": 2**25, "cuda": 2**28}
"""Entries of the logits that exist at one time: 128 MiB in float32, 512 in bfloat16."""

TILE = 64
"""Processors multiply blocks of this many rows."""

ALIGNED = 128
"""A padded vocabulary is a multiple of this."""


def padded(weight: torch.Tensor) -> torch.Tensor:
    """A decoder's weight (v, h) with rows of zeros at its end, which `decoder_loss` does not
    count."""
    return pad(weight, (0, 0, 0, rounded_up(len(weight), ALIGNED) - len(weight)))


def decoder_loss(
    features: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, targets: torch.Tensor
) -> torch.Tensor:
    """Σ cross-entropy(features · weightᵀ + bias, targets), float32 (), of a frozen `weight`:
    `features` (p, h), `targets` (p,) with IGNORED where nothing counts, `bias` (v,) or None, and
    `weight` (v, h), which with a bias may be `padded`.

    Gradients of features and bias are made on the way, some rows of the logits at a time; no
    logits are kept for backward.
    """
    if bias is None:
        bias = features.new_zeros(weight.shape[0])
    # Asked here: inside of the function no gradients are recorded.
    return _DecoderLoss.apply(features, weight, bias, targets, torch.is_grad_enabled())


class _DecoderLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        features: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor,
        targets: torch.Tensor,
        wanted: bool,
    ) -> torch.Tensor:
        bias = at_least_float32(bias)
        total = bias.new_zeros(())
        gradients, bias_gradient = [], torch.zeros_like(bias)
        rows = max(1, LOGITS_AT_ONCE[weight.device.type] // weight.shape[0] // TILE) * TILE
        for few, labels in zip(features.split(rows), targets.split(rows), strict=True):
            logits = linear(few.to(weight.dtype), weight)
            losses, slope = cross_entropy(logits, bias, labels, wanted)
            total = total + losses.sum()
            if slope is not None:
                gradients.append(slope.to(weight.dtype) @ weight)
                bias_gradient += slope[:, : len(bias)].sum(0, dtype=bias.dtype)
        if wanted:
            ctx.save_for_backward(torch.cat(gradients).to(features.dtype), bias_gradient)
        return total

    @staticmethod
    def backward(ctx: Any, slope: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        features, bias = ctx.saved_tensors
        return slope.to(features.dtype) * features, None, slope * bias, None, None


def cross_entropy(
    logits: torch.Tensor, bias: torch.Tensor, targets: torch.Tensor, wanted: bool
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The cross-entropy of each row of logits + bias, 0 where nothing counts, and its gradient if
    that is `wanted`; logits beyond the length of `bias` do not count. Overwrites the logits."""
    if logits.is_cuda and has_kernels():
        from deftx.engine.kernels import cross_entropy_

        losses = cross_entropy_(logits, bias, targets, ignored=IGNORED, slope=wanted)
        return losses, logits if wanted else None
    counts, place = targets != IGNORED, targets.clamp(min=0).unsqueeze(1)
    scores = at_least_float32(logits)
    scores[:, len(bias) :] = float("-inf")
    scores[:, : len(bias)] += bias
    log_p = torch.log_softmax(scores, dim=-1)
    losses = -log_p.gather(1, place).squeeze(1) * counts
    if not wanted:
        return losses, None
    slope = log_p.exp_()  # in place: of each of these there is a tenth of a gigabyte
    slope.scatter_add_(1, place, slope.new_full(place.shape, -1.0))
    return losses, slope.mul_(counts.unsqueeze(1))
