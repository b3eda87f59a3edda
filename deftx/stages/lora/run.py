"""Stage `lora`: train low-rank factors instead of chosen entries, from the start weights."""

from math import prod
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from deftx.core.parameters import matrices
from deftx.engine.job import training_job
from deftx.engine.params import MethodParams
from deftx.models.base import Base
from deftx.stages.lora.settings import Lora, largest_rank
from deftx.stages.lora.train import fit_factors
from deftx.stages.mask.settings import Budget, entries
from deftx.store.seeds import stream


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

    Source: LoRA (Hu et al. 2022). Raises as `training_job` and `fit_factors` do, and ValueError if
    the budget has no room for rank 1.
    """
    encoder = Base.load(base)
    with training_job(
        "lora",
        params,
        encoder,
        out,
        train=train,
        valid=valid,
        start_vector=start_vector,
        # Streams of the sparse phase, so that its batches, masked tokens and dropout are the same.
        phase="sparse",
    ) as job:
        rank = params.lora.rank
        if params.budget is not None:
            k = entries(params.budget, sum(map(prod, encoder.maskable.values())))
            rank = largest_rank([tuple(p.shape) for p in matrices(job.model).values()], k)
        assert rank is not None
        factors, outcome = fit_factors(
            job.model,
            job.objective,
            params.training,
            rank,
            params.lora.alpha_of(rank),
            stream(params.seed, params.target, "lora"),
            job.session,
        )
        tensors = job.head()
        for name, change in factors.items():
            tensors |= change.tensors(name)
        job.save(tensors, outcome, ranks=dict.fromkeys(factors, rank))
