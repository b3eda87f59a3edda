"""Stage `lora`: train two thin factors of each linear layer's matrix, by PEFT, instead of chosen
entries, from the start weights."""

from collections.abc import Iterator
from contextlib import contextmanager
from math import prod, sqrt
from pathlib import Path
from typing import Any, Self

import torch
from pydantic import Field, model_validator
from transformers import PreTrainedModel

from deftx.core.low_rank import LowRank
from deftx.core.parameters import matrices
from deftx.engine.job import training_job
from deftx.engine.loop import freeze, train_with_head
from deftx.engine.objective import Objective
from deftx.engine.params import MethodParams
from deftx.engine.session import Session
from deftx.engine.settings import Training
from deftx.models.base import Base
from deftx.stages.lora.settings import Lora, largest_rank
from deftx.stages.mask.settings import Budget, entries
from deftx.store.seeds import stream

ADAPTER = "default"
"""PEFT's name for an adapter without a name of its own."""


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


def fit_factors(
    model: PreTrainedModel,
    objective: Objective,
    settings: Training,
    rank: int,
    alpha: float,
    seed: int = 0,
    session: Session | None = None,
) -> tuple[dict[str, LowRank], dict[str, Any]]:
    """Train factors A (r, n) and B (m, r) for every linear layer of the backbone, whose matrix
    counts as W + (alpha / r) · BA, and the head. The model is left with its former layers and
    backbone, and the head of the best checkpoint.

    Source: LoRA (Hu et al. 2022). B starts at zero and A, as in PEFT, uniformly in ±1/√n, drawn
    from `seed` and the matrix's name. L1 and weight decay act on the factors.

    Returns name of a matrix → its change at the best checkpoint, with the factors (alpha / r) · B
    and A; and what `train_with_head` returns, with `rank` and `alpha`. Raises as it does.
    """
    session = session or Session()
    total = freeze(model, session.engine.attention)
    with _with_lora(model, rank, alpha) as layers:
        with torch.no_grad():
            for name, layer in layers.items():
                weight = layer.lora_A[ADAPTER].weight
                generator = torch.Generator().manual_seed(stream(seed, name))
                drawn = torch.rand(weight.shape, generator=generator) * 2 - 1
                weight.copy_(drawn / sqrt(weight.shape[1]))
        factors = {
            f"{name}.{factor}": getattr(layer, factor)[ADAPTER].weight
            for name, layer in layers.items()
            for factor in ("lora_A", "lora_B")
        }
        outcome = train_with_head(model, factors, objective, settings, session, total=total)
        found = {
            name: LowRank(
                left=layer.scaling[ADAPTER] * layer.lora_B[ADAPTER].weight.detach(),
                right=layer.lora_A[ADAPTER].weight.detach(),
                rank=rank,
            )
            for name, layer in layers.items()
        }
    return found, {**outcome, "rank": rank, "alpha": alpha}


@contextmanager
def _with_lora(model: PreTrainedModel, rank: int, alpha: float) -> Iterator[dict[str, Any]]:
    """Inside, name of its matrix → PEFT's layer in the place of a linear layer of the backbone."""
    from peft import LoraConfig, LoraModel  # here, since this method alone needs it

    names = sorted(matrices(model))
    paths = {name: name.removesuffix(".weight") for name in names}
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,  # type: ignore[arg-type] # typed int, divided by r all the same
        lora_dropout=0.0,
        target_modules=list(paths.values()),
    )
    tuner = LoraModel(model.base_model, config, ADAPTER)
    try:
        yield {name: model.base_model.get_submodule(path) for name, path in paths.items()}
    finally:
        tuner.unload()
