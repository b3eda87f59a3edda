"""Stage `denoise`: the leading singular components of θ1 − θs, matrix by matrix."""

from pathlib import Path

from pydantic import Field

from deftx.core.delta import Only
from deftx.models.base import Base
from deftx.models.device import available_device
from deftx.models.vectors import full_delta
from deftx.stages.denoise.math import LowRank, decompose
from deftx.stages.denoise.settings import RankRule
from deftx.store.strict import Strict
from deftx.store.tensors import TensorFile, save_tensors


class Params(Strict):
    """Which difference is denoised, and how far."""

    rule: RankRule
    target: str
    start: str = "base"
    seed: int = Field(default=0, description="of the training that made θ1; nothing is drawn here")


def denoise(
    params: Params, *, base: Path, full: Path, start_vector: Path | None = None, out: Path
) -> None:
    """Write factors, all singular values, the residual if any, raw one-dimensional differences,
    and the head of θ1. Source: Simon & Jyothi 2025, Figure 1.

    Raises ArtefactError if an input was made for another base; InputError if the rule truncates
    no matrix or a difference is not finite.
    """
    encoder = Base.load(base)
    file = TensorFile(full)
    delta = full_delta(file, encoder, start_vector)
    tensors = {name: file[name] for name in file if name.startswith("head.")}
    ranks = {}
    matrices = Only(delta, encoder.maskable)
    for name, kept in decompose(matrices, params.rule, available_device()):
        if not isinstance(kept, LowRank):
            tensors[f"{name}.delta"] = kept
            continue
        ranks[name] = kept.rank
        tensors[f"{name}.singular_values"] = kept.singular_values
        for part in ("dense", "left", "right"):
            if (tensor := getattr(kept, part)) is not None:
                tensors[f"{name}.{'delta' if part == 'dense' else part}"] = tensor
        if kept.residual is not None:
            tensors[f"{name}.residual_index"], tensors[f"{name}.residual_value"] = kept.residual
    save_tensors(
        out,
        tensors,
        stage="denoise",
        target=params.target,
        start=params.start,
        seed=params.seed,
        base=encoder.identity,
        params=params.model_dump(),
        ranks=ranks,
        outcome={name: file.provenance["outcome"][name] for name in ("trained", "trained_head")},
        inputs={"full": file.content},
    )
