"""A target, a language or a task, made ready to train: a model at the start, and an objective."""

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from transformers import PreTrainedModel

from deftx.artefact import read_manifest
from deftx.backbone import backbone_parameters
from deftx.base import Base
from deftx.checkpoint import Checkpoint
from deftx.data import load_labelled, load_text
from deftx.device import available_device
from deftx.encoder import load_classifier, load_masked_lm, load_tokenizer
from deftx.fingerprint import fingerprint
from deftx.language_objective import masked_language_modelling
from deftx.objective import Objective
from deftx.processes import share
from deftx.seeds import stream
from deftx.session import Session
from deftx.settings.engine import Engine
from deftx.settings.strict import Strict
from deftx.settings.training import LanguageTraining, TaskTraining
from deftx.sparse_delta import SparseDelta
from deftx.task_objective import classification


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

    @property
    def training(self) -> LanguageTraining | TaskTraining:
        """The settings of the kind of target that it is."""
        settings = self.task if self.classes else self.language
        if settings is None:
            raise ValueError(
                f"{self.target}: give `classes` and `task` for a task, `language` for a language"
            )
        return settings


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
    train: Path,
    valid: Path | None,
    start: Path | None,
) -> Prepared:
    """Load the model, add the start vector if there is one, and tokenise the data.

    The head is the same in both phases. Raises ArtefactError if the start vector was made for
    another base or the data do not fit the task; ValueError if the text is too short.
    """
    tokenizer = load_tokenizer(base)
    objective: Objective
    if params.classes:
        if valid is None:
            raise ValueError(f"{params.target}: a task needs validation data")
        assert isinstance(params.training, TaskTraining)
        model = load_classifier(base, params.classes, stream(params.seed, params.target, "head"))
        objective = classification(
            load_labelled(train, params.classes),
            load_labelled(valid, params.classes),
            tokenizer,
            params.training,
        )
    else:
        assert isinstance(params.training, LanguageTraining)
        model = load_masked_lm(base)
        objective = masked_language_modelling(load_text(train), tokenizer, params.training)
    _check_positions(model, params)
    if start is not None:
        vector = SparseDelta.load(start)
        base.check(vector.provenance, start)
        vector.add_to(backbone_parameters(model))
    return Prepared(params, phase, model, objective)


def _check_positions(model: PreTrainedModel, params: TargetParams) -> None:
    room = getattr(model.config, "max_position_embeddings", params.training.max_length)
    # RoBERTa-like models number positions from padding_idx + 1 on.
    if model.config.model_type in ("roberta", "xlm-roberta"):
        room -= model.config.pad_token_id + 1
    if params.training.max_length > room:
        raise ValueError(
            f"{params.target}: max_length is {params.training.max_length}, the base has room for "
            f"{room} positions"
        )


def digests(**paths: Path | None) -> dict[str, str]:
    """Name → sha256 of an input, as its manifest has it; inputs that there are not are left out.
    Raises ArtefactError if a manifest is missing."""
    return {name: read_manifest(p)["sha256"] for name, p in paths.items() if p is not None}


def checkpoint(
    stage: str, out: Path, params: TargetParams, base: Base, inputs: dict[str, str]
) -> Checkpoint:
    """The checkpoint of a stage's training, beside `out`; its key is all that bits depend on."""
    return Checkpoint(
        out,
        {
            "stage": stage,
            "params": params.recorded(),
            "inputs": inputs,
            "base": base.identity,
            "code": fingerprint(stage),
            "versions": [version("torch"), version("transformers")],
            "threads": torch.get_num_threads(),
            "device": available_device().type,
            "processes": share()[1],
        },
    )
