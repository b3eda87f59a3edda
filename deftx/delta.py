"""Differences of two sets of weights, computed tensor by tensor when asked for."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Self

import torch


class Delta(Mapping[str, torch.Tensor]):
    """δ = finetuned − start, per tensor, in float32; nothing is computed before it is asked for.

    Lazy, so that a difference of two files needs the memory of one tensor at a time.
    """

    def __init__(
        self,
        start: Mapping[str, torch.Tensor],
        finetuned: Mapping[str, torch.Tensor],
        names: Iterable[str],
    ) -> None:
        self._start = start
        self._finetuned = finetuned
        self._names = sorted(names)

    @classmethod
    def between(
        cls, start: Mapping[str, torch.Tensor], finetuned: Mapping[str, torch.Tensor]
    ) -> Self:
        """The difference over the names of `start`. Raises ValueError where a name of `start` is
        absent from `finetuned` or has another shape there."""
        for name in start:
            if name not in finetuned:
                raise ValueError(f"{name}: in the start weights, but not in the fine-tuned ones")
        return cls(start, finetuned, start)

    def only(self, names: Iterable[str]) -> Self:
        """The difference over these names alone. Raises KeyError where it has none of that name."""
        names = set(names)
        if unknown := sorted(names - set(self._names)):
            raise KeyError(f"the difference has no tensor {unknown[0]}")
        return type(self)(self._start, self._finetuned, names)

    def __getitem__(self, name: str) -> torch.Tensor:
        if name not in self._names:
            raise KeyError(name)
        start, finetuned = self._start[name], self._finetuned[name]
        if start.shape != finetuned.shape:
            raise ValueError(
                f"{name}: shape {tuple(finetuned.shape)} after fine-tuning, "
                f"{tuple(start.shape)} before"
            )
        return finetuned.float() - start.float()

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)
