"""Denoising: the leading singular components of every matrix of a difference of weights.

Source: Simon & Jyothi 2025, Figure 1 (lower-order components are signal, higher-order ones are
noise). Where the paper is silent the choices are ours; docs/method.md lists them.

The automatic rules take a matrix for one of low rank plus independent noise of one standard
deviation σ. Then most singular values are those of noise, and their median gives σ, which nobody
has to choose. Sources: Gavish & Donoho 2014, "The optimal hard threshold for singular values is
4/√3", unknown noise level; Marchenko & Pastur 1967 for the singular values of noise.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from math import cos, pi, sin, sqrt
from typing import Any

import numpy as np
import torch
from scipy.integrate import quad
from scipy.optimize import brentq

from deftx.core.low_rank import LowRank
from deftx.core.places import in_embeddings
from deftx.core.ranking import largest
from deftx.stages.denoise.settings import Automatic, RankRule
from deftx.store.errors import InputError


def spectrum(matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Singular values (k,), descending, and the singular vectors of the shorter side (k, k) as
    columns, both float64, for an (m, n) matrix with k = min(m, n).

    By eigen-decomposition of the small Gram matrix: for 250,002 × 768 that is a 768 × 768 problem.
    In float64, since squaring costs half of the digits: in float32 small singular values would
    be noise.
    """
    tall = matrix if matrix.shape[0] >= matrix.shape[1] else matrix.T
    side = tall.shape[1]
    gram = torch.zeros(side, side, dtype=torch.float64, device=matrix.device)
    for block in tall.split(16_384):  # so that no float64 copy of a large matrix is made
        wide = block.double()
        gram += wide.T @ wide
    eigenvalues, vectors = torch.linalg.eigh(gram)
    return eigenvalues.flip(0).clamp(min=0).sqrt(), vectors.flip(1)


def low_rank(matrix: torch.Tensor, rule: RankRule) -> LowRank:
    """The (m, n) matrix with only its leading components kept, as many as `rule` says."""
    rows, columns = matrix.shape
    values, vectors = spectrum(matrix)
    rank = _rank(matrix, values.tolist(), rule)
    basis = vectors[:, :rank]
    if rank:  # LAPACK leaves the sign open: the largest entry of each is made positive
        peak = basis.abs().argmax(dim=0, keepdim=True)
        basis = basis * basis.gather(0, peak).sign()
    # Projecting onto the kept singular vectors needs no division by small singular values.
    if rows >= columns:
        left, right = _times(matrix, basis), basis.T.float()
    else:
        left, right = basis.float(), _times(matrix.T, basis).T
    left, right = left.contiguous(), right.contiguous()
    kept = LowRank(left, right, rank=rank, singular_values=values)
    if rank * (rows + columns) >= rows * columns:
        kept = LowRank(delta=left @ right, rank=rank, singular_values=values)
    if not rule.residual_keep:
        return kept
    discarded = (matrix - left @ right).reshape(-1)
    index = largest(discarded, round(rule.residual_keep * discarded.numel()))
    return replace(kept, residual_index=index, residual_value=discarded[index])


def denoise(delta: Mapping[str, torch.Tensor], **rule: Any) -> dict[str, torch.Tensor]:
    """The tensors of `delta` denoised, dense, by `RankRule(**rule)`: `denoise(delta, rank=100)`.

    Raises as `decompose` does, and ValidationError if the rule is none.
    """
    return {name: kept.product() for name, kept in decompose(delta, RankRule(**rule))}


def decompose(
    delta: Mapping[str, torch.Tensor],
    rule: RankRule,
    device: torch.device | None = None,
    embeddings: Collection[str] | None = None,
) -> Iterator[tuple[str, LowRank]]:
    """Name and denoised form of each tensor of `delta`, in name order; each is read once, and one
    is in memory at a time.

    Matrices are denoised on `device`, by default where each is, and stay there. Other tensors, and
    embeddings if the rule leaves them out, come back as they are, with `rank` None; `embeddings`
    are
    the names of the latter, by default those that BERT would have.

    Raises InputError if a tensor is not finite, and at the end if the rule truncated no matrix,
    unless it has `allow_full_rank`.
    """
    truncated = matrices = 0
    for name in sorted(delta):
        tensor = delta[name]
        # Both are NaN if an entry is; and unlike flags for all entries they take no memory.
        if not torch.isfinite(torch.stack(tensor.aminmax())).all():
            raise InputError(f"{name}: the difference is not finite")
        inside = in_embeddings(name) if embeddings is None else name in embeddings
        if not rule.applies_to(tensor.shape, inside):
            yield name, LowRank(delta=tensor)
            continue
        kept = low_rank(tensor.to(device), rule)
        matrices += 1
        truncated += kept.rank is not None and kept.rank < min(tensor.shape)
        yield name, kept
    if not truncated and not rule.allow_full_rank:
        raise InputError(
            f"denoise rule {rule.slug()!r} truncates none of {matrices} matrices, so it changes "
            "nothing: lower it, or say allow_full_rank: true"
        )


def _rank(matrix: torch.Tensor, values: list[float], rule: RankRule) -> int:
    if rule.auto is None:
        return rule.components(values, *matrix.shape)
    # Most tokens do not occur in a text: rows that never changed are no sample of the noise.
    rows, columns = 0, matrix.new_zeros(matrix.shape[1], dtype=torch.bool)
    for block in matrix.split(16_384):
        changed = block != 0
        rows += int(changed.any(dim=1).sum())
        columns |= changed.any(dim=0)
    return signal_rank(values, rows, int(columns.sum()), rule.auto)


def _times(matrix: torch.Tensor, basis: torch.Tensor) -> torch.Tensor:
    """A float32 matrix times a float64 basis, multiplied in float64, as float32."""
    return torch.cat([(block.double() @ basis).float() for block in matrix.split(16_384)])


def signal_rank(singular_values: Sequence[float], rows: int, columns: int, rule: Automatic) -> int:
    """How many singular values (descending) of a matrix exceed the noise; `rows` and `columns` are
    the numbers of its rows and columns that are not zero.

    Design choices: singular values within the rounding error count as zero. If their median is
    zero there is no noise, and the result is the rank; likewise for a single row or column.
    """
    short, long = sorted((rows, columns))
    values = np.asarray(singular_values[:short], dtype=np.float64)  # all others are zero
    if not values.any():
        return 0
    # The values are roots of eigenvalues, and an error of ε in these is one of √ε.
    rounding = values[0] * sqrt(long * np.finfo(np.float64).eps)
    median = float(np.median(values))
    bound = median_factor(short / long, rule) * median
    return int((values > (rounding if short == 1 or median <= rounding else bound)).sum())


@cache
def median_factor(beta: float, rule: Automatic) -> float:
    """The smallest singular value that is kept, in units of the median one, of matrices whose
    sides have the ratio β = short / long ≤ 1. For `optimal-threshold` that is Gavish & Donoho's
    ω(β) = λ*(β) / √μ_β, by quadrature."""
    return BOUNDS[rule](beta) / sqrt(noise_median(beta))


def optimal_threshold(beta: float) -> float:
    """λ*(β) of Gavish & Donoho, in units of σ·√long: with a smaller singular value a component is
    recovered so badly that the squared error is less without it."""
    return sqrt(2 * (beta + 1) + 8 * beta / (beta + 1 + sqrt(beta * beta + 14 * beta + 1)))


def noise_edge(beta: float) -> float:
    """1 + √β, in units of σ·√long: where the singular values of noise end in the limit of large
    matrices."""
    return 1 + sqrt(beta)


BOUNDS = {"optimal-threshold": optimal_threshold, "noise-edge": noise_edge}


def noise_median(beta: float) -> float:
    """μ_β, the median of the Marchenko-Pastur distribution for 0 < β ≤ 1: that of the squared
    singular values of noise, in units of σ²·long."""

    # Its density has square roots at both ends; in this variable it is smooth.
    def place(angle: float) -> float:
        return 1 + beta - 2 * sqrt(beta) * cos(angle)

    def below(angle: float) -> float:
        return quad(lambda x: 2 * sin(x) ** 2 / (pi * place(x)), 0, angle)[0]

    return place(brentq(lambda angle: below(angle) - 0.5, 0, pi))
