"""A target, a language or a task, made ready to train: a model at the start, and an objective."""

from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import Field
from transformers import PreTrainedModel

from deftx.backbone import backbone_parameters, weights_of
from deftx.base import Base
from deftx.data import load_labelled, load_text
from deftx.encoder import load_classifier, load_masked_lm, load_tokenizer
from deftx.language_objective import masked_language_modelling
from deftx.objective import Objective
from deftx.seeds import stream
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

    Masking of text, data order and dropout are streams of their own for each phase, so that no
    phase depends on what another drew.
    """

    params: TargetParams
    phase: str
    model: PreTrainedModel
    objective: Objective
    start: dict[str, torch.Tensor]

    @property
    def seeds(self) -> dict[str, int]:
        """Seeds of the streams that training draws from."""
        seed, target = self.params.seed, self.params.target
        return {
            "order_seed": stream(seed, target, self.phase, "order"),
            "dropout_seed": stream(seed, target, self.phase, "dropout"),
        }


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
        seed = stream(params.seed, params.target, phase, "masks")
        objective = masked_language_modelling(load_text(train), tokenizer, params.training, seed)
    _check_positions(model, params)
    if start is not None:
        vector = SparseDelta.load(start)
        base.check(vector.provenance, start)
        vector.add_to(backbone_parameters(model))
    return Prepared(params, phase, model, objective, weights_of(backbone_parameters(model)))


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
