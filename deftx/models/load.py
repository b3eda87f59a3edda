"""Loading a base as a model that trains or predicts, through transformers."""

from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from deftx.models.base import Base
from deftx.models.tokenizer import check_canary, read_tokenizer
from deftx.store.artefact import verify
from deftx.store.errors import ArtefactError
from deftx.tasks.heads import head_of

# Classes of models are written `transformers.…`, which imports them when they are used. That takes
# more than a second, which a job with a tokenizer alone need not spend.

# A fresh head is what we ask for: the warning that it is "newly initialized" would alarm in vain.
transformers_logging.set_verbosity_error()
transformers_logging.disable_progress_bar()

Report = dict[str, Any]
"""What transformers reports about loading: `missing_keys` were drawn at random."""


def load_tokenizer(base: Base) -> PreTrainedTokenizerBase:
    """The tokenizer that travels with the base. Raises ArtefactError if it splits a fixed text into
    other pieces than when the base was made."""
    tokenizer = read_tokenizer(base.folder)
    check_canary(tokenizer, base.folder, base.identity["canary"])
    return tokenizer


def load_classifier(
    base: Base, labels: list[str], seed: int, kind: str | None = None
) -> "transformers.PreTrainedModel":
    """A classifier of texts, or by the `kind` of a task of something else, in float32; its head is
    a pure function of `seed`. Raises ArtefactError if the base's weights are corrupt."""
    verify(base.folder / "model.safetensors")
    torch.manual_seed(seed)
    model, _ = load_from(
        base.folder,
        head_of(kind).model(),
        num_labels=len(labels),
        id2label=dict(enumerate(labels)),
        label2id={label: i for i, label in enumerate(labels)},
    )
    return model


def load_masked_lm(base: Base) -> "transformers.PreTrainedModel":
    """A masked-language model in float32 whose decoder is an untied, frozen copy of the word
    embeddings, so that only the input embeddings move (LT-SFT's `freeze_decoder`).

    Raises ArtefactError if the base's weights are corrupt, or if a tensor is missing.
    """
    verify(base.folder / "model.safetensors")
    model, report = load_from(base.folder, transformers.AutoModelForMaskedLM)
    if missing := sorted(report["missing_keys"]):
        raise ArtefactError(f"{base.folder}: the language model's {missing[0]} is not stored")
    untie_decoder(model)
    return model


def load_from(
    folder: Path, kind: Any, allow_pickle: bool = False, **settings: Any
) -> "tuple[transformers.PreTrainedModel, Report]":
    """A model of a folder in float32, by the class `kind`, and how loading went. Code in the folder
    is never run, and a pickle is read on request only, as tensors and nothing else."""
    model, report = kind.from_pretrained(
        folder,
        local_files_only=True,
        trust_remote_code=False,
        use_safetensors=None if allow_pickle else True,
        weights_only=True,
        dtype=torch.float32,
        ignore_mismatched_sizes=True,
        output_loading_info=True,
        **settings,
    )
    return model, report


def untie_decoder(model: "transformers.PreTrainedModel") -> None:
    """Give the output embeddings their own frozen copy of the weights, in place.

    Never call `tie_weights` or `resize_token_embeddings` after this: both tie them again.
    """
    decoder = model.get_output_embeddings()
    decoder.weight = torch.nn.Parameter(decoder.weight.detach().clone(), requires_grad=False)
    model.config.tie_word_embeddings = False
