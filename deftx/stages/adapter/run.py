"""Stage `adapter`: train the adapter of a language or a task (MAD-X)."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field
from transformers import PreTrainedModel

from deftx.engine.job import training_job
from deftx.engine.loop import freeze, train_with_head
from deftx.engine.objective import Objective
from deftx.engine.params import MethodParams
from deftx.engine.session import Session
from deftx.engine.settings import Training
from deftx.models.base import Base
from deftx.stages.adapter.file import load_adapter
from deftx.stages.adapter.math import AdapterModule, fresh_adapter, installed
from deftx.stages.adapter.settings import Adapter
from deftx.store.errors import ArtefactError, InputError
from deftx.store.seeds import stream
from deftx.store.tensors import TensorFile


class Params(MethodParams):
    """What is trained and how, by which method."""

    start: Literal["base"] = Field(default="base", description="of the training: the base itself")
    adapter: Adapter = Adapter()

    def recorded(self) -> dict[str, Any]:
        """The parameters in the provenance: all that the result depends on."""
        adapter = self.adapter.relevant(language=not self.classes)
        return {**super().recorded(), "adapter": adapter}


def adapter(
    params: Params,
    *,
    base: Path,
    train: Path,
    valid: Path | None = None,
    language_adapter: Path | None = None,
    out: Path,
) -> None:
    """The adapter of a language: bottlenecks in all layers and an invertible adapter, trained by
    masked-language modelling. Or that of a task: bottlenecks in all layers but the last
    `drop_last`, trained on top of `language_adapter`, the frozen one of the source language, and
    its head under `head.`

    Source: MAD-X (Pfeiffer et al. 2020). Raises as `training_job`, `fit_adapter` and `load_adapter`
    do, and ArtefactError if the language's adapter is that of a task.
    """
    encoder = Base.load(base)
    inputs, below = {}, None
    if language_adapter is not None:
        if not params.classes:
            raise InputError(f"{params.target}: only a task is trained on a language's adapter")
        file = TensorFile(language_adapter)
        language = load_adapter(file, encoder)
        if language.head:
            raise ArtefactError(
                f"{file.path}: the adapter of {file.provenance['target']}, expected that of a "
                "language"
            )
        below, inputs["language_adapter"] = language.module, file.content
    with training_job(
        "adapter", params, encoder, out, train=train, valid=valid, inputs=inputs
    ) as job:
        seed = stream(params.seed, params.target, "adapter")
        module = fresh_adapter(job.model, params.adapter, language=not params.classes, seed=seed)
        outcome = fit_adapter(
            job.model,
            job.objective,
            params.training,
            module,
            below=below,
            drop_last=params.adapter.drop_last if params.classes else 0,
            session=job.session,
        )
        job.save({**module.state_dict(), **job.head()}, outcome)


def fit_adapter(
    model: PreTrainedModel,
    objective: Objective,
    settings: Training,
    adapter: AdapterModule,
    *,
    below: AdapterModule | None = None,
    drop_last: int = 0,
    session: Session | None = None,
) -> dict[str, Any]:
    """Train an adapter, and the head of the model, in place: in all layers but the last
    `drop_last`, on top of the frozen adapter `below` (that of the source language, for a task).
    Every other weight keeps its bits; the model is left with the head of the best checkpoint and
    without adapters. Returns and raises what `train_with_head` and `installed` do.
    """
    session = session or Session()
    total = freeze(model, session.engine.attention)
    stack = [adapter] if below is None else [below.requires_grad_(False), adapter]
    entries = {f"adapter.{name}": p for name, p in adapter.named_parameters()}
    total += sum(parameter.numel() for parameter in entries.values())
    with installed(model, stack, drop_last):
        return train_with_head(model, entries, objective, settings, session, total=total)
