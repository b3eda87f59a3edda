"""Scaling a vector by depth, and merging that of a task with that of a language other than by their
sum.

Sources: LiNeS (Wang et al. 2025, arXiv 2410.17146), TIES (Yadav et al. 2023, arXiv 2306.01708),
DARE (Yu et al. 2024, arXiv 2311.03099), layer swapping (Bandarkar et al. 2025, arXiv 2410.01335),
TSV-M (Gargiulo et al. 2025, arXiv 2412.00081). Where they are silent the choices are ours;
docs/method.md lists them.
"""

from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction
from functools import partial
from typing import TypeVar

import torch

from deftx.core.places import in_embeddings, layer_of, layers_among
from deftx.core.ranking import pooled
from deftx.core.sparse_delta import SparseDelta
from deftx.stages.compose.settings import Combine, Depth, LayerSwap
from deftx.store.errors import InputError
from deftx.store.lazy import Lazy
from deftx.store.seeds import stream

Vector = Mapping[str, torch.Tensor]
"""Name of a tensor → dense difference, float32."""

Rule = Callable[[str, torch.Tensor, torch.Tensor], torch.Tensor]
"""Name of a tensor, its difference for the task and for the language, in one shape → the merged."""


AnyVector = TypeVar("AnyVector", SparseDelta, Vector)


def by_depth(vector: AnyVector, depth: Depth | None, known_as: Mapping[str, str]) -> AnyVector:
    """A vector, sparse or dense, scaled by depth, or as it is. Tensors whose scale is 0 are not in
    the result; a head stays. `known_as` has the names of all of the base's parameters in BERT's
    scheme (`Base.known_as`).

    Raises InputError if nothing is left, and as `Depth.scales` does.
    """
    if depth is None:
        return vector
    of = depth.scales(known_as.values())
    names = vector.mask.index if isinstance(vector, SparseDelta) else vector
    scales = {name: scale for name in names if (scale := of(known_as[name]))}
    if not scales:
        raise InputError(f"depth: the scale of all {len(names)} tensors of the vector is 0")
    if isinstance(vector, SparseDelta):
        values = {name: vector.values[name] * scale for name, scale in scales.items()}
        return SparseDelta(vector.mask.only(scales), values, vector.head, vector.provenance)
    return Lazy(scales, lambda name: vector[name] * scales[name])


def merged(
    task: Vector,
    language: Vector,
    combine: Combine,
    seed: int,
    known_as: Mapping[str, str] | None = None,
) -> Vector:
    """Two scaled vectors as one. Each tensor is merged when it is asked for; a tensor that only one
    vector has is zero in the other. Only `dare` draws, from `seed`. `known_as` has the names of all
    of the base's parameters in BERT's scheme, which `layer_swap` reads; by default they are those
    of the vectors.

    Raises InputError if there are fewer layers than are swapped; with `ties`, if an entry is not
    finite; and, when a tensor is asked for, if it has two shapes.
    """
    names = sorted({*task, *language})
    rule: Rule
    if combine.ties is not None:
        task, language = (trimmed(vector, combine.ties.density) for vector in (task, language))
        rule = agreeing_mean
    elif combine.dare is not None:
        rule = partial(rescaled_sum, density=combine.dare.density, seed=seed)
    elif combine.tsv is not None:
        rule = singular_vectors
    else:
        assert combine.layer_swap is not None
        known = known_as or {name: name for name in names}
        of_layers = language_share(combine.layer_swap, known.values())

        def rule(name: str, task: torch.Tensor, language: torch.Tensor) -> torch.Tensor:
            share = of_layers(known[name])
            return (1 - share) * task + share * language

    def tensor(name: str) -> torch.Tensor:
        parts = [vector.get(name) for vector in (task, language)]
        present = [part for part in parts if part is not None]
        if present[0].shape != present[-1].shape:
            raise InputError(
                f"{name}: shape {tuple(present[0].shape)} in the task's vector, "
                f"{tuple(present[-1].shape)} in the language's"
            )
        first, second = (torch.zeros_like(present[0]) if p is None else p for p in parts)
        return rule(name, first, second)

    return Lazy(names, tensor)


def trimmed(vector: Vector, density: float) -> Vector:
    """The largest round(density · N) of the vector's N entries, pooled over its tensors, all others
    zero; ties as in `pooled`."""
    if density == 1:
        return vector
    total = sum(vector[name].numel() for name in vector)
    # By way of the decimal text, so that 0.02 is one fiftieth and not its binary neighbour.
    k = round(Fraction(str(density)) * total)
    kept = pooled(vector, vector.__getitem__, k, allow_zero=True)

    def tensor(name: str) -> torch.Tensor:
        full = vector[name]
        return full * kept.dense(name) if name in kept.index else torch.zeros_like(full)

    return Lazy(vector, tensor)


def agreeing_mean(_name: str, task: torch.Tensor, language: torch.Tensor) -> torch.Tensor:
    """Per entry, the mean of those values that have the sign of the sum: of both, or of one. Zero
    has no sign; opposite values of equal size give zero."""
    elected = (task + language).sign()
    parts = torch.stack([task, language])
    agree = parts.sign() == elected
    return (parts * agree).sum(dim=0) / agree.sum(dim=0).clamp(min=1)


def rescaled_sum(
    name: str, task: torch.Tensor, language: torch.Tensor, density: float, seed: int
) -> torch.Tensor:
    """The sum of both, each with entries kept at random, independently, and divided by `density`.

    The draw is keyed by seed, vector and tensor, and made on the CPU to be the same everywhere.
    """
    total = torch.zeros_like(task)
    for vector, tensor in (("task", task), ("language", language)):
        generator = torch.Generator().manual_seed(stream(seed, "dare", vector, name))
        kept = torch.rand(tensor.shape, generator=generator) < density
        total += tensor * kept.to(tensor.device) / density
    return total


def singular_vectors(_name: str, task: torch.Tensor, language: torch.Tensor) -> torch.Tensor:
    """A matrix from the leading half of the singular components of each: U Σ Vᵀ with the singular
    values of both, where U and V are the orthonormal matrices nearest to the singular vectors of
    both, side by side. All other tensors, and a matrix of a single row or column, are averaged."""
    if task.dim() != 2 or min(task.shape) < 2:
        return (task + language) / 2
    rank = min(task.shape) // 2
    parts = [leading_components(matrix.double(), rank) for matrix in (task, language)]
    left, values, right = (torch.cat(part, dim=-1) for part in zip(*parts, strict=True))
    return ((nearest_orthonormal(left) * values) @ nearest_orthonormal(right).T).to(task.dtype)


def leading_components(
    matrix: torch.Tensor, rank: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Left singular vectors (m, r), singular values (r,) and right singular vectors (n, r) of a
    matrix (m, n) in float64, by its smaller Gram matrix; without those below the rounding of
    float32."""
    if matrix.shape[0] < matrix.shape[1]:
        left, values, right = leading_components(matrix.T, rank)
        return right, values, left
    squares, vectors = torch.linalg.eigh(matrix.T @ matrix)
    values, right = squares.clamp(min=0).sqrt().flip(0)[:rank], vectors.flip(1)[:, :rank]
    kept = values > values[0] * matrix.shape[1] * torch.finfo(torch.float32).eps
    values, right = values[kept], right[:, kept]
    return matrix @ right / values, values, right


def nearest_orthonormal(columns: torch.Tensor) -> torch.Tensor:
    """X (XᵀX)^-½, the matrix with orthonormal columns that is nearest to unit columns X (orthogonal
    Procrustes). Where columns depend on each other, they share the directions that there are."""
    squares, vectors = torch.linalg.eigh(columns.T @ columns)
    inverse = torch.where(squares > 1e-12, squares, torch.inf).rsqrt()
    return columns @ (vectors * inverse) @ vectors.T


def language_share(swap: LayerSwap, names: Iterable[str]) -> Callable[[str], float]:
    """Name of a tensor in BERT's scheme → the part of it that is the language's: 1, ½ or 0.

    The number of layers is inferred from `names`. Embeddings are the language's if the lowest
    layers are, and all else outside of layers if the highest are. Raises InputError if there are
    too few layers.
    """
    layers = layers_among(names)
    swap.check_fits(layers)
    below, above = swap.ends

    def share(name: str) -> float:
        number = layer_of(name)
        if number is None:
            return float((swap.bottom if in_embeddings(name) else swap.top) > 0)
        from_top = layers - 1 - number
        if number < swap.bottom or from_top < swap.top:
            return 1.0
        return 0.5 if number < below or from_top < above else 0.0

    return share
