"""How much of a GPU's memory a job needs at most. By it small jobs share a GPU. Free of torch.

Upper bounds by counting values, generous where the engine may change: float32 throughout, and twice
the room for activations, since CUDA graphs keep memory of their own. Source: design choice.
"""

from collections.abc import Mapping
from math import prod
from typing import Any, NamedTuple, Self

from deftx.engine.settings import Engine, LanguageTraining, TaskTraining
from deftx.models.base import Base
from deftx.stages.base.settings import Pretrain

CUDA = 2**30
"""Bytes of CUDA's context and of the libraries' own buffers."""

TRAINED = 48
"""Bytes for each weight in training: itself, its start and best value, its gradient, AdamW's two
moments, a gate, copies in bfloat16, and the temporary values of an update."""

PREDICTED = 20
"""Bytes for each weight in prediction: itself, and vectors that are added to it."""

VECTOR = 12
"""Bytes for each weight in the vector of a source: its place and its value."""

LOGIT = 16
"""Bytes for each logit of the vocabulary: itself, its logarithm, its gradient, and a copy."""

PREDICTED_TOKENS = 16_384
PREDICTED_ROWS = 64
PREDICTED_LOGITS = 2**28
"""How many tokens of a text, examples, and logits are computed at a time without gradients."""


class Shape(NamedTuple):
    """What the memory of an encoder depends on.

    Attributes:
        weights: of the backbone.
        words: of the word embeddings, and of a decoder to the vocabulary beside them.
        vocabulary: rows of the word embeddings.
        depth: how many layers an item goes through.
        width: Σ (rows + columns) of the matrices of a layer, which bounds how many values it
            computes for a token and keeps for the gradient.
    """

    weights: int
    words: int
    vocabulary: int
    depth: int
    width: int

    @classmethod
    def of(cls, base: Base) -> Self:
        """That of a base."""
        words = max((base.shapes[name] for name in base.embeddings), key=prod)
        layers = [s for n, s in base.shapes.items() if len(s) > 1 and n not in base.embeddings]
        width = sum(map(sum, layers)) // max(1, base.layers)
        return cls(sum(map(prod, base.shapes.values())), prod(words), words[0], base.depth, width)

    @classmethod
    def to_make(cls, settings: Pretrain) -> Self:
        """That of an encoder that is to be pretrained."""
        hidden, inner = settings.hidden, settings.intermediate
        words, rows = settings.vocabulary * hidden, settings.max_length + 16
        layer = 4 * hidden * (hidden + 4) + 2 * (hidden + 1) * (inner + 1)
        weights = words + rows * hidden + settings.layers * layer
        width = 10 * hidden + 2 * inner
        return cls(weights, words, settings.vocabulary, settings.layers, width)

    def activations(self, tokens: int, scores: int = 0) -> int:
        """Bytes that a forward pass over so many tokens keeps for the gradient: values in float32,
        masks of dropout, and where attention keeps its `scores`, so many for each token, in each
        head of at least 32 columns."""
        return self.depth * self.width * tokens * (6 + scores // 32)


def device_memory(stage: str, params: Mapping[str, Any], base: Base | None) -> int | None:
    """The most bytes of one GPU that a job of a stage with these parameters uses; None if that is
    unknown. `base` is what it computes with, None for the stage that makes it."""
    if stage == "base":
        if not params.get("pretrain"):
            return None
        made = Pretrain(**params["pretrain"])
        text = LanguageTraining(batch_size=made.batch_size, max_length=made.max_length)
        return _training(Shape.to_make(made), text, Engine())
    if base is None:
        return None
    shape = Shape.of(base)
    if stage == "denoise":
        return CUDA + TRAINED * shape.weights
    if stage in ("evaluate", "prior"):
        length, rows = params.get("max_length", 128), params.get("batch_size", PREDICTED_ROWS)
        return CUDA + PREDICTED * shape.weights + _prediction(shape, length, rows * length)
    engine = Engine(**params.get("engine") or {})
    training: LanguageTraining | TaskTraining = LanguageTraining(**params.get("language") or {})
    if params.get("classes"):
        training = TaskTraining(**params.get("task") or {})
    vectors = VECTOR * shape.weights * len(params.get("with_vectors") or [])
    return _training(shape, training, engine) + vectors


def _training(shape: Shape, settings: LanguageTraining | TaskTraining, engine: Engine) -> int:
    length, tokens = settings.max_length, settings.batch_size * settings.max_length
    predicted, logits = PREDICTED_ROWS * length, 0
    if isinstance(settings, LanguageTraining):
        predicted = max(PREDICTED_TOKENS, length)
        each = 1.5 * settings.mask_probability * shape.vocabulary  # with room, as numbers vary
        logits = round(each * tokens) + 64 * shape.vocabulary
        logits += min(round(each * predicted), PREDICTED_LOGITS)
    return (
        CUDA
        + TRAINED * (shape.weights + shape.words)
        + 2 * shape.activations(tokens, length if engine.attention == "eager" else 0)
        + LOGIT * logits
        + _prediction(shape, length, predicted)
    )


def _prediction(shape: Shape, length: int, tokens: int) -> int:
    """Bytes of the values of one layer, which without gradients are not kept for the next."""
    return tokens * shape.width * (4 + length // 64)
