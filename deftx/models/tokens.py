"""Text and labelled items made into tokens, or read as such from their artefacts."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from deftx.models.base import Base
from deftx.models.load import load_tokenizer
from deftx.models.token_arrays import STORED, Tokens
from deftx.stages.tokens.settings import WHOLE
from deftx.store.artefact import file_sha256
from deftx.store.errors import ArtefactError
from deftx.store.items import (
    LABELS,
    Items,
    as_items,
    load_items,
    load_labelled,
    load_text,
    unknown_label,
)
from deftx.store.tensors import TensorFile, decode_ids, encode_ids
from deftx.tasks.tagging.tokens import encode_words, word_tokens

AT_ONCE = 1_000
"""Items that the tokenizer gets at a time: its result consists of Python's lists."""


def encode(
    items: Items | Tokens, tokenizer: PreTrainedTokenizerBase, max_length: int | None
) -> Tokens:
    """Items with `text`, perhaps `text_pair` and the number `label`, each cut to `max_length`
    tokens unless that is None; or with `words`, see `encode_words`. Tokens are returned as they
    are."""
    if isinstance(items, Tokens):
        return items
    items = as_items(items)
    if "words" in items[0]:
        return encode_words(items, tokenizer, max_length)
    names = [name for name in ("text", "text_pair", "label") if name in items[0]]
    column: dict[str, list[Any]] = {name: [item[name] for item in items] for name in names}
    found = _encode(column["text"], column.get("text_pair"), tokenizer, max_length)
    return replace(found, labels=torch.tensor(column["label"])) if "label" in column else found


def encode_text(
    lines: Sequence[str] | Tokens, tokenizer: PreTrainedTokenizerBase, max_length: int | None
) -> Tokens:
    """Lines, each with its special tokens and their mask, cut to `max_length` tokens unless that is
    None. Tokens are returned as they are."""
    if isinstance(lines, Tokens):
        return lines
    return _encode(lines, None, tokenizer, max_length, return_special_tokens_mask=True)


def _encode(
    texts: Sequence[str],
    pairs: Sequence[str] | None,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int | None,
    **more: bool,
) -> Tokens:
    lengths: list[int] = []
    parts: dict[str, list[np.ndarray]] = {}
    for first in range(0, len(texts), AT_ONCE):
        some = slice(first, first + AT_ONCE)
        encoded = tokenizer(
            list(texts[some]),
            None if pairs is None else list(pairs[some]),
            truncation=max_length is not None,
            max_length=max_length,
            return_attention_mask=False,
            verbose=False,
            **more,
        )
        if more:  # a language model is given no sentence numbers
            encoded.pop("token_type_ids", None)
        lengths += map(len, encoded["input_ids"])
        for name, values in encoded.items():
            dtype = torch.empty((), dtype=STORED[name]).numpy().dtype
            parts.setdefault(name, []).append(np.fromiter(chain.from_iterable(values), dtype))
    columns = {name: torch.from_numpy(np.concatenate(few)) for name, few in parts.items()}
    ends = torch.tensor(lengths).cumsum(0)
    return Tokens(columns, ends - torch.tensor(lengths), ends)


def tokenizer_sha256(base: Base) -> str:
    """The checksum of a base's tokenizer, as its `backbone.json` has it."""
    return file_sha256(base.folder / "tokenizer.json")


def load_tokens(
    path: Path, base: Base, max_length: int | None, classes: Sequence[str] | None = None
) -> Tokens:
    """The tokens of text, or of items of these classes: mapped from a file of the stage `tokens`,
    or made here from a parquet artefact.

    Raises ArtefactError if a file is corrupt, its tokens are of another tokenizer or length, or an
    item has no label or one that is not among the classes.
    """
    if path.suffix == ".parquet":
        tokenizer = load_tokenizer(base)
        if classes is None:
            return encode_text(load_text(path), tokenizer, max_length)
        items = load_labelled(path, classes)
        ids = encode_ids(item["id"] for item in items)
        return replace(encode(items, tokenizer, max_length), ids=ids)
    file = TensorFile(path)
    expected = {
        "stage": "tokens",
        "tokenizer": tokenizer_sha256(base),
        "length": max_length or WHOLE,
    }
    for key, value in expected.items():
        if (found := file.provenance.get(key)) != value:
            raise ArtefactError(f"{path}: {key} {found}, expected {value}")
    columns = {name: file[name] for name in STORED if name in file}
    ends = file["ends"]
    starts = torch.cat([ends.new_zeros(1), ends[:-1]])
    labels = None if classes is None else _labels(file, classes)
    found = Tokens(columns, starts, ends, labels, file["ids"])
    return word_tokens(found, file["windows"], file["words"]) if "words" in file else found


def load_unlabelled(path: Path, base: Base, max_length: int) -> Tokens:
    """The tokens of items, as a classifier reads them, without labels: those that a file has are
    not read. Otherwise as `load_tokens`."""
    if path.suffix == ".parquet":
        texts = [{k: v for k, v in item.items() if k not in LABELS} for item in load_items(path)]
        found = encode(texts, load_tokenizer(base), max_length)
        return replace(found, ids=encode_ids(item["id"] for item in texts))
    found = load_tokens(path, base, max_length)
    columns = {n: v for n, v in found.columns.items() if n != "special_tokens_mask"}
    return replace(found, columns=columns)


def _labels(file: TensorFile, classes: Sequence[str]) -> torch.Tensor:
    """The labels of a file as numbers of these classes."""
    names = file.provenance["classes"] or [None]
    stored = file["labels"] if "labels" in file else torch.zeros(1, dtype=torch.int64)
    known = torch.tensor([classes.index(n) if n in classes else -1 for n in names])
    labels = known[stored.long()]
    if (wrong := labels < 0).any():
        first = int(wrong.nonzero()[0])
        at = int((file["words"] <= first).sum()) if "words" in file else first
        item = decode_ids(file["ids"])[at]
        raise unknown_label(file.path, item, names[int(stored[first])], classes)
    return labels
