"""Stage `mask`: choose exactly K entries, at once or in several rounds."""

import re
from collections.abc import Mapping
from fractions import Fraction
from math import prod
from pathlib import Path
from typing import Self

from pydantic import model_validator

from deftx.core.delta import Only
from deftx.core.mask import Mask, load_mask, mask_layout, mask_tensors
from deftx.core.shares import group_names
from deftx.models.base import Base
from deftx.models.vectors import dense_vector
from deftx.stages.full.settings import RoundOf
from deftx.stages.mask.math import NOTHING, everything, top_k, top_k_in_groups, uniform
from deftx.stages.mask.settings import ObservedShares, Selection, entries
from deftx.store.errors import ArtefactError, InputError
from deftx.store.seeds import stream
from deftx.store.tensors import TensorFile, save_tensors


class Params(RoundOf):
    """Which entries may be chosen, and how."""

    method: str
    target: str
    start: str = "base"
    seed: int = 0
    selection: Selection

    @model_validator(mode="after")
    def _rounds_have_a_budget(self) -> Self:
        if self.rounds > 1 and self.selection.score == "none":
            raise ValueError(f"rounds is {self.rounds}, but score: none takes everything at once")
        return self


def mask(
    params: Params,
    *,
    base: Path,
    delta: Path | None = None,
    start_vector: Path | None = None,
    observed: Path | None = None,
    chosen: Path | None = None,
    out: Path,
) -> None:
    """Write the chosen entries; `delta` is a full or a denoise artefact, `observed` a mask.

    Of n rounds the i-th ends with K · i // n entries: those of `chosen`, the mask of the round
    before, and the rest from among all others.

    Raises ArtefactError if an input was made for another base, or `chosen` is not what the round
    before leaves; InputError as the functions of `deftx.stages.mask.math` do, if nothing may be
    chosen, or if an input is missing.
    """
    encoder = Base.load(base)
    rule = params.selection
    shapes = encoder.candidates(rule.choose_from, rule.layer_norm)
    inputs: dict[str, str] = {}

    def opened(name: str, path: Path | None, why: str) -> TensorFile:
        if path is None:
            raise InputError(f"{why} (--{name})")
        file = TensorFile(path)
        inputs[name] = file.content
        return file

    if rule.score == "none":
        found = everything(shapes)
    else:
        if rule.budget is None:
            raise InputError("selection.budget: missing; a whole number, a share or a ratio")
        total = entries(rule.budget, sum(map(prod, encoder.maskable.values())))
        before, after = params.budgets(total)
        former = NOTHING
        if params.round > 1:
            why = f"round {params.round} adds to the mask of round {params.round - 1}"
            former = _former(opened("chosen", chosen, why), encoder, shapes, before)
        elif chosen is not None:
            raise InputError("round 1 chooses the first entries: there is no mask before it")
        if rule.score == "random":
            seed = stream(params.seed, params.target, "mask")
            more = uniform(shapes, after - before, seed, former)
        else:
            file = opened("delta", delta, "score: magnitude needs the difference")
            scores = Only(dense_vector(file, encoder, start_vector), shapes)
            if rule.shares is None:
                more = top_k(scores, after - before, former)
            else:
                shares: Mapping[str, float | Fraction]
                if isinstance(rule.shares, ObservedShares):
                    reference = load_mask(
                        opened("observed", observed, "observed shares need a mask")
                    )
                    shares = observed_shares(reference, shapes, rule.shares.groups)
                else:
                    shares = rule.shares
                more = top_k_in_groups(scores, after - before, shares, former, total)
        found = former | more
    save_tensors(
        out,
        mask_tensors(found),
        stage="mask",
        method=params.method,
        target=params.target,
        start=params.start,
        seed=params.seed,
        base=encoder.identity,
        k=len(found),
        layout=mask_layout(found),
        params=params.model_dump(),
        inputs=inputs,
    )


def _former(
    file: TensorFile, base: Base, shapes: Mapping[str, tuple[int, ...]], count: int
) -> Mask:
    """The mask of the round before."""
    base.check(file.provenance, file.path)
    former = load_mask(file)
    if others := sorted(former.index.keys() - shapes.keys()):
        raise ArtefactError(f"{file.path}: entries of {others[0]}, of which none may be chosen")
    if len(former) != count:
        raise ArtefactError(
            f"{file.path}: {len(former)} entries, but the round before ends with {count}"
        )
    return former


def observed_shares(
    mask: Mask, shapes: dict[str, tuple[int, ...]], groups: list[str] | None
) -> dict[str, Fraction]:
    """Group → the part of a mask's entries that lies in it; each tensor is a group by default."""
    members = group_names(shapes, groups or [re.escape(name) + "$" for name in sorted(shapes)])
    return {
        group: Fraction(sum(len(mask.index.get(name, ())) for name in names), len(mask))
        for group, names in members.items()
    }
