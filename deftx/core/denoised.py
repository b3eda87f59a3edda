"""The denoised difference as an artefact: which tensors it holds, and how to read it back.

Apart from lowrank.py, so that an edit of the algorithm does not make readers stale.
"""

from collections.abc import Iterator, Mapping

import torch

from deftx.store.tensors import TensorFile


class Denoised(Mapping[str, torch.Tensor]):
    """A denoised difference on disk: name → dense float32 tensor, multiplied out when asked for."""

    def __init__(self, file: TensorFile) -> None:
        self._file = file
        self.provenance = file.provenance
        suffixes = (".delta", ".left")
        self._names = sorted(
            n.removesuffix(s) for n in self._file for s in suffixes if n.endswith(s)
        )

    def __getitem__(self, name: str) -> torch.Tensor:
        if f"{name}.delta" in self._file:
            dense = self._file[f"{name}.delta"]
        else:
            dense = self._file[f"{name}.left"] @ self._file[f"{name}.right"]
        if f"{name}.residual_index" in self._file:
            flat = dense.reshape(-1)
            flat[self._file[f"{name}.residual_index"]] += self._file[f"{name}.residual_value"]
        return dense

    def __contains__(self, name: object) -> bool:
        return name in self._names  # that of Mapping would multiply the factors

    def spectrum(self, name: str) -> torch.Tensor | None:
        """All singular values of a matrix's raw difference, descending; None if not denoised."""
        key = f"{name}.singular_values"
        return self._file.get(key)

    def rank(self, name: str) -> int:
        """How many components of a matrix were kept. Raises KeyError if it was not denoised."""
        return int(self.provenance["ranks"][name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)
