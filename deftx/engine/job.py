"""The training job of a stage: a model at its start, an objective, a checkpoint, an artefact."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from deftx.core.parameters import backbone_parameters, head_parameters, stored_head
from deftx.core.sparse_delta import SparseDelta
from deftx.engine.checkpoint import Checkpoint
from deftx.engine.language import masked_language_modelling
from deftx.engine.objective import Objective
from deftx.engine.params import TargetParams
from deftx.engine.processes import is_first
from deftx.engine.session import Session
from deftx.engine.settings import TaskTraining
from deftx.engine.task import classification_of_sources
from deftx.models.base import Base
from deftx.models.load import load_classifier, load_masked_lm, load_tokenizer
from deftx.models.tokens import load_tokens
from deftx.store.artefact import digests
from deftx.store.errors import InputError
from deftx.store.seeds import stream
from deftx.store.tensors import save_tensors


@dataclass(frozen=True)
class Job:
    """A training that can begin.

    Attributes:
        model: at its start: θs and a fresh head.
        objective: what it learns.
        session: how this phase is trained.
        writes: whether this process is the one that writes the artefact.
    """

    model: PreTrainedModel
    objective: Objective
    session: Session
    writes: bool
    _params: TargetParams
    _facts: dict[str, Any]
    _out: Path

    def head(self) -> dict[str, torch.Tensor]:
        """The head under its names in an artefact; empty for a language, whose head serves no
        task."""
        return stored_head(head_parameters(self.model)) if self._params.classes else {}

    def provenance(self, outcome: Mapping[str, Any]) -> dict[str, Any]:
        """The metadata of the artefact."""
        return {**self._facts, "outcome": outcome}

    def save(
        self, tensors: Mapping[str, torch.Tensor], outcome: Mapping[str, Any], **more: Any
    ) -> None:
        """Write the artefact, if this process does; `more` goes into its metadata."""
        if self.writes:
            save_tensors(self._out, tensors, **self.provenance(outcome), **more)


@contextmanager
def training_job(
    stage: str,
    params: TargetParams,
    base: Base,
    out: Path,
    *,
    train: Path | Sequence[Path],
    valid: Path | None = None,
    start_vector: Path | None = None,
    inputs: Mapping[str, str] | None = None,
    phase: str | None = None,
) -> Iterator[Job]:
    """A block in which a target is trained and its artefact written; interrupted training goes on
    where it was. When the block ends without an error, its checkpoint is removed.

    Args:
        train: training data; several files are several sources of a task.
        valid: validation data of a task.
        start_vector: what is added to θ0 before training.
        inputs: role → checksum of further inputs, and of `train` if it is a list.
        phase: the name under which randomness is drawn; by default that of the stage.

    Raises as `prepare` does, and CheckpointError if another process is training the same.
    """
    one = train if isinstance(train, Path) else None
    known = digests(train=one, valid=valid, start=start_vector) | dict(inputs or {})
    checkpointed = {**params.recorded(), "base": base.identity}
    with Checkpoint.of_stage(stage, out, checkpointed, known) as state:
        model, objective = prepare(params, base, train, valid, start_vector)
        session = session_of(params, phase or stage, state)
        known_facts = facts(stage, params, base, known)
        yield Job(model, objective, session, is_first(), params, known_facts, out)
        if is_first():
            state.remove()


def facts(
    stage: str, params: TargetParams, base: Base, inputs: Mapping[str, str]
) -> dict[str, Any]:
    """The metadata of a stage's artefact, but for the outcome of training."""
    return {
        "stage": stage,
        **params.model_dump(include={"target", "start", "seed", "method"}),
        "base": base.identity,
        "params": params.recorded(),
        "inputs": dict(inputs),
    }


def session_of(params: TargetParams, phase: str, checkpoint: Checkpoint | None = None) -> Session:
    """How a phase is trained: each stream of randomness has a seed of its own in each phase."""
    order, masks, dropout = (
        stream(params.seed, params.target, phase, name) for name in ("order", "masks", "dropout")
    )
    return Session(order, masks, dropout, params.engine, checkpoint, params.report_to)


def prepare(
    params: TargetParams,
    base: Base,
    train: Path | Sequence[Path],
    valid: Path | None,
    start_vector: Path | None,
) -> tuple[PreTrainedModel, Objective]:
    """Load the model, add the start vector if there is one, and open the data, of the stage
    `tokens` or as parquet; several training files are several sources of a task.

    The head is the same in all phases. Raises ArtefactError if the start vector was made for
    another base or the data do not fit the task; InputError if the text is too short, or a
    language has several files.
    """
    base.check_length(params.training.max_length, params.target)
    files = [train] if isinstance(train, Path) else train
    tokenizer = load_tokenizer(base)
    training = params.training
    objective: Objective
    if isinstance(training, TaskTraining):
        if valid is None:
            raise InputError(f"{params.target}: a task needs validation data")
        classes = params.classes or []
        seed = params.seed if training.head_seed is None else training.head_seed
        model = load_classifier(base, classes, stream(seed, params.target, "head"), params.kind)
        objective = classification_of_sources(
            [load_tokens(file, base, training.max_length, classes) for file in files],
            load_tokens(valid, base, training.max_length, classes),
            tokenizer,
            training,
        )
    else:
        if len(files) != 1:
            raise InputError(f"{params.target}: {len(files)} training files, a language has one")
        model = load_masked_lm(base)
        text = load_tokens(files[0], base, None if training.packed else training.max_length)
        objective = masked_language_modelling(text, tokenizer, training)
    if start_vector is not None:
        vector = SparseDelta.load(start_vector)
        base.check(vector.provenance, start_vector)
        vector.add_to(backbone_parameters(model))
    return model, objective
