"""Tensors by name, each read or computed when it is asked for."""

from collections.abc import Callable, Iterable, Iterator, Mapping

import torch


class Lazy(Mapping[str, torch.Tensor]):
    """Name → tensor, which `make` reads or computes each time that it is asked for: work on two
    files of weights then needs the memory of one tensor at a time. Only `[]` and `get` call `make`;
    iteration, `in` and `len` do not.

    Raises KeyError, after the words of `where`, for a name that is not among `names`.
    """

    def __init__(
        self, names: Iterable[str], make: Callable[[str], torch.Tensor], where: str = ""
    ) -> None:
        self._names, self._make, self._where = dict.fromkeys(names), make, where

    def __getitem__(self, name: str) -> torch.Tensor:
        if name not in self._names:
            raise KeyError(f"{self._where}no tensor {name!r}")
        return self._make(name)

    def __contains__(self, name: object) -> bool:
        return name in self._names  # that of Mapping would make the tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)
