"""Choosing the entries that train: exactly K of them, with a stated rule for ties.

Sources: LT-SFT (Ansell et al. 2022, section 3): the K entries that changed most, pooled over all
tensors. SC-SFT (Sharma & Chauhan, section 3.3): the same inside groups of tensors that share K
out. Rand-SFT (ibid.): K drawn uniformly. Exactness and ties are design choices: the public code
takes every entry at the threshold, and so more than K where entries tie.
"""

import hashlib
import re
from collections.abc import Mapping
from fractions import Fraction
from math import prod

import numpy as np
import torch

from deftx.core.delta import only
from deftx.core.mask import Mask
from deftx.core.places import in_lower_part
from deftx.core.ranking import pooled
from deftx.core.shares import group_names, largest_remainder
from deftx.stages.mask.settings import ObservedShares, Selection
from deftx.store.errors import InputError

NOTHING = Mask({}, {})
"""No entry at all."""


def choose(
    rule: Selection,
    shapes: Mapping[str, tuple[int, ...]],
    k: int,
    *,
    total: int,
    former: Mask = NOTHING,
    scores: Mapping[str, torch.Tensor] | None = None,
    observed: Mask | None = None,
    seed: int = 0,
    known_as: Mapping[str, str] | None = None,
) -> Mask:
    """The k entries that a rule chooses from tensors of these shapes, those of `former` among them;
    `total` is the budget of all rounds. `scores` serve a rule by magnitude, `observed` is the mask
    for observed shares, `seed` serves a random choice, and `known_as` has the names that groups are
    matched with, if others. Raises InputError as the functions below do.

    With `keep_lower`, k entries of the part that is kept, and those entries of the part that is
    discarded that the rule chooses without it. `known_as` must have all parameters of the base.
    """
    if rule.keep_lower is not None:
        assert known_as is not None
        lower = in_lower_part(known_as, rule.keep_lower)
        kept, discarded = shapes.keys() & lower, shapes.keys() - lower
        whole = rule.model_copy(update={"keep_lower": None})
        every = choose(whole, shapes, k, total=total, scores=scores, seed=seed)
        inside = choose(
            whole,
            {name: shapes[name] for name in kept},
            k,
            total=total,
            scores=scores and only(scores, kept),
            seed=seed,
        )
        return inside | every.only(discarded)
    more = k - len(former)
    if rule.score == "none":
        return everything(shapes)
    if rule.score == "random":
        return former | uniform(shapes, more, seed, former)
    assert scores is not None
    if rule.shares is None:
        return former | top_k(scores, more, former)
    if not isinstance(rule.shares, ObservedShares):
        return former | top_k_in_groups(scores, more, rule.shares, former, total, known_as)
    assert observed is not None
    each = [re.escape((known_as or {}).get(name, name)) + "$" for name in sorted(shapes)]
    shares = {
        group: Fraction(sum(len(observed.index.get(name, ())) for name in names), len(observed))
        for group, names in group_names(shapes, rule.shares.groups or each, known_as).items()
    }
    return former | top_k_in_groups(scores, more, shares, former, total, known_as)


def top_k(delta: Mapping[str, torch.Tensor], k: int, besides: Mask = NOTHING) -> Mask:
    """The k entries of largest magnitude over all tensors of `delta`, pooled, among those that
    `besides` has not chosen. Ties go to the smaller tensor name, then to the smaller row-major
    position.

    Raises InputError if k is not positive or larger than the number of entries that differ from
    zero, or if a tensor is not finite.
    """
    return pooled(delta, delta.__getitem__, k, besides=besides)


def top_k_in_groups(
    delta: Mapping[str, torch.Tensor],
    k: int,
    shares: Mapping[str, float | Fraction],
    besides: Mask = NOTHING,
    total: int | None = None,
    known_as: Mapping[str, str] | None = None,
) -> Mask:
    """k entries, shared out over groups of tensors and chosen as by `top_k` inside each group.

    `shares` maps a regular expression, matched from the start of the tensor name (or what it is
    known as), to its part of
    the `total`: by default k and what `besides` has chosen. Each tensor belongs to the first
    expression that matches. The parts are rounded by largest remainder, so that they sum to exactly
    `total`, and the k are shared out likewise in proportion to what each group still lacks, so that
    no group ever has to give an entry back (a design choice).

    Raises InputError if the shares do not sum to 1, a tensor belongs to no group, a group matches
    no tensor, `total` leaves no room for k, a group has more entries already than its part, or
    fewer non-zero entries than it should get.
    """
    groups = group_names(delta, shares, known_as)
    total = len(besides) + k if total is None else total
    room = total - len(besides)
    if not 1 <= k <= room:
        raise InputError(
            f"k must be at least 1 and at most {room}, what is left of {total}; got {k}"
        )
    parts, lacking = largest_remainder(total, shares), {}
    for pattern, names in groups.items():
        chosen = sum(len(besides.index.get(name, ())) for name in names)
        lacking[pattern] = parts[pattern] - chosen
        if lacking[pattern] < 0:
            raise InputError(
                f"group '{pattern}': {chosen} entries are chosen already, its part is "
                f"{parts[pattern]}"
            )
    left = sum(lacking.values())
    more = largest_remainder(k, {p: Fraction(few, left) for p, few in lacking.items()})
    mask = NOTHING
    for pattern, names in groups.items():
        if more[pattern]:
            where = f"group '{pattern}': "
            mask |= pooled(names, delta.__getitem__, more[pattern], where, besides=besides)
    return mask


def uniform(
    shapes: Mapping[str, tuple[int, ...]], k: int, seed: int, besides: Mask = NOTHING
) -> Mask:
    """k entries drawn uniformly without replacement over all tensors of these shapes, from those
    that `besides` has not chosen.

    Each entry gets a random score from a stream keyed by (seed, tensor name), and the largest win:
    the draw depends neither on the order of tensors nor on earlier draws, and several rounds with
    one seed draw what a single round does.
    """

    def scores(name: str) -> torch.Tensor:
        key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
        generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, key])))
        score = generator.random(shapes[name])
        # 1 - u is in (0, 1]: a score of zero would count as "never moved".
        return torch.from_numpy(np.subtract(1.0, score, out=score))

    return pooled(shapes, scores, k, besides=besides)


def everything(shapes: Mapping[str, tuple[int, ...]]) -> Mask:
    """Every entry of the tensors of these shapes."""
    return Mask({name: torch.arange(prod(shape)) for name, shape in shapes.items()}, dict(shapes))
