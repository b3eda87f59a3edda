"""Denoising: the leading singular components of every matrix of a difference of weights.

Source: Simon & Jyothi 2025, Figure 1 (lower-order components are signal, higher-order ones are
noise). Where the paper is silent the choices are ours; docs/method.md lists them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from deftx.core.ranking import largest
from deftx.stages.denoise.noise import signal_rank
from deftx.stages.denoise.settings import RankRule
from deftx.store.errors import InputError


@dataclass(frozen=True)
class LowRank:
    """A matrix denoised: what is kept of U Σ Vᵀ, and the spectrum that it was cut from.

    Attributes:
        left: (m, r) float32, U Σ; None where the dense product is not larger than the factors.
        right: (r, n) float32, Vᵀ; None likewise.
        dense: (m, n) float32, the product itself; None where factors are stored.
        singular_values: (min(m, n),) float64, all of them, descending.
        rank: r.
        residual: (index, value) of the kept part of the discarded matrix: row-major flat
            positions (int64, ascending) and float32 values; None where nothing is kept.
    """

    left: torch.Tensor | None
    right: torch.Tensor | None
    dense: torch.Tensor | None
    singular_values: torch.Tensor
    rank: int
    residual: tuple[torch.Tensor, torch.Tensor] | None = None

    def product(self) -> torch.Tensor:
        """The denoised matrix (m, n) itself, its residual included."""
        if self.dense is not None:
            product = self.dense.clone()
        else:
            assert self.left is not None and self.right is not None
            product = self.left @ self.right
        if self.residual is not None:
            index, value = self.residual
            product.view(-1)[index] += value
        return product


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
    basis = _fixed_signs(vectors[:, :rank])
    # Projecting onto the kept singular vectors needs no division by small singular values.
    if rows >= columns:
        left, right = _times(matrix, basis), basis.T.float()
    else:
        left, right = basis.float(), _times(matrix.T, basis).T
    left, right = left.contiguous(), right.contiguous()
    residual = None
    if rule.residual_keep:
        discarded = (matrix - left @ right).reshape(-1)
        index = largest(discarded, round(rule.residual_keep * discarded.numel()))
        residual = index, discarded[index]
    if rank * (rows + columns) < rows * columns:
        return LowRank(left, right, None, values, rank, residual)
    return LowRank(None, None, left @ right, values, rank, residual)


def denoise(delta: Mapping[str, torch.Tensor], **rule: Any) -> dict[str, torch.Tensor]:
    """The tensors of `delta` denoised, dense, by `RankRule(**rule)`: `denoise(delta, rank=100)`.

    Raises as `decompose` does, and ValidationError if the rule is none.
    """
    parts = decompose(delta, RankRule(**rule))
    return {
        name: kept if isinstance(kept, torch.Tensor) else kept.product() for name, kept in parts
    }


def decompose(
    delta: Mapping[str, torch.Tensor], rule: RankRule, device: torch.device | None = None
) -> Iterator[tuple[str, LowRank | torch.Tensor]]:
    """Name and denoised form of each tensor of `delta`, in name order; each is read once, and one
    is in memory at a time.

    Matrices become `LowRank`, computed and left on `device`, or by default where each matrix is;
    tensors of another dimension, and embeddings if the rule leaves them out, come back raw and
    compete in the mask as they are.

    Raises InputError if a tensor is not finite, and at the end if the rule truncated no matrix,
    unless the rule says that this is meant.
    """
    truncated = matrices = 0
    for name in sorted(delta):
        tensor = delta[name]
        # Both are NaN if an entry is; and unlike flags for all entries they take no memory.
        if not torch.isfinite(torch.stack(tensor.aminmax())).all():
            raise InputError(f"{name}: the difference is not finite")
        if not rule.applies_to(name, tensor.shape):
            yield name, tensor
            continue
        kept = low_rank(tensor.to(device), rule)
        matrices += 1
        truncated += kept.rank < min(tensor.shape)
        yield name, kept
    if not truncated and not rule.allow_full_rank:
        raise InputError(
            f"denoise rule {rule.slug()!r} truncates none of {matrices} matrices, so it changes "
            "nothing: lower it, or say allow_full_rank: true"
        )


def _rank(matrix: torch.Tensor, values: list[float], rule: RankRule) -> int:
    """How many leading components of a matrix with these singular values are kept."""
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
    """matrix (m, k) float32 times basis (k, r) float64: (m, r) float32, multiplied in float64."""
    return torch.cat([(block.double() @ basis).float() for block in matrix.split(16_384)])


def _fixed_signs(vectors: torch.Tensor) -> torch.Tensor:
    """Columns (k, r) with their largest entry made positive: LAPACK leaves the sign open."""
    if not vectors.numel():
        return vectors
    largest = vectors.abs().argmax(dim=0, keepdim=True)
    return vectors * vectors.gather(0, largest).sign()
