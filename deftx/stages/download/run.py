"""Stage `download`: one file of a dataset, where the config says that it lies."""

import os
from pathlib import Path

from pydantic import Field

from deftx.data.download import FetchError, check_content, fetch_from_hub, fetch_url
from deftx.data.lock import Locked, read_lock, record
from deftx.stages.data.settings import HubFile, Split
from deftx.store.artefact import file_sha256, write_json
from deftx.store.errors import DataError, InputError
from deftx.store.lock import alone
from deftx.store.strict import Strict


class Params(Strict):
    """Which file it is; exactly one of url and hub."""

    dataset: str
    language: str
    split: Split
    url: str | None = None
    hub: HubFile | None = None
    given: str | None = Field(
        default=None, description="sha256 of the copy that was there before; null: it is fetched"
    )

    @property
    def address(self) -> str:
        """What the file is known by in data.lock."""
        if (self.url is None) == (self.hub is None):
            raise InputError("give exactly one of url and hub")
        return self.url or self.hub.url  # type: ignore[union-attr]


def download(params: Params, *, lock: Path, file: Path, out: Path) -> None:
    """Fetch `file`, unless it is there, and check it against `lock`, where one that is fetched for
    the first time is recorded; `out` tells its checksum, size and URL.

    A file of another checksum, a part of one or a page in its place never gets the name `file`. A
    copy of the user's own is used as it is, if the lock tells nothing else.

    Raises FetchError if it cannot be had, DataError if it is not what the lock says.
    """
    key = f"datasets.{params.dataset}.{'url' if params.url else 'hub'}"
    key += f" ({params.split} of {params.language})"
    if not file.is_file():
        try:
            with alone(file):
                if not file.is_file():  # nobody else was faster
                    _fetch(params, lock, file)
        except FetchError as error:
            raise FetchError(
                f"{key}: {params.address}: {error}. Run `snakemake downloads` with the same config "
                f"where there is a network, or put the file at {file}"
            ) from None
    found = file_sha256(file)
    if params.given not in (None, found):
        raise DataError(f"{file}: its sha256 is {found}, expected {params.given}: did it change?")
    _check_copy(params, lock, file, found, key)
    write_json(
        out,
        {
            "sha256": found,
            "bytes": file.stat().st_size,
            "url": params.address,
            "given": params.given,
        },
    )


def _fetch(params: Params, lock: Path, file: Path) -> None:
    locked = read_lock(lock).get(params.address)
    temporary = file.with_name(f".{file.name}.part")
    try:
        entry = Locked(sha256="", bytes=0)
        if params.hub is None:
            fetch_url(params.address, temporary)
        else:
            commit = fetch_from_hub(params.hub, temporary, locked and locked.get("commit"))
            if commit != params.hub.revision:
                entry["commit"] = commit
        check_content(temporary, file.name)
        entry |= {"sha256": file_sha256(temporary), "bytes": temporary.stat().st_size}
        if locked is None:
            record(lock, params.address, entry)
        elif entry["sha256"] != locked["sha256"]:
            raise FetchError(
                f"its sha256 is {entry['sha256']} ({entry['bytes']:,} bytes), {lock} has "
                f"{locked['sha256']} ({locked['bytes']:,} bytes): it is another file than at the "
                "first download, or was damaged on the way"
            )
        os.replace(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)


def _check_copy(params: Params, lock: Path, file: Path, found: str, key: str) -> None:
    """Raise DataError if a file that is there is not the one that the lock has."""
    known = read_lock(lock)
    locked = known.get(params.address)
    if locked is not None and locked["sha256"] != found:
        raise DataError(
            f"{key}: {file}: its sha256 is {found}, {lock} has {locked['sha256']} of "
            f"{params.address}: remove the file to fetch it again, or the entry if it is right"
        )
    before = [url for url, entry in known.items() if entry["sha256"] == found]
    if locked is None and before:
        raise DataError(
            f"{key}: {file} is what lies at {before[0]}, not at {params.address}: remove the file "
            "to fetch it anew"
        )
