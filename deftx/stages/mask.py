"""Stage `mask`: choose exactly K entries."""

import re
from collections.abc import Mapping
from fractions import Fraction
from math import prod
from pathlib import Path

from deftx.base import Base
from deftx.delta import Only
from deftx.mask import Mask, load_mask, mask_layout, mask_tensors
from deftx.seeds import stream
from deftx.selection import everything, top_k, top_k_in_groups, uniform
from deftx.settings.selection import ObservedShares, Selection, entries
from deftx.settings.strict import Strict
from deftx.shares import group_names
from deftx.tensor_file import TensorFile, save_tensors
from deftx.vectors import dense_vector


class Params(Strict):
    """Which entries may be chosen, and how."""

    method: str
    target: str
    start: str = "base"
    seed: int = 0
    selection: Selection


def mask(
    params: Params,
    *,
    base: Path,
    delta: Path | None = None,
    start_vector: Path | None = None,
    observed: Path | None = None,
    out: Path,
) -> None:
    """Write the chosen entries; `delta` is a full or a denoise artefact, `observed` a mask.

    Raises ArtefactError if an input was made for another base; ValueError as the functions of
    `deftx.selection` do, or if nothing may be chosen.
    """
    encoder = Base.load(base)
    rule = params.selection
    shapes = encoder.candidates(rule.choose_from, rule.layer_norm)
    inputs = {}
    if rule.score == "none":
        chosen = everything(shapes)
    else:
        if rule.budget is None:
            raise ValueError("selection.budget: missing; a whole number, a share or a ratio")
        k = entries(rule.budget, sum(map(prod, encoder.maskable.values())))
        if rule.score == "random":
            chosen = uniform(shapes, k, stream(params.seed, params.target, "mask"))
        else:
            if delta is None:
                raise ValueError("score: magnitude needs the difference (--delta)")
            file = TensorFile(delta)
            inputs["delta"] = file.content
            scores = Only(dense_vector(file, encoder, start_vector), shapes)
            if rule.shares is None:
                chosen = top_k(scores, k)
            else:
                shares: Mapping[str, float | Fraction]
                if isinstance(rule.shares, ObservedShares):
                    if observed is None:
                        raise ValueError("observed shares need a mask (--observed)")
                    reference = TensorFile(observed)
                    inputs["observed"] = reference.content
                    shares = observed_shares(load_mask(reference), shapes, rule.shares.groups)
                else:
                    shares = rule.shares
                chosen = top_k_in_groups(scores, k, shares)
    save_tensors(
        out,
        mask_tensors(chosen),
        stage="mask",
        method=params.method,
        target=params.target,
        start=params.start,
        seed=params.seed,
        base=encoder.identity,
        k=len(chosen),
        layout=mask_layout(chosen),
        params=params.model_dump(),
        inputs=inputs,
    )


def observed_shares(
    mask: Mask, shapes: dict[str, tuple[int, ...]], groups: list[str] | None
) -> dict[str, Fraction]:
    """Group → the part of a mask's entries that lies in it; each tensor is a group by default."""
    members = group_names(shapes, groups or [re.escape(name) + "$" for name in sorted(shapes)])
    return {
        group: Fraction(sum(len(mask.index.get(name, ())) for name in names), len(mask))
        for group, names in members.items()
    }
