"""How much there is to train on and to predict: as far as files, the world or the config tell."""

import json
from collections.abc import Sequence
from functools import cache
from itertools import chain
from math import inf
from pathlib import Path

import pyarrow.parquet as pq
from tokenizers import Tokenizer

from deftx.data.read import read_items
from deftx.estimate.ranges import Range, exactly, total
from deftx.plan.graph import Artefact
from deftx.plan.plan import Plan
from deftx.store.artefact import manifest_path
from deftx.store.errors import DataError
from deftx.store.items import Item

SAMPLE = 2_000
"""Items whose tokens are counted; the others are taken to be like them."""

SHORT = 8
"""Where nothing tells how long texts are, they have between max_length / SHORT and max_length
tokens."""


class Items:
    """Numbers of items and of tokens of the data of a plan.

    Attributes:
        unknown: what could not be told, a line each.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan, self._root = plan, Path(plan.root)
        folder = plan.files.base_folder()
        places = [self._root / "base", *([folder] if folder else [])]
        found = [place / "tokenizer.json" for place in places]
        path = next((path for path in found if path.is_file()), None)
        self._tokenizer = None if path is None else Tokenizer.from_file(str(path))
        if self._tokenizer is not None:
            self._tokenizer.no_truncation()
            self._tokenizer.no_padding()
        self.unknown: dict[str, None] = {}
        self._read = cache(self._items)
        self.count = cache(self._count)
        self.lengths = cache(self._lengths)

    def _count(self, artefact: Artefact) -> Range:
        """Items of a split of a language: of the artefact, the world, the user's file, or as the
        config says. Of text that is still to be cleaned, what it is put together from: cleaning
        leaves out little."""
        made = manifest_path(self._root / artefact.path)
        if made.is_file() and "items" in (known := json.loads(made.read_text(encoding="utf-8"))):
            return exactly(known["items"])
        if artefact.stage == "clean":
            return total(self.count(part) for part in self._parts(artefact))
        dataset = self._plan.config.datasets.get(artefact["dataset"])
        split = artefact["split"]
        if dataset is not None and split in dataset.items:
            return exactly(dataset.items[split])
        items = self._read(artefact)
        if items is not None:
            return exactly(len(items))
        self.unknown[f"{artefact['dataset']}: how many items of {split}"] = None
        return Range(1, inf)

    def _lengths(self, artefact: Artefact) -> tuple[int, ...] | None:
        """Tokens of items, special ones included, from a sample of them; None if there are no items
        yet, or no tokenizer."""
        if self._tokenizer is None or (items := self._read(artefact)) is None:
            return None
        sample = items[:: max(1, len(items) // SAMPLE)]
        texts = [(i["text"], i["text_pair"]) if "text_pair" in i else i["text"] for i in sample]
        return tuple(len(encoding.ids) for encoding in self._tokenizer.encode_batch(texts))

    def tokens(self, artefact: Artefact) -> Range:
        """Tokens of a text, special ones included."""
        lengths = self.lengths(artefact)
        if lengths is None:
            what = "tokenizer" if self._read(artefact) is not None else "text"
            self.unknown[f"{self._named(artefact)}: how many tokens; there is no {what} yet"] = None
            return Range(1, inf)
        return self.count(artefact) * (sum(lengths) / len(lengths))

    def mean_length(self, artefacts: Sequence[Artefact], longest: int) -> Range:
        """Tokens of an item in the mean, cut to the `longest`."""
        known = [self.lengths(artefact) for artefact in artefacts]
        cut = [min(length, longest) for lengths in known if lengths for length in lengths]
        if None in known or not cut:
            for artefact, lengths in zip(artefacts, known, strict=True):
                if lengths is None:
                    name = self._named(artefact)
                    self.unknown[f"{name}: how long texts are; from a few tokens to max_length"] = (
                        None
                    )
            return Range(max(1, longest / SHORT), longest)
        return exactly(sum(cut) / len(cut))

    def _items(self, artefact: Artefact) -> list[Item] | None:
        made = self._root / artefact.path
        if made.is_file():
            return pq.read_table(made).to_pylist()
        if artefact.stage in ("trim", "clean"):
            parts = [self._read(part) for part in self._parts(artefact)]
            known = [items for items in parts if items is not None]
            return list(chain.from_iterable(known)) if len(known) == len(parts) else None
        if artefact.stage != "data" or not (file := self._plan.files.of(artefact)).is_file():
            return None
        dataset = self._plan.files.dataset(artefact["dataset"])
        try:
            return read_items(file, dataset, dataset.limit.get(artefact["language"]))
        except DataError:  # the stage `data` will say what is wrong with it
            return None

    def _parts(self, artefact: Artefact) -> list[Artefact]:
        """What is cleaned, or trimmed."""
        if artefact.stage == "clean":
            return self._plan.inputs(artefact)["text"]
        return [Artefact("data", artefact.wildcards)]

    def _named(self, artefact: Artefact) -> str:
        """The dataset, or datasets, of a text."""
        parts = self._parts(artefact) if artefact.stage == "clean" else [artefact]
        return ", ".join(part["dataset"] for part in parts)
