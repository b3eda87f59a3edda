"""Differences of two sets of weights, computed tensor by tensor when asked for."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Self

import torch

from deftx.store.errors import InputError


class Delta(Mapping[str, torch.Tensor]):
    """δ = finetuned − start, per tensor, in float32; nothing is computed before it is asked for.

    Lazy, so that a difference of two files needs the memory of one tensor at a time.
    """

    def __init__(
        self, start: Mapping[str, torch.Tensor], finetuned: Mapping[str, torch.Tensor]
    ) -> None:
        self._start = start
        self._finetuned = finetuned

    @classmethod
    def between(
        cls, start: Mapping[str, torch.Tensor], finetuned: Mapping[str, torch.Tensor]
    ) -> Self:
        """The difference over the names of `start`. Raises InputError where a name of `start` is
        absent from `finetuned` or has another shape there."""
        for name in start:
            if name not in finetuned:
                raise InputError(f"{name}: in the start weights, but not in the fine-tuned ones")
        return cls(start, finetuned)

    def __getitem__(self, name: str) -> torch.Tensor:
        start, finetuned = self._start[name], self._finetuned[name]
        if start.shape != finetuned.shape:
            raise InputError(
                f"{name}: shape {tuple(finetuned.shape)} after fine-tuning, "
                f"{tuple(start.shape)} before"
            )
        return finetuned.float() - start.float()

    def __contains__(self, name: object) -> bool:
        return name in self._start  # that of Mapping would compute the difference

    def __iter__(self) -> Iterator[str]:
        return iter(self._start)

    def __len__(self) -> int:
        return len(self._start)


class Changed(Mapping[str, torch.Tensor]):
    """A mapping whose tensors are changed by a function of name and tensor when asked for."""

    def __init__(
        self,
        tensors: Mapping[str, torch.Tensor],
        change: Callable[[str, torch.Tensor], torch.Tensor],
    ) -> None:
        self._tensors, self._change = tensors, change

    def __getitem__(self, name: str) -> torch.Tensor:
        return self._change(name, self._tensors[name])

    def __contains__(self, name: object) -> bool:
        return name in self._tensors  # that of Mapping would change the tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)


class Only(Mapping[str, torch.Tensor]):
    """The tensors of a mapping under some of its names, each read when asked for. Raises KeyError
    if there is none of a name."""

    def __init__(self, tensors: Mapping[str, torch.Tensor], names: Iterable[str]) -> None:
        self._tensors, self._names = tensors, sorted(names)
        if missing := [name for name in self._names if name not in tensors]:
            raise KeyError(f"there is no tensor {missing[0]}")

    def __getitem__(self, name: str) -> torch.Tensor:
        if name not in self._names:
            raise KeyError(name)
        return self._tensors[name]

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)
