"""Whether methods can work on a base, told from names and shapes alone, before anything is
trained. Free of torch."""

from collections.abc import Mapping
from math import prod
from typing import Any

from deftx.core.shares import group_names, largest_remainder
from deftx.models.base import Base
from deftx.plan.method import Row
from deftx.stages.lora.settings import largest_rank
from deftx.stages.mask.settings import entries
from deftx.store.errors import InputError


def check_methods(base: Base, methods: Mapping[str, Mapping[Any, Any]]) -> None:
    """Raise InputError that names the method if, for a kind of target for which it is used, nothing
    may be chosen, K is larger than what may be or too small for its rounds or for LoRA, a group is
    empty or too small, a tensor is in no group, or a rank truncates no matrix."""
    for name, rows in methods.items():
        for kind, given in rows.items():
            row = Row.model_validate(given)
            try:
                _check_ranks(base, row)
                _check_budget(base, row)
            except ValueError as error:
                raise InputError(f"methods.{name} (for a {kind}): {error}") from None


def _check_budget(base: Base, row: Row) -> None:
    selection = row.selection
    if row.lora is not None and selection.budget is not None:
        linear = [s for n, s in base.maskable.items() if len(s) == 2 and "embeddings" not in n]
        largest_rank(linear, entries(selection.budget, sum(map(prod, base.maskable.values()))))
    shapes = base.candidates(selection.choose_from, selection.layer_norm)
    if not row.chooses or selection.score == "none":
        return
    assert selection.budget is not None, "the budget of a method is filled in by the config"
    sizes = {name: prod(shape) for name, shape in shapes.items()}
    maskable = sum(map(prod, base.maskable.values()))
    k = entries(selection.budget, maskable)
    if not row.rounds <= k <= sum(sizes.values()):
        raise InputError(
            f"budget: K is {k} ({selection.budget}, of {maskable} maskable entries), but it must "
            f"be at least {row.rounds} and at most the {sum(sizes.values())} entries that may be "
            "chosen"
        )
    if not isinstance(selection.shares, dict):  # observed shares are known later
        return
    parts = largest_remainder(k, selection.shares)
    for group, names in group_names(sizes, selection.shares).items():
        if parts[group] > (size := sum(sizes[name] for name in names)):
            raise InputError(
                f"shares: group '{group}' is to have {parts[group]} of K = {k} entries, but it has "
                f"only {size}"
            )


def _check_ranks(base: Base, row: Row) -> None:
    rule = row.denoise
    if rule is None or rule.allow_full_rank or rule.needs_spectrum:
        return
    matrices = [shape for name, shape in base.maskable.items() if rule.applies_to(name, shape)]
    if all(rule.components([], *shape) >= min(shape) for shape in matrices):
        raise InputError(
            f"denoise: {rule.slug()} truncates none of the base's {len(matrices)} matrices, whose "
            f"rank is at most {max(map(min, matrices), default=0)}: lower it, or say "
            "allow_full_rank: true"
        )
