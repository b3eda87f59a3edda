"""A trial of a base: what training and prediction will ask of it, on a few short texts.

An architecture may have the right classes and still not work here: its head may read more than the
last hidden states, or its predictions for a text may depend on the texts beside it.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from transformers import PreTrainedTokenizerBase

from deftx.engine.masked_tokens import MaskedTokens
from deftx.models.base import Base
from deftx.models.load import load_classifier, load_masked_lm, load_tokenizer
from deftx.models.predict import padded, predict_and_pool
from deftx.models.tokenizer import CANARY
from deftx.models.tokens import encode
from deftx.store.errors import ArtefactError, InputError
from deftx.tasks.heads import head_of

TEXTS = (CANARY[0], CANARY[1], "ba bo")

TOLERANCE = 1e-3
"""Of the equalities below, relative to the largest value: far above rounding in float32, far below
what a wrong computation gives."""


def check_works(base: Base, kinds: Sequence[str] = ()) -> None:
    """Raise ArtefactError, with the reason, unless the loss at masked tokens is that of
    transformers over all tokens, and a prediction is the same in a padded batch as alone: that of a
    classification, and of further kinds of tasks. Raises InputError if the tokenizer cannot take
    the items of one."""
    tokenizer, length = load_tokenizer(base), min(32, base.positions or 32)
    try:
        reason = _language_model(load_masked_lm(base), tokenizer, length)
        for kind in dict.fromkeys(["classification", *kinds]):
            model = load_classifier(base, ["a", "b", "c"], 0, kind)
            reason = reason or _classifier(model, kind, tokenizer, length)
    except (ArtefactError, InputError):
        raise
    except Exception as error:  # whatever an architecture raises that wants other inputs
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    if reason:
        raise ArtefactError(f"model type {base.model_type!r} does not work here: {reason}")


@torch.no_grad()
def _language_model(model: Any, tokenizer: PreTrainedTokenizerBase, length: int) -> str:
    items = [{"text": text} for text in TEXTS]
    batch = padded(encode(items, tokenizer, length), tokenizer, length)
    ids, mask = batch["input_ids"], batch["attention_mask"]
    model.eval()
    places = mask.flatten().nonzero().squeeze(1)[::2]
    targets = ids.flatten()[places]
    logits = model(input_ids=ids, attention_mask=mask).logits.flatten(0, 1)[places]
    expected = cross_entropy(logits, targets, reduction="sum")
    if not expected.isfinite():
        return "the loss of its language model is not finite"
    reason = "the head of its language model is more than a linear decoder of the last hidden state"
    try:
        found = MaskedTokens(model)(ids, places, targets, mask)
    except Exception as error:  # what a head raises that lacks what it reads
        return f"{reason} ({type(error).__name__}: {error})"
    return "" if torch.isclose(found, expected, rtol=TOLERANCE) else reason


def _classifier(model: Any, kind: str, tokenizer: PreTrainedTokenizerBase, length: int) -> str:
    items = [head_of(kind).item(text) for text in TEXTS]
    together, apart = (
        predict_and_pool(model, items, tokenizer, length, size) for size in (len(items), 1)
    )
    for found, expected in zip(together, apart, strict=True):
        if not found.isfinite().all():
            return f"the predictions of its model for {kind} are not finite"
        if (found - expected).abs().max() > TOLERANCE * expected.abs().max():
            return f"what it predicts for a text ({kind}) depends on the other texts of a batch"
    return ""
