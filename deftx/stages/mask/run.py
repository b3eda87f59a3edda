"""Stage `mask`: choose exactly K entries, at once or in several rounds."""

from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any, Self

from pydantic import model_validator

from deftx.core.delta import only
from deftx.core.mask import Mask, load_mask, mask_layout, mask_tensors
from deftx.models.base import Base
from deftx.models.vectors import dense_vector
from deftx.stages.full.settings import RoundOf
from deftx.stages.mask.math import choose
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
    """Write the chosen entries; `delta` is a full or a denoise artefact, `observed` a mask. Round i
    of n ends with K · i // n entries, among them those of `chosen`, the mask of the round before.

    Raises ArtefactError if an input was made for another base or `chosen` is not what the round
    before leaves; InputError as `choose` does, or if an input is missing.
    """
    encoder = Base.load(base)
    rule = params.selection
    shapes = encoder.candidates(rule.choose_from, rule.layer_norm)
    if rule.score != "none" and rule.budget is None:
        raise InputError("selection.budget: missing; a whole number, a share or a ratio")
    total = entries(rule.budget or 0, sum(map(prod, encoder.maskable.values())))
    before, after = params.budgets(total)
    files: dict[str, TensorFile] = {}

    def opened(role: str, path: Path | None, why: str) -> TensorFile:
        if path is None:
            raise InputError(f"{why} (--{role})")
        files[role] = TensorFile(path)
        return files[role]

    read: dict[str, Any] = {"known_as": encoder.known_as}
    if params.round > 1:
        why = f"round {params.round} adds to the mask of round {params.round - 1}"
        read["former"] = _former(opened("chosen", chosen, why), encoder, shapes, before)
    elif chosen is not None:
        raise InputError("round 1 chooses the first entries: there is no mask before it")
    if rule.score == "magnitude":
        file = opened("delta", delta, "score: magnitude needs the difference")
        read["scores"] = only(dense_vector(file, encoder, start_vector), shapes)
        if isinstance(rule.shares, ObservedShares):
            read["observed"] = load_mask(
                opened("observed", observed, "observed shares need a mask")
            )
    seed = stream(params.seed, params.target, "mask")
    found = choose(rule, shapes, after, total=total, seed=seed, **read)
    save_tensors(
        out,
        mask_tensors(found),
        stage="mask",
        **params.model_dump(include={"method", "target", "start", "seed"}),
        base=encoder.identity,
        k=len(found),
        layout=mask_layout(found),
        params=params.model_dump(),
        inputs={name: file.content for name, file in files.items()},
    )


def _former(
    file: TensorFile, base: Base, shapes: Mapping[str, tuple[int, ...]], count: int
) -> Mask:
    """The mask of the round before."""
    base.check(file.provenance, file.path)
    former = load_mask(file)
    for name in former.index.keys() - shapes.keys():
        raise ArtefactError(f"{file.path}: entries of {name}, a tensor that may not be chosen from")
    if len(former) != count:
        raise ArtefactError(
            f"{file.path}: {len(former)} entries, but the round before ends with {count}"
        )
    return former
