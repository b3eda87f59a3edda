"""Stage `lora`: train low-rank factors instead of chosen entries, from the start weights."""

from math import prod
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from deftx.core.parameters import matrices
from deftx.engine.processes import is_first
from deftx.engine.target import MethodParams, prepare
from deftx.models.base import Base
from deftx.stages.lora.settings import Lora, largest_rank
from deftx.stages.lora.train import fit_factors
from deftx.stages.mask.settings import Budget, entries
from deftx.store.artefact import digests
from deftx.store.seeds import stream
from deftx.store.tensors import save_tensors


class Params(MethodParams):
    """What is trained and how, with how many parameters."""

    lora: Lora = Lora()
    budget: Budget | None = Field(default=None, description="which the rank follows from")

    @model_validator(mode="after")
    def _one_source_of_the_rank(self) -> Self:
        if (self.lora.rank is None) == (self.budget is None):
            raise ValueError("give one of lora.rank and budget, from which the rank follows")
        return self


def lora(
    params: Params,
    *,
    base: Path,
    train: Path,
    valid: Path | None = None,
    start_vector: Path | None = None,
    out: Path,
) -> None:
    """Write the factors of the change of every linear layer's matrix, as `denoise` writes them, and
    the head of a task.

    Interrupted training goes on where it was. Source: LoRA (Hu et al. 2022). Raises as `prepare`
    and `fit_factors` do, InputError if the budget has no room for rank 1, and CheckpointError if
    another process is training the same.
    """
    encoder = Base.load(base)
    inputs = digests(train=train, valid=valid, start=start_vector)
    with params.checkpoint("lora", out, encoder, inputs) as state:
        # Streams of the sparse phase, so that its batches, masked tokens and dropout are the same.
        ready = prepare(params, "sparse", encoder, train, valid, start_vector)
        rank = params.lora.rank
        if params.budget is not None:
            k = entries(params.budget, sum(map(prod, encoder.maskable.values())))
            rank = largest_rank([tuple(p.shape) for p in matrices(ready.model).values()], k)
        assert rank is not None
        factors, outcome = fit_factors(
            ready.model,
            ready.objective,
            params.training,
            rank,
            params.lora.alpha_of(rank),
            stream(params.seed, params.target, "lora"),
            ready.session(state),
        )
        if not is_first():
            return
        tensors = ready.head()
        for name, change in factors.items():
            tensors |= change.tensors(name)
        save_tensors(
            out,
            tensors,
            ranks=dict.fromkeys(factors, rank),
            **params.provenance("lora", encoder, inputs, outcome),
        )
        state.remove()
