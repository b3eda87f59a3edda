"""A target, a language or a task, made ready to train: a model at the start, and an objective."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from transformers import PreTrainedModel

from deftx.core.parameters import backbone_parameters, head_parameters, stored_head
from deftx.core.sparse_delta import SparseDelta
from deftx.engine.checkpoint import Checkpoint
from deftx.engine.language import masked_language_modelling
from deftx.engine.objective import Objective
from deftx.engine.session import Session
from deftx.engine.settings import Engine
from deftx.engine.task import classification_of_sources
from deftx.engine.training_settings import LanguageTraining, TaskTraining
from deftx.models.base import Base
from deftx.models.load import load_classifier, load_masked_lm, load_tokenizer
from deftx.store.errors import ArtefactError, InputError
from deftx.store.items import load_labelled, load_text
from deftx.store.seeds import stream
from deftx.store.strict import Strict


class TargetParams(Strict):
    """What is trained and how; what `full` and `sparse` have in common."""

    target: str = Field(description="lang-<language> or task-<task>")
    start: str = Field(default="base", description="base, or the method of the source's vector")
    seed: int = 0
    classes: list[str] | None = Field(
        default=None, description="the classes of a task, in the order of its logits"
    )
    language: LanguageTraining | None = Field(default=None, description="settings of a language")
    task: TaskTraining | None = Field(default=None, description="settings of a task")
    engine: Engine = Engine()
    report_to: list[str] = Field(
        default_factory=list,
        description="trackers as transformers names them; nothing in the result depends on them",
    )

    def recorded(self) -> dict[str, Any]:
        """What the provenance says of these: all that the result depends on."""
        return self.model_dump(exclude={"report_to"})

    def checkpoint(self, stage: str, out: Path, base: Base, inputs: dict[str, str]) -> Checkpoint:
        """Where the training of a stage is kept in between."""
        facts = {**self.recorded(), "base": base.identity}
        return Checkpoint.of_stage(stage, out, facts, inputs)

    def provenance(
        self, stage: str, base: Base, inputs: dict[str, str], outcome: dict[str, Any]
    ) -> dict[str, Any]:
        """What a trained artefact's metadata says of it."""
        return {
            "stage": stage,
            "target": self.target,
            "start": self.start,
            "seed": self.seed,
            "base": base.identity,
            "params": self.recorded(),
            "inputs": inputs,
            "outcome": outcome,
        }

    @property
    def training(self) -> LanguageTraining | TaskTraining:
        """The settings of the kind of target that it is."""
        settings = self.task if self.classes else self.language
        if settings is None:
            raise InputError(
                f"{self.target}: give `classes` and `task` for a task, `language` for a language"
            )
        return settings


class MethodParams(TargetParams):
    """What is trained and how, by which method."""

    method: str
    learning_rate: float | None = Field(
        default=None, description="instead of that of the target's settings"
    )

    def provenance(
        self, stage: str, base: Base, inputs: dict[str, str], outcome: dict[str, Any]
    ) -> dict[str, Any]:
        """What a trained artefact's metadata says of it."""
        return {**super().provenance(stage, base, inputs, outcome), "method": self.method}

    @property
    def training(self) -> LanguageTraining | TaskTraining:
        """The settings of the kind of target that it is, with the method's learning rate."""
        settings = super().training
        if self.learning_rate is None:
            return settings
        return settings.model_copy(update={"learning_rate": self.learning_rate})


@dataclass(frozen=True)
class Prepared:
    """A model at its start (θs and a fresh head) and what it is to learn in a phase.

    Masked tokens, the order of examples and dropout are streams of their own for each phase, so
    that no phase depends on what another drew.
    """

    params: TargetParams
    phase: str
    model: PreTrainedModel
    objective: Objective

    def head(self) -> dict[str, torch.Tensor]:
        """The head as artefacts hold it, `head.` before each name; empty for a language, whose head
        serves no task."""
        if not self.params.classes:
            return {}
        return stored_head(head_parameters(self.model))

    def session(self, checkpoint: Checkpoint) -> Session:
        """How this phase is trained, with a checkpoint that is held."""
        seed, target = self.params.seed, self.params.target
        return Session(
            order_seed=stream(seed, target, self.phase, "order"),
            draw_seed=stream(seed, target, self.phase, "masks"),
            dropout_seed=stream(seed, target, self.phase, "dropout"),
            engine=self.params.engine,
            checkpoint=checkpoint,
            report_to=self.params.report_to,
        )


def prepare(
    params: TargetParams,
    phase: str,
    base: Base,
    train: Path | Sequence[Path],
    valid: Path | None,
    start: Path | None,
) -> Prepared:
    """Load the model, add the start vector if there is one, and tokenise the data; several training
    files are several sources of a task.

    The head is the same in both phases. Raises ArtefactError if the start vector was made for
    another base or the data do not fit the task; InputError if the text is too short, or a
    language has several files.
    """
    files = [train] if isinstance(train, Path) else train
    tokenizer = load_tokenizer(base)
    objective: Objective
    if params.classes:
        if valid is None:
            raise InputError(f"{params.target}: a task needs validation data")
        assert isinstance(params.training, TaskTraining)
        model = load_classifier(base, params.classes, stream(params.seed, params.target, "head"))
        objective = classification_of_sources(
            [load_labelled(file, params.classes) for file in files],
            load_labelled(valid, params.classes),
            tokenizer,
            params.training,
        )
    else:
        assert isinstance(params.training, LanguageTraining)
        if len(files) != 1:
            raise InputError(f"{params.target}: {len(files)} training files, a language has one")
        model = load_masked_lm(base)
        objective = masked_language_modelling(load_text(files[0]), tokenizer, params.training)
    _check_positions(model, params)
    if start is not None:
        vector = SparseDelta.load(start)
        base.check(vector.provenance, start)
        vector.add_to(backbone_parameters(model))
    return Prepared(params, phase, model, objective)


def load_round_vector(
    params: TargetParams, number: int, base: Base, path: Path | None
) -> SparseDelta | None:
    """What round `number` of a target begins with: the vector of the round before, relative to the
    same start, or None for the first one. Raises InputError if it is missing, or given to a first
    round; ArtefactError if it was made for another base, target or round."""
    if path is None:
        if number > 1:
            raise InputError(f"round {number} begins with the vector of the one before: give it")
        return None
    if number == 1:
        raise InputError(f"{path}: round 1 begins at the start weights, not with a vector")
    vector = SparseDelta.load(path)
    base.check(vector.provenance, path)
    wanted = {name: getattr(params, name) for name in ("target", "start", "seed")}
    expected = {**wanted, "round": number - 1}
    known = {**vector.provenance.get("params", {}), **vector.provenance}
    found = {name: known.get(name) for name in expected}
    if found != expected:
        raise ArtefactError(f"{path}: the vector of {found}, expected that of {expected}")
    return vector


def _check_positions(model: PreTrainedModel, params: TargetParams) -> None:
    room = getattr(model.config, "max_position_embeddings", params.training.max_length)
    # RoBERTa-like models number positions from padding_idx + 1 on.
    if model.config.model_type in ("roberta", "xlm-roberta"):
        room -= model.config.pad_token_id + 1
    if params.training.max_length > room:
        raise InputError(
            f"{params.target}: max_length is {params.training.max_length}, the base has room for "
            f"{room} positions"
        )
