"""The mean of vectors that were trained with different seeds.

Source: model soups, Wortsman et al. 2022 (arXiv 2203.05482), for weights; since all vectors are
added to the same weights, the mean of the vectors gives the mean of the models. Sums are made in
float64 and rounded once, so equal vectors have themselves as their mean. Design choice.
"""

from collections.abc import Mapping, Sequence

import torch

from deftx.core.sparse_delta import SparseDelta, summed
from deftx.store.errors import ArtefactError
from deftx.store.lazy import Lazy

Vector = Mapping[str, torch.Tensor]
"""Name of a tensor → dense tensor, float32."""


def mean_of_sparse(vectors: Sequence[SparseDelta]) -> SparseDelta:
    """The mean of sparse vectors, whose mask is the union of theirs: an entry that a vector does
    not have counts as 0. Heads are averaged too. Raises ArtefactError if shapes differ."""
    mask, sums = summed(vectors)
    values = {name: (total / len(vectors)).float() for name, total in sums.items()}
    head = dict(mean_of_dense([vector.head for vector in vectors]))
    return SparseDelta(mask, values, head)


def mean_of_dense(vectors: Sequence[Vector]) -> Vector:
    """The mean of dense vectors, or of heads, each tensor computed when it is asked for. Raises
    ArtefactError if they have different tensors; when a tensor is asked for, if shapes differ."""
    names = set(vectors[0])
    for vector in vectors:
        if different := sorted(names ^ set(vector)):
            raise ArtefactError(f"{different[0]}: not in all of the vectors to average")

    def tensor(name: str) -> torch.Tensor:
        parts = [vector[name] for vector in vectors]
        if len(shapes := {tuple(part.shape) for part in parts}) > 1:
            raise ArtefactError(f"{name}: of different shapes in the vectors: {sorted(shapes)}")
        total = parts[0].double()
        for part in parts[1:]:
            total = total + part.double()
        return (total / len(parts)).float()

    return Lazy(sorted(names), tensor)
