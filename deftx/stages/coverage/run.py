"""Stage `coverage`: how well the base's tokenizer covers the texts of a run."""

import json
import logging
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pyarrow.parquet as pq
from pydantic import Field

from deftx.models.base import Base
from deftx.models.load import load_tokenizer
from deftx.report.coverage import Coverage, count, warnings
from deftx.store.artefact import METADATA_KEY, write_text
from deftx.store.errors import ArtefactError
from deftx.store.items import load_items
from deftx.store.strict import Strict

OF_ITEMS = ("data", "world", "trim", "clean")
"""Stages that make text or items."""

log = logging.getLogger(__name__)


class Params(Strict):
    """What texts are compared with."""

    sources: list[str] = Field(description="languages that tasks were learnt in")
    names: dict[str, str] = Field(default={}, description="language → what it is called")


class Row(NamedTuple):
    """A line of the table; see `Coverage`. `labelled` tells a task's items from text."""

    language: str
    dataset: str
    split: str
    labelled: bool
    items: int
    words: int
    pieces: int
    unknown: int
    pieces_per_word: float | None
    unknown_share: float | None
    characters_per_piece: float | None


def coverage(params: Params, *, base: Path, data: list[Path], out: Path) -> None:
    """Write a CSV with a `Row` for each of `data`, parquet artefacts of OF_ITEMS, by
    language, dataset and split; and log a warning for each language that the tokenizer covers
    much worse than the sources: see `warnings`.

    Raises ArtefactError if an input is not such an artefact.
    """
    tokenizer = load_tokenizer(Base.load(base))
    rows: list[Row] = []
    whole: dict[str, Coverage] = {}
    for path in data:
        loaded, language, dataset, split = load_items(path), *_provenance(path)
        found = count(loaded, tokenizer)
        whole[language] = whole.get(language, Coverage()) + found
        rows.append(
            Row(
                language,
                dataset,
                split,
                "label" in loaded[0],
                found.items,
                found.words,
                found.pieces,
                found.unknown,
                found.pieces_per_word,
                found.unknown_share,
                found.characters_per_piece,
            )
        )
    for text in warnings(whole, params.sources, params.names):
        log.warning(text)
    rows.sort(key=lambda row: row[:3])
    frame = pd.DataFrame(rows, columns=list(Row._fields))
    write_text(out, frame.to_csv(index=False, float_format="%.6f", lineterminator="\n"))


def _provenance(path: Path) -> tuple[str, str, str]:
    metadata = json.loads((pq.read_schema(path).metadata or {}).get(METADATA_KEY.encode(), "{}"))
    if metadata.get("stage") not in OF_ITEMS:
        raise ArtefactError(
            f"{path}: made by {metadata.get('stage')}, expected one of {', '.join(OF_ITEMS)}"
        )
    return metadata["language"], metadata["dataset"], metadata["split"]
