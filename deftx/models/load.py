"""Loading a base as a model that trains or predicts, through transformers."""

import torch
from transformers import (
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from deftx.core.parameters import backbone_parameters, layer_norm_names
from deftx.models.base import Base
from deftx.store.artefact import verify

# A fresh head is what we ask for: the warning that it is "newly initialized" would alarm in vain.
transformers_logging.set_verbosity_error()
transformers_logging.disable_progress_bar()


def without_weights(
    config: PreTrainedConfig,
) -> tuple[PreTrainedModel, dict[str, tuple[int, ...]], frozenset[str]]:
    """What follows from the architecture alone: a masked-language model without memory for its
    weights, name → shape of the backbone's parameters, which it shares with the classifier, and the
    names of those of normalisation layers."""
    with torch.device("meta"):
        model, classifier = (
            auto.from_config(config)
            for auto in (AutoModelForMaskedLM, AutoModelForSequenceClassification)
        )
    parameters = backbone_parameters(model)
    shared = parameters.keys() & backbone_parameters(classifier).keys()
    shapes = {name: tuple(parameters[name].shape) for name in sorted(shared)}
    return model, shapes, frozenset(layer_norm_names(model) & shared)


def load_tokenizer(base: Base) -> PreTrainedTokenizerBase:
    """The tokenizer that travels with the base."""
    return AutoTokenizer.from_pretrained(base.folder, local_files_only=True)


def load_classifier(base: Base, labels: list[str], seed: int) -> PreTrainedModel:
    """A sequence classifier in float32; its head is a pure function of `seed`. Raises ArtefactError
    if the base's weights are corrupt."""
    verify(base.folder / "model.safetensors")
    torch.manual_seed(seed)
    return AutoModelForSequenceClassification.from_pretrained(
        base.folder,
        local_files_only=True,
        dtype=torch.float32,
        num_labels=len(labels),
        id2label=dict(enumerate(labels)),
        label2id={label: i for i, label in enumerate(labels)},
    )


def load_masked_lm(base: Base) -> PreTrainedModel:
    """A masked-language model in float32 whose decoder is an untied, frozen copy of the word
    embeddings, so that only the input embeddings move (LT-SFT's `freeze_decoder`).

    Raises ArtefactError if the base's weights are corrupt.
    """
    verify(base.folder / "model.safetensors")
    model = AutoModelForMaskedLM.from_pretrained(
        base.folder, local_files_only=True, dtype=torch.float32
    )
    untie_decoder(model)
    return model


def untie_decoder(model: PreTrainedModel) -> None:
    """Give the output embeddings their own frozen copy of the weights, in place.

    Never call `tie_weights` or `resize_token_embeddings` after this: both tie them again.
    """
    decoder = model.get_output_embeddings()
    decoder.weight = torch.nn.Parameter(decoder.weight.detach().clone(), requires_grad=False)
    model.config.tie_word_embeddings = False
