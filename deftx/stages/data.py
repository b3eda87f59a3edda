"""Stage `data`: one split of one language as parquet."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from deftx.artefact import file_sha256
from deftx.data import DataError, read_items, write_items
from deftx.settings.data import Columns
from deftx.settings.strict import Strict


class Params(Strict):
    """What decides the items of one split of one language."""

    dataset: str
    language: str
    split: Literal["train", "valid", "test"]
    columns: Columns = Columns()
    labels: dict[str, str] | None = Field(default=None, description="label in the file → class")
    quoting: bool = Field(default=True, description="csv and tsv cells may be quoted")
    sha256: str | None = Field(
        default=None, description="of the file, where known; another one is an error"
    )


def data(params: Params, *, file: Path, out: Path) -> None:
    """Read a file of text or of labelled items into parquet.

    Raises DataError as `read_items` does, and if the file is not the one whose checksum is given.
    """
    items = read_items(file, params.columns, params.labels, params.quoting)
    found = file_sha256(file)
    if params.sha256 not in (None, found):
        raise DataError(
            f"{file}: its sha256 is {found}, expected {params.sha256}: did it change meanwhile?"
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
