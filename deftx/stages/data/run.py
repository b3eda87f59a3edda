"""Stage `data`: one split of one language as parquet."""

import json
from pathlib import Path
from typing import Literal

from pydantic import Field

from deftx.data.read import read_items
from deftx.stages.data.settings import Columns, Format
from deftx.store.artefact import file_sha256
from deftx.store.errors import DataError
from deftx.store.items import write_items
from deftx.store.strict import Strict


class Params(Strict):
    """What decides the items of one split of one language."""

    dataset: str
    language: str
    split: Literal["train", "valid", "test"]
    columns: Columns = Columns()
    labels: dict[str, str] | None = Field(default=None, description="label in the file → class")
    quoting: bool = Field(default=True, description="csv and tsv cells may be quoted")
    header: bool = Field(default=True, description="csv and tsv begin with names of columns")
    format: Format | None = Field(default=None, description="if the file's name does not tell it")
    limit: int | None = Field(default=None, description="how many rows are read at most")
    sha256: str | None = Field(
        default=None, description="of the file, where known; another one is an error"
    )


def data(params: Params, *, download: Path | None = None, file: Path, out: Path) -> None:
    """Read a file of text or of labelled items into parquet; `download` is what the stage of that
    name says of the file.

    Raises DataError as `read_items` does, and if the file is not the one whose checksum is known.
    """
    if download is not None and not file.is_file():
        raise DataError(
            f"{file}: no such file; it has been fetched before: put it back, or delete {download} "
            "and run again"
        )
    items = read_items(
        file,
        params.columns,
        params.labels,
        params.quoting,
        header=params.header,
        kind=params.format,
        limit=params.limit,
    )
    expected, found = params.sha256, file_sha256(file)
    if download is not None:
        expected = json.loads(download.read_text(encoding="utf-8"))["sha256"]
    if expected not in (None, found):
        raise DataError(
            f"{file}: its sha256 is {found}, expected {expected}: did it change meanwhile?"
        )
    write_items(
        out,
        items,
        stage="data",
        dataset=params.dataset,
        language=params.language,
        split=params.split,
        sha256=found,
    )
