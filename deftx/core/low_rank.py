"""Matrices of low rank, and the file of a difference of weights that holds them as factors.

The algorithm that makes them is in deftx/stages/denoise/math.py, so that an edit of it does not
make readers stale.
"""

from dataclasses import dataclass
from typing import Self

import torch

from deftx.core.parameters import HEAD
from deftx.store.lazy import Lazy
from deftx.store.tensors import TensorFile

PARTS = ("left", "right", "delta", "singular_values", "residual_index", "residual_value")
"""What is stored of a tensor, each under its name and one of these: attributes of `LowRank`."""


@dataclass(frozen=True)
class LowRank:
    """A tensor of a difference: a matrix as two factors, or as it is, plus a sparse residual.

    Attributes:
        left: (m, r) float32; None where the tensor is stored as it is.
        right: (r, n) float32; None likewise.
        delta: the tensor itself, float32; None where factors are stored.
        rank: r; None for a tensor that was not denoised.
        singular_values: (min(m, n),) float64, descending: the whole spectrum of the denoised
            matrix; None where none was computed.
        residual_index: row-major flat positions (int64, ascending) of discarded entries that are
            added back; None if there are none.
        residual_value: their values, float32; None likewise.
    """

    left: torch.Tensor | None = None
    right: torch.Tensor | None = None
    delta: torch.Tensor | None = None
    rank: int | None = None
    singular_values: torch.Tensor | None = None
    residual_index: torch.Tensor | None = None
    residual_value: torch.Tensor | None = None

    def product(self) -> torch.Tensor:
        """The tensor itself, its residual included."""
        if self.delta is not None:
            product = self.delta
        else:
            assert self.left is not None and self.right is not None
            product = self.left @ self.right
        if self.residual_index is None or self.residual_value is None:
            return product
        flat = product.reshape(-1).index_add(0, self.residual_index, self.residual_value)
        return flat.view(product.shape)

    def tensors(self, name: str) -> dict[str, torch.Tensor]:
        """What is stored for the tensor `name`, by the names in the file."""
        return {
            f"{name}.{part}": tensor for part in PARTS if (tensor := vars(self)[part]) is not None
        }

    @classmethod
    def read(cls, file: TensorFile, name: str) -> Self:
        """The tensor `name` of a file. Raises KeyError if the file does not have it."""
        parts = {part: file[f"{name}.{part}"] for part in PARTS if f"{name}.{part}" in file}
        return cls(**parts, rank=file.provenance.get("ranks", {}).get(name))


class DeltaFile(Lazy):
    """A difference of weights in a file: name of a parameter → dense float32 tensor, multiplied out
    when asked for. A tensor without one of the endings of `PARTS` is a difference itself; the head
    is left out."""

    def __init__(self, file: TensorFile) -> None:
        self._file, self.provenance = file, file.provenance
        split = ((key, *key.rpartition(".")[::2]) for key in file if not key.startswith(HEAD))
        names = {name if part in PARTS else key for key, name, part in split}
        super().__init__(sorted(names), self._product, f"{file.path}: ")

    def _product(self, name: str) -> torch.Tensor:
        return self._file[name] if name in self._file else LowRank.read(self._file, name).product()

    def spectrum(self, name: str) -> torch.Tensor | None:
        """All singular values of a matrix before it was denoised, descending; None if it was
        not."""
        return self._file.get(f"{name}.singular_values")

    def rank(self, name: str) -> int:
        """How many components of a matrix were kept. Raises KeyError if it was not denoised."""
        return int(self.provenance["ranks"][name])
