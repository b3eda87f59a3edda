"""Stage `check`: whether each method can work on this base, before anything is trained."""

from math import prod
from pathlib import Path

from deftx.artefact import write_json
from deftx.backbone import Base
from deftx.lowrank import is_embedding
from deftx.selection import group_names, largest_remainder
from deftx.settings.method import Kind, Row, entries
from deftx.settings.strict import Strict


class Params(Strict):
    """The methods of a config, for the kinds of target for which each is used."""

    methods: dict[str, dict[Kind, Row]]


def check(params: Params, *, base: Path, out: Path) -> None:
    """Write K of every method, having found that budgets, groups and ranks fit the base.

    Raises ValueError that names the method: nothing may be chosen, K is larger than what may be, a
    group is empty or too small, a tensor is in no group, or a rank truncates no matrix.
    """
    encoder = Base.load(base)
    budgets: dict[str, dict[str, int]] = {}
    for name, rows in params.methods.items():
        for kind, row in rows.items():
            try:
                budgets.setdefault(name, {})[kind] = _check_row(encoder, row)
            except ValueError as error:
                raise ValueError(f"methods.{name} ({kind}): {error}") from None
    write_json(out, {"base": encoder.identity, "k": budgets})


def _check_row(base: Base, row: Row) -> int:
    """K of a method on this base; raises ValueError as `check` does."""
    if row.denoise is not None:
        _check_ranks(base, row)
    selection = row.selection
    shapes = base.candidates(selection.choose_from, selection.layer_norm)
    sizes = {name: prod(shape) for name, shape in shapes.items()}
    if row.dense or selection.score == "none":
        return sum(sizes.values())
    assert selection.budget is not None, "the budget of a method is filled in by the config"
    maskable = sum(map(prod, base.maskable.values()))
    k = entries(selection.budget, maskable)
    if not 1 <= k <= sum(sizes.values()):
        raise ValueError(
            f"budget: K is {k} ({selection.budget} of {maskable} maskable entries), but it must be "
            f"at least 1 and at most the {sum(sizes.values())} entries that may be chosen"
        )
    if isinstance(selection.shares, dict):
        parts = largest_remainder(k, selection.shares)
        for group, names in group_names(sizes, selection.shares).items():
            size = sum(sizes[name] for name in names)
            if parts[group] > size:
                raise ValueError(
                    f"shares: group '{group}' is to have {parts[group]} of K = {k} entries, but it "
                    f"has only {size}"
                )
    return k


def _check_ranks(base: Base, row: Row) -> None:
    rule = row.denoise
    assert rule is not None
    if rule.allow_full_rank or rule.energy is not None:  # energy depends on what is trained
        return
    matrices = [
        shape
        for name, shape in base.maskable.items()
        if len(shape) == 2 and (rule.embeddings or not is_embedding(name))
    ]
    if all(rule.components([], *shape) >= min(shape) for shape in matrices):
        largest = max(map(min, matrices))
        raise ValueError(
            f"denoise: {rule.slug()} truncates none of the base's {len(matrices)} matrices, whose "
            f"rank is at most {largest}: lower it, or say allow_full_rank: true"
        )
