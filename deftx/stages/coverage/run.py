"""Stage `coverage`: how well the base's tokenizer covers the texts of a run."""

import json
import logging
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
from pydantic import Field
from transformers import PreTrainedTokenizerBase

from deftx.models.base import Base
from deftx.models.load import load_tokenizer
from deftx.models.tokens import encode
from deftx.report.coverage import count, warnings
from deftx.report.csv_files import write_csv
from deftx.store.artefact import METADATA_KEY
from deftx.store.errors import ArtefactError
from deftx.store.items import LABELS, Item, load_items
from deftx.store.strict import Strict

OF_ITEMS = ("data", "world", "trim", "clean")
"""Stages that make text or items."""

LOSSES = ("items_cut", "sentences_in_windows", "words_without_piece", "words_cut")
"""What does not reach a model as it is written, of the items of tasks."""

log = logging.getLogger(__name__)


class Params(Strict):
    """What the texts are compared with."""

    sources: list[str] = Field(description="languages that tasks are trained in")
    names: dict[str, str] = Field(default={}, description="language → its name")
    lengths: dict[str, int] = Field(
        default={}, description="dataset of a task → how many tokens of an item are read"
    )


def coverage(params: Params, *, base: Path, data: list[Path], out: Path) -> None:
    """Write a CSV with a row for each of `data`, parquet artefacts of OF_ITEMS, by language,
    dataset and split; see docs/diagnostics.md for its columns. Log a warning for each language that
    the tokenizer covers much worse than the sources: see `warnings`.

    Raises ArtefactError if an input is not such an artefact.
    """
    tokenizer = load_tokenizer(Base.load(base))
    rows = []
    for path in data:
        texts, provenance = load_items(path), _provenance(path)
        facts = {name: provenance[name] for name in ("language", "dataset", "split")}
        rows.append(
            {
                **facts,
                "labelled": not {*LABELS}.isdisjoint(texts[0]),
                **count(texts, tokenizer),
                **_losses(texts, tokenizer, params.lengths.get(facts["dataset"])),
            }
        )
    frame = pd.DataFrame(rows).sort_values(["language", "dataset", "split"], kind="stable")
    counted = frame.columns.intersection([*LOSSES])
    frame[counted] = frame[counted].astype("Int64")  # else floats, where a row has none
    for text in warnings(frame, params.sources, params.names):
        log.warning(text)
    write_csv(out, frame)


def _losses(
    items: Sequence[Item], tokenizer: PreTrainedTokenizerBase, length: int | None
) -> dict[str, int]:
    """The numbers of LOSSES in items of a task that reads so many tokens of each."""
    if length is None:
        return {}
    plain = [{name: v for name, v in item.items() if name not in LABELS} for item in items]
    if counts := encode(plain, tokenizer, length).counts:
        return dict(counts)
    whole = encode(plain, tokenizer, None)
    return {"items_cut": int((whole.ends - whole.starts > length).sum())}


def _provenance(path: Path) -> dict[str, str]:
    metadata = (pq.read_schema(path).metadata or {}).get(METADATA_KEY.encode(), "{}")
    found: dict[str, str] = json.loads(metadata)
    if (stage := found.get("stage")) not in OF_ITEMS:
        raise ArtefactError(f"{path}: made by {stage}, expected one of {', '.join(OF_ITEMS)}")
    return found
