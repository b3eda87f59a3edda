"""Text and labelled items as token ids: flat arrays, in memory or mapped from an artefact.

Design choice. A tensor per item would take more memory than its tokens, in every job again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, Protocol, overload

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from deftx.models.base import Base
from deftx.models.load import load_tokenizer
from deftx.stages.tokens.settings import WHOLE
from deftx.store.artefact import file_sha256
from deftx.store.errors import ArtefactError
from deftx.store.items import Items, as_items, load_items, load_labelled, load_text, unknown_label
from deftx.store.tensors import TensorFile, decode_ids, encode_ids

Example = dict[str, torch.Tensor]
"""One example: `input_ids` (length,), and what else its model and its loss need."""

STORED = {
    "input_ids": torch.int32,
    "token_type_ids": torch.uint8,
    "special_tokens_mask": torch.bool,
}
"""What a token has, and how it is stored: its number, its sentence of a pair where the tokenizer
counts them, and in text whether the tokenizer added it."""

AT_ONCE = 1_000
"""Items that the tokenizer gets at a time: its result consists of Python's lists."""


class Examples(Protocol):
    """Examples by number."""

    def __len__(self) -> int: ...
    def __getitem__(self, number: int, /) -> Example: ...


@dataclass(frozen=True, eq=False)
class Tokens(Sequence[Example]):
    """Items as tokens. Item i is made when it is asked for: int64 (length,) for each column (bool
    for the mask of special tokens), and its label as `labels` ().

    Attributes:
        columns: name in STORED → the values of all tokens, (tokens,).
        starts, ends: where each item starts and ends in these, int64 (items,).
        labels: number of each item's class, int64 (items,); None for text.
        ids: of the items of a file, as `encode_ids` writes them; None where they are unknown.
    """

    columns: Mapping[str, torch.Tensor]
    starts: torch.Tensor
    ends: torch.Tensor
    labels: torch.Tensor | None = None
    ids: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.starts)

    @overload
    def __getitem__(self, which: int) -> Example: ...
    @overload
    def __getitem__(self, which: slice) -> "Tokens": ...
    def __getitem__(self, which: int | slice) -> "Example | Tokens":
        if isinstance(which, slice):
            return replace(
                self,
                starts=self.starts[which],
                ends=self.ends[which],
                labels=None if self.labels is None else self.labels[which],
                ids=None,
            )
        start, end = int(self.starts[which]), int(self.ends[which])
        found = {name: values[start:end] for name, values in self.columns.items()}
        example = {n: v if v.dtype == torch.bool else v.long() for n, v in found.items()}
        return example if self.labels is None else {**example, "labels": self.labels[which]}

    def blocks(self, length: int) -> "Tokens":
        """The items, which follow each other, run together and cut into blocks of `length` tokens.
        The last block starts early enough to be as long as the others, so that nothing of a small
        corpus is lost and nothing is padded; a text shorter than that is one short block."""
        first, last = int(self.starts[0]), int(self.ends[-1])
        starts = torch.arange(first, last, length).clamp(max=max(first, last - length))
        return Tokens(self.columns, starts, (starts + length).clamp(max=last))


def encode(
    items: Items | Tokens, tokenizer: PreTrainedTokenizerBase, max_length: int | None
) -> Tokens:
    """Items with `text`, perhaps `text_pair` and the number `label`, each cut to `max_length`
    tokens unless that is None. Tokens are returned as they are."""
    if isinstance(items, Tokens):
        return items
    items = as_items(items)
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
    return Tokens(columns, starts, ends, labels, file["ids"])


def load_unlabelled(path: Path, base: Base, max_length: int) -> Tokens:
    """The tokens of items, as a classifier reads them, without labels: those that a file has are
    not read. Otherwise as `load_tokens`."""
    if path.suffix == ".parquet":
        texts = [{k: v for k, v in item.items() if k != "label"} for item in load_items(path)]
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
    labels = known[stored]
    if (wrong := labels < 0).any():
        first = int(wrong.nonzero()[0])
        item = decode_ids(file["ids"])[first]
        raise unknown_label(file.path, item, names[int(stored[first])], classes)
    return labels
