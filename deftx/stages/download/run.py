"""Stage `download`: one file of a dataset, from the address in the config."""

import os
from pathlib import Path

from pydantic import Field

from deftx.data.download import FetchError, check_content, fetch_from_hub, fetch_rows, fetch_url
from deftx.data.lock import Locked, one_at_a_time, read_lock, record
from deftx.stages.data.settings import HubSource, Split
from deftx.store.artefact import file_sha256, write_json
from deftx.store.errors import DataError, InputError
from deftx.store.strict import Strict


class Params(Strict):
    """Which file it is; exactly one of url and hub."""

    dataset: str
    language: str
    split: Split
    url: str | None = None
    hub: HubSource | None = None
    given: str | None = Field(
        default=None, description="sha256 of the copy that was there before; null: download it"
    )

    @property
    def address(self) -> str:
        """The key of the file in data.lock."""
        if (self.url is None) == (self.hub is None):
            raise InputError("give exactly one of url and hub")
        return self.url or self.hub.url  # type: ignore[union-attr]


def download(params: Params, *, lock: Path, file: Path, out: Path) -> None:
    """Download `file`, unless it exists, and check it against `lock`, which records a first
    download; `out` holds its checksum, size and URL.

    A file with another checksum, a partial file or a web page never gets the name `file`. The
    user's own copy is used unchanged if it does not contradict the lock.

    Raises FetchError if it cannot be downloaded, DataError if it differs from the lock.
    """
    key = f"datasets.{params.dataset}.{'url' if params.url else 'hub'}"
    key += f" ({params.split} of {params.language})"
    if not file.is_file():
        try:
            with one_at_a_time(file):
                if not file.is_file():  # no other job was faster
                    _fetch(params, lock, file)
        except FetchError as error:
            raise FetchError(
                f"{key}: {params.address}: {error}. Run `snakemake downloads` with the same config "
                f"where there is a network, or put the file at {file}"
            ) from None
    found = file_sha256(file)
    if params.given not in (None, found):
        raise DataError(f"{file}: its sha256 is {found}, expected {params.given}: did it change?")
    known = read_lock(lock)
    locked = known.get(params.address)
    if locked is not None and locked["sha256"] != found:
        raise DataError(
            f"{key}: {file}: its sha256 is {found}, expected {locked['sha256']} as {lock} records "
            f"for {params.address}: remove the file to download it again, or the entry if the file "
            "is right"
        )
    same = [url for url, entry in known.items() if entry["sha256"] == found]
    if locked is None and same:
        raise DataError(
            f"{key}: {file} has the content of {same[0]}, not of {params.address}: remove the file "
            "to download it again"
        )
    facts = {"sha256": found, "bytes": file.stat().st_size}
    write_json(out, {**facts, "url": params.address, "given": params.given})


def _fetch(params: Params, lock: Path, file: Path) -> None:
    locked = read_lock(lock).get(params.address)
    temporary = file.with_name(f".{file.name}.part")
    try:
        entry = Locked(sha256="", bytes=0)
        if params.hub is None:
            fetch_url(params.address, temporary)
        else:
            fetch = fetch_rows if params.hub.file is None else fetch_from_hub
            commit = fetch(params.hub, temporary, locked and locked.get("commit"))
            if commit != params.hub.revision:
                entry["commit"] = commit
        check_content(temporary, file.name)
        entry |= {"sha256": file_sha256(temporary), "bytes": temporary.stat().st_size}
        if locked is None:
            record(lock, params.address, entry)
        elif entry["sha256"] != locked["sha256"]:
            raise FetchError(
                f"its sha256 is {entry['sha256']} ({entry['bytes']:,} bytes), {lock} records "
                f"{locked['sha256']} ({locked['bytes']:,} bytes): another file than at the first "
                "download, or damaged on the way"
            )
        os.replace(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)
