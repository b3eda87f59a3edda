"""Stage `data`: one split of one language as parquet."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from deftx.data.contradictions import disagreements, leaked
from deftx.data.read import read_items
from deftx.stages.data.settings import Layout, SplitOf
from deftx.store.artefact import file_sha256, read_json
from deftx.store.errors import DataError
from deftx.store.items import Item, write_items
from deftx.store.strict import Strict

log = logging.getLogger(__name__)


class Other(Strict):
    """A file that may contradict the one that is read."""

    role: Literal["train", "test", "parallel"] = Field(description="text of a language is `train`")
    name: str = Field(description="what it is, for messages")
    file: Path
    limit: int | None = None
    layout: Layout


class Params(Layout, SplitOf):
    """Which split of which language is read, and how."""

    limit: int | None = Field(default=None, description="number of rows to read, from the top")
    sha256: str | None = Field(default=None, description="expected checksum of the file")
    classes: dict[str, list[str]] = Field(
        default={}, description="task → its classes, which labels must be among"
    )
    others: list[Other] = Field(
        default=[], description="files to compare with, where they are there: for warnings only"
    )


def data(params: Params, *, download: Path | None = None, file: Path, out: Path) -> None:
    """Read a file of text or of labelled items and write the items as parquet. `download` is the
    artefact of the `download` stage that describes the file, if that stage provided it.

    A warning is logged if training data hold test sentences, or if the ids of a test set contradict
    those of another language.

    Raises DataError as `read_items` does, and if the file does not have the expected checksum.
    """
    if download is not None and not file.is_file():
        raise DataError(
            f"{file}: no such file, although it was downloaded before: restore it, or delete "
            f"{download} and run again"
        )
    items = read_items(file, params, params.limit, classes=params.classes)
    expected, found = params.sha256, file_sha256(file)
    if download is not None:
        expected = read_json(download, "sha256")["sha256"]
    if expected not in (None, found):
        raise DataError(
            f"{file}: its sha256 is {found}, expected {expected}: was it changed after planning?"
        )
    for other in params.others:
        _compare(file, items, other)
    write_items(
        out,
        items,
        stage="data",
        **params.identity(),
        sha256=found,
    )


def _compare(file: Path, items: Sequence[Item], other: Other) -> None:
    """Log what contradicts the items in another file. Of two files that are downloaded at the same
    time at least the later one finds the other."""
    try:
        theirs = read_items(other.file, other.layout, other.limit)
    except DataError:
        return  # it is not there yet, or its own job reports the error
    if other.role == "parallel":
        for found in disagreements(items, theirs):
            log.warning("%s: %s, compared with %s", file, found, other.name)
        return
    tests, trained = (items, theirs) if other.role == "train" else (theirs, items)
    if count := leaked(tests, trained):
        log.warning(
            "%s: %d of %d test items are in the training data, compared with %s",
            file,
            count,
            len(tests),
            other.name,
        )
