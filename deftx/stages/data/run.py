"""Stage `data`: one split of one language as parquet."""

import json
from pathlib import Path

from pydantic import Field

from deftx.data.read import read_items
from deftx.stages.data.settings import Layout, SplitOf
from deftx.store.artefact import file_sha256
from deftx.store.errors import DataError
from deftx.store.items import write_items


class Params(Layout, SplitOf):
    """Which split of which language is read, and how."""

    limit: int | None = Field(default=None, description="number of rows to read, from the top")
    sha256: str | None = Field(default=None, description="expected checksum of the file")


def data(params: Params, *, download: Path | None = None, file: Path, out: Path) -> None:
    """Read a file of text or of labelled items and write the items as parquet. `download` is the
    artefact of the `download` stage that describes the file, if that stage provided it.

    Raises DataError as `read_items` does, and if the file does not have the expected checksum.
    """
    if download is not None and not file.is_file():
        raise DataError(
            f"{file}: no such file, although it was downloaded before: restore it, or delete "
            f"{download} and run again"
        )
    items = read_items(file, params, params.limit)
    expected, found = params.sha256, file_sha256(file)
    if download is not None:
        expected = json.loads(download.read_text(encoding="utf-8"))["sha256"]
    if expected not in (None, found):
        raise DataError(
            f"{file}: its sha256 is {found}, expected {expected}: was it changed after planning?"
        )
    write_items(
        out,
        items,
        stage="data",
        **params.identity(),
        sha256=found,
    )
