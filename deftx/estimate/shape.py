"""The shape of the base before it is there: its parameters, and the arithmetic of a step."""

import json
from dataclasses import dataclass
from functools import cache
from math import prod
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    PreTrainedConfig,
    XLMRobertaConfig,
)

from deftx.core.parameters import head_parameters, matrices
from deftx.estimate.ranges import Range, exactly
from deftx.models.base import Base
from deftx.models.load import without_weights
from deftx.plan.plan import Plan
from deftx.stages.base.settings import Pretrain
from deftx.store.errors import ConfigError

KNOWN: dict[str, dict[str, Any]] = {
    "FacebookAI/xlm-roberta-base": {
        "vocab_size": 250_002,
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
        "max_position_embeddings": 514,
    },
    "FacebookAI/xlm-roberta-large": {
        "vocab_size": 250_002,
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "intermediate_size": 4096,
        "max_position_embeddings": 514,
    },
}
"""Hub models whose shape need not be asked for. Source: Conneau et al. 2020, and their
config.json."""

FORWARD_AND_BACKWARD = 3
"""A backward pass computes gradients of inputs and of weights, each as much as forward."""


@dataclass(frozen=True)
class Shape:
    """A base without its weights.

    Attributes:
        known_from: where its shape is from, for people.
        config: what transformers makes a model from.
        base: names and shapes of its backbone; without a folder and a hash.
        linear: name → shape of the matrices of its linear layers.
        head: parameters of the language model's head, its decoder left out.
        decoder: entries of the frozen copy of the word embeddings that a language trains with.
        stored: bytes of the base's files.
    """

    known_from: str
    config: PreTrainedConfig
    base: Base
    linear: dict[str, tuple[int, ...]]
    head: int
    decoder: int
    stored: int

    @property
    def backbone(self) -> int:
        """Entries of the backbone."""
        return sum(map(prod, self.base.shapes.values()))

    @property
    def maskable(self) -> int:
        """Entries that may be chosen: those of normalisation layers are not."""
        return sum(map(prod, self.base.maskable.values()))

    def classifier(self, classes: int) -> int:
        """Parameters of the head of a task with so many classes."""
        return _classifier_head(self.config.to_json_string(), classes)

    def step(self, tokens: Range, length: Range, predicted: float) -> Range:
        """Floating-point operations of a forward and backward pass over so many tokens in examples
        of a length, of which a share is predicted by the decoder: those of matrix products."""
        layers, hidden = self.config.num_hidden_layers, self.config.hidden_size
        weights = exactly(2 * sum(map(prod, self.linear.values())))
        encoder = (weights + length * (4 * layers * hidden)) * FORWARD_AND_BACKWARD
        # The decoder is frozen: its weights have no gradient.
        decoder = exactly(2 * predicted * self.decoder * (FORWARD_AND_BACKWARD - 1))
        return tokens * (encoder + decoder)


@cache
def _classifier_head(config: str, classes: int) -> int:
    made = AutoConfig.for_model(**json.loads(config))
    made.num_labels = classes
    with torch.device("meta"):
        model = AutoModelForSequenceClassification.from_config(made)
    return sum(p.numel() for p in head_parameters(model).values())


def shape_of(config: PreTrainedConfig, known_from: str, stored: int | None = None) -> Shape:
    """What a model's configuration tells. `stored`: bytes of the files, if they are known."""
    model, shapes, norms = without_weights(config)
    linear = {n: tuple(p.shape) for n, p in matrices(model).items() if n in shapes}
    head = sum(parameter.numel() for parameter in head_parameters(model).values())
    return Shape(
        known_from,
        config,
        Base(Path(), {"id": None, "revision": None, "hash": None}, shapes, norms, {}),
        linear,
        head,
        model.get_output_embeddings().weight.numel(),
        4 * (sum(map(prod, shapes.values())) + head) if stored is None else stored,
    )


def find_shape(plan: Plan) -> Shape | str:
    """The shape of a config's base: as it was made or lies in a local folder, as the config
    pretrains it, as the table here has it, or by its configuration from the hub. If none of these
    is to be had, why not. Raises ConfigError if there is a configuration that transformers has no
    model for."""
    source = plan.config.base
    made = Path(plan.root) / "base"
    folder = plan.files.base_folder()
    stored = None
    try:
        if (made / "config.json").is_file() and (made / "model.safetensors").is_file():
            stored = _bytes(made)
            return shape_of(AutoConfig.from_pretrained(made), f"{made}, as it was made", stored)
        if source.pretrain is not None:
            return shape_of(_pretrained(source.pretrain), "base.pretrain")
        assert source.model is not None
        if folder is not None:
            return shape_of(AutoConfig.from_pretrained(folder), f"{folder}", _bytes(folder))
        if source.model in KNOWN:
            config = XLMRobertaConfig(type_vocab_size=1, **KNOWN[source.model])
            return shape_of(config, "the table that deftx has of XLM-R's sizes")
        try:
            config = AutoConfig.from_pretrained(source.model, revision=source.revision)
        except OSError as error:
            first = str(error).strip().splitlines()[0]
            return f"{source.model}: no model folder, and no config.json from the hub: {first}"
        return shape_of(config, f"config.json of {source.model} on the hub")
    except ValueError as error:
        raise ConfigError(f"base: {error}") from None


def _pretrained(settings: Pretrain) -> PreTrainedConfig:
    """As `deftx.stages.base.pretrain` makes it; a tokenizer may have fewer pieces."""
    return XLMRobertaConfig(
        vocab_size=settings.vocabulary,
        hidden_size=settings.hidden,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        intermediate_size=settings.intermediate,
        max_position_embeddings=settings.max_length + 2,
        type_vocab_size=1,
    )


def _bytes(folder: Path) -> int:
    files: list[Any] = [path for path in folder.iterdir() if path.is_file()]
    return sum(path.stat().st_size for path in files)
