"""Stage `tokens`: the token ids of a text or of labelled items, for all that read them."""

import logging
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from deftx.models.base import Base
from deftx.models.load import load_tokenizer
from deftx.models.tokens import encode, encode_text, tokenizer_sha256
from deftx.store.artefact import digests
from deftx.store.items import class_names, load_items, load_labelled
from deftx.store.strict import Strict
from deftx.store.tensors import encode_ids, save_tensors

log = logging.getLogger(__name__)


class Params(Strict):
    """Which items are tokenised, and how."""

    of: str = Field(default="", description="their place in the run: stage, dataset, language, …")
    length: Annotated[int, Field(ge=1)] | Literal["whole"] = Field(
        default="whole", description="cut each item to so many tokens, special ones included"
    )


def tokens(params: Params, *, base: Path, data: Path, out: Path) -> None:
    """Write the columns of `deftx.models.token_arrays.STORED` (tokens,), of one item after the
    other, `ends` (items,), where each item ends in them, and the `ids`; for items with labels also
    `labels` (items,), which count in the metadata's `classes`, their names in order. Sentences of
    words have `ends` of their windows, a label for each word, and further tensors, see
    `deftx.tasks.tagging.tokens.WordTokens`.

    Source: design choice. A pair is cut by the tokenizer, from the longer text first, which no
    later cut of whole pairs can repeat: so the length is one of the artefact.

    Raises ArtefactError if an input is missing or corrupt.
    """
    encoder, items = Base.load(base), load_items(data)
    tokenizer = load_tokenizer(encoder)
    length = params.length if isinstance(params.length, int) else None
    names = class_names(items)
    if names:
        found = encode(load_labelled(items, names), tokenizer, length)
    elif items[0].keys() & {"text_pair", "words"}:
        found = encode(items, tokenizer, length)
    else:
        found = encode_text([item["text"] for item in items], tokenizer, length)
    if lost := ", ".join(f"{count} {what}" for what, count in found.counts.items() if count):
        log.info("%s: %s", params.of, lost.replace("_", " "))
    save_tensors(
        out,
        {**found.tensors(), "ids": encode_ids(item["id"] for item in items)},
        stage="tokens",
        **params.model_dump(),
        classes=names,
        base=encoder.identity,
        tokenizer=tokenizer_sha256(encoder),
        params=params.model_dump(),
        inputs=digests(data=data),
    )
