"""Read text and labelled items from users' files."""

import csv
import gzip
import json
import lzma
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, get_args

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from deftx.stages.data.settings import Format, Layout
from deftx.store.errors import DataError
from deftx.store.items import Item

Rows = list[dict[str, str]]


def read_items(path: Path, layout: Layout, limit: int | None = None) -> list[Item]:
    """The items of a file, as dictionaries of strings: `id` and `text`, and where the layout names
    such columns `text_pair` and `label` (a class of the task).

    Only the first `limit` rows are read, or all. Every cell is read as text; numbers and missing
    values are not guessed. Labelled items may have a blank text: published scores count them. In
    unlabelled text each line of a cell becomes an item, and blank lines are dropped, so an article
    gives one item per paragraph.

    Raises DataError if the file is missing, empty, not UTF-8, of an unknown format, lacks a column,
    or has a label that `layout.labels` does not map.
    """
    columns = layout.columns
    rows = _rows(path, layout, limit)
    for role, column in columns.model_dump().items():
        missing = next((n for n, row in enumerate(rows) if column and column not in row), None)
        if missing is not None:
            raise DataError(
                f"{path}: no column {column!r} (columns.{role}) in item {missing}; "
                f"its columns are {', '.join(map(repr, rows[missing]))}"
            )
    items = []
    for number, row in enumerate(rows):
        item = {"id": row[columns.id] if columns.id else str(number), "text": row[columns.text]}
        if columns.text_pair:
            item["text_pair"] = row[columns.text_pair]
        if columns.label:
            raw = row[columns.label]
            if layout.labels is not None and raw not in layout.labels:
                raise DataError(
                    f"{path}: item {number} has the label {raw!r}, which `labels` does not map; "
                    f"it maps {', '.join(map(repr, layout.labels))}"
                )
            item["label"] = raw if layout.labels is None else layout.labels[raw]
        items.append(item)
    if not columns.label:
        items = [part for item in items for part in _lines(item)]
    if not items:
        raise DataError(f"{path}: no items: the file is empty")
    return items


def _lines(item: Item) -> list[Item]:
    """One item per non-blank line of the text; the id of each of several lines gets its number."""
    lines = item["text"].splitlines()
    names = [item["id"] if len(lines) == 1 else f"{item['id']}.{n}" for n in range(len(lines))]
    return [
        {**item, "id": name, "text": line.strip()}
        for name, line in zip(names, lines, strict=True)
        if line.strip()
    ]


def _rows(path: Path, layout: Layout, limit: int | None) -> Rows:
    """The first rows of a file: column → cell."""
    suffix = Path(path.name.removesuffix(".xz").removesuffix(".gz")).suffix
    kind = layout.format or suffix[1:]
    if kind not in get_args(Format):
        known = ", ".join(f".{name}" for name in get_args(Format))
        raise DataError(f"{path}: unknown format {suffix!r}: expected one of {known}")
    with _errors_with_file(path):
        if kind == "parquet":
            return _parquet(path, limit)
        opener: Any = {".gz": gzip.open, ".xz": lzma.open}.get(path.suffix, open)
        # Without a byte-order mark.
        with opener(path, "rt", encoding="utf-8-sig", newline="") as file:
            if kind == "txt":
                return [{layout.columns.text: line} for line in file.read().splitlines()[:limit]]
            if kind == "jsonl":
                rows = islice((json.loads(line) for line in file if line.strip()), limit)
                return [{column: _text(value) for column, value in row.items()} for row in rows]
            table = pd.read_csv(
                file,
                sep="\t" if kind == "tsv" else ",",
                header=0 if layout.header else None,
                nrows=limit,
                dtype=str,
                keep_default_na=False,
                na_filter=False,
                quoting=csv.QUOTE_MINIMAL if layout.quoting else csv.QUOTE_NONE,
            )
            return _records(table)


def _parquet(path: Path, limit: int | None) -> Rows:
    if limit is None:
        return _records(pd.read_parquet(path))
    rows: Rows = []
    for batch in pq.ParquetFile(path).iter_batches(batch_size=min(limit, 10_000)):
        rows += _records(batch.to_pandas())
        if len(rows) >= limit:
            break
    return rows[:limit]


def _records(frame: pd.DataFrame) -> Rows:
    return [{str(k): _text(v) for k, v in row.items()} for row in frame.to_dict("records")]


def _text(value: Any) -> str:
    """A cell as text; parquet and JSON may store the label 1 as 1.0."""
    return str(int(value) if isinstance(value, float) and value.is_integer() else value)


@contextmanager
def _errors_with_file(path: Path) -> Iterator[None]:
    """Turn every error that reading can raise into a DataError that names the file."""
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    try:
        yield
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: not UTF-8: byte {error.object[error.start]:#04x} at position {error.start} "
            "of the part that was read last"
        ) from None
    except pd.errors.EmptyDataError:
        raise DataError(f"{path}: no items: the file is empty") from None
    except (ValueError, OSError, EOFError, lzma.LZMAError, pa.ArrowException) as error:
        raise DataError(f"{path}: cannot be read: {error}") from None
