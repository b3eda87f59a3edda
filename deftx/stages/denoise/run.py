"""Stage `denoise`: the leading singular components of θ1 − θs, matrix by matrix."""

from pathlib import Path

from pydantic import Field

from deftx.core.delta import only
from deftx.core.parameters import head_of, stored_head
from deftx.models.base import Base
from deftx.models.device import available_device
from deftx.models.vectors import dense_vector
from deftx.stages.denoise.math import decompose
from deftx.stages.denoise.settings import RankRule
from deftx.store.strict import Strict
from deftx.store.tensors import TensorFile, save_tensors


class Params(Strict):
    """Which difference is denoised, and how far."""

    rule: RankRule
    target: str
    start: str = "base"
    seed: int = Field(default=0, description="of the training that made θ1")


def denoise(
    params: Params, *, base: Path, full: Path, start_vector: Path | None = None, out: Path
) -> None:
    """Write factors, all singular values, the residual if any, raw one-dimensional differences,
    and the head of θ1. Source: Simon & Jyothi 2025, Figure 1.

    Raises ArtefactError if an input was made for another base; InputError as `decompose` does.
    """
    encoder = Base.load(base)
    file = TensorFile(full)
    delta = only(dense_vector(file, encoder, start_vector), encoder.maskable)
    tensors, ranks = stored_head(head_of(file)), {}
    for name, kept in decompose(delta, params.rule, available_device(), encoder.embeddings):
        tensors |= kept.tensors(name)
        if kept.rank is not None:
            ranks[name] = kept.rank
    save_tensors(
        out,
        tensors,
        stage="denoise",
        rule=params.rule.slug(),
        **params.model_dump(include={"target", "start", "seed"}),
        base=encoder.identity,
        params=params.model_dump(),
        ranks=ranks,
        outcome={name: file.provenance["outcome"][name] for name in ("trained", "trained_head")},
        inputs={"full": file.content},
    )
