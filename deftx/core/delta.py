"""Differences of two sets of weights, computed tensor by tensor when asked for."""

from collections.abc import Iterable, Mapping
from typing import Self

import torch

from deftx.store.errors import InputError
from deftx.store.lazy import Lazy


class Delta(Lazy):
    """δ = finetuned − start in float32, over the names of `start`. Raises InputError for a tensor
    whose two shapes differ, when it is asked for."""

    @classmethod
    def between(
        cls, start: Mapping[str, torch.Tensor], finetuned: Mapping[str, torch.Tensor]
    ) -> Self:
        """The difference of two sets of weights. Raises InputError at once if a name of `start` is
        absent from `finetuned`."""
        for name in start:
            if name not in finetuned:
                raise InputError(f"{name}: in the start weights, but not in the fine-tuned ones")

        def difference(name: str) -> torch.Tensor:
            before, after = start[name], finetuned[name]
            if before.shape != after.shape:
                raise InputError(
                    f"{name}: shape {tuple(after.shape)} after fine-tuning, {tuple(before.shape)} "
                    "before"
                )
            return after.float() - before.float()

        return cls(start, difference)


def only(tensors: Mapping[str, torch.Tensor], names: Iterable[str]) -> Lazy:
    """The tensors under some of their names, in name order. Raises InputError if one is
    absent."""
    names = sorted(names)
    if missing := [name for name in names if name not in tensors]:
        raise InputError(f"{missing[0]}: none of the {len(tensors)} tensors has this name")
    return Lazy(names, tensors.__getitem__)
