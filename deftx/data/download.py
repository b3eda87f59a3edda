"""Fetching a file by http, from the Hugging Face hub, or from a local folder."""

import os
import shutil
import time
from pathlib import Path
from urllib.parse import unquote, urlsplit

import requests
from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url

from deftx.stages.data.settings import HubFile
from deftx.store.artefact import file_sha256
from deftx.store.errors import DataError
from deftx.store.hub import HUB_ERRORS

ATTEMPTS = 6
"""In a row that bring nothing new."""
PAUSE = 1.0
"""Seconds before the second attempt; twice as long before each further one."""
LONGEST_PAUSE = 60.0
TIMEOUT = (15.0, 60.0)
"""Seconds to connect, and between two pieces of a file."""
PIECE = 1 << 16
OFFLINE = "HF_HUB_OFFLINE is set: nothing is fetched"
MEANING = {
    401: "not allowed: does it need a login?",
    403: "not allowed",
    404: "there is no such file: has it moved, or is the revision wrong?",
    410: "gone for good",
    451: "not available for legal reasons",
}


class FetchError(DataError):
    """A file cannot be had."""


class _InterruptedError(Exception):
    """A transfer that may go on; `after` seconds, if the server has said when."""

    def __init__(self, reason: str, after: float = 0.0) -> None:
        super().__init__(reason)
        self.after = after


def is_offline() -> bool:
    """Whether the user has said that there is no network, as the hub's libraries are told."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


def fetch_url(url: str, to: Path) -> None:
    """Write what lies at a URL, which is http(s):// or file://, to a path.

    A transfer that breaks off goes on where it was, if the server's ETag tells that it is still the
    same file, and else begins again. Raises FetchError, with the reason, if it cannot be had.
    """
    parts = urlsplit(url)
    if parts.scheme == "file":
        source = Path(unquote(parts.path))
        if not source.is_file():
            raise FetchError(f"there is no file {source}")
        shutil.copyfile(source, to)
        return
    if is_offline():
        raise FetchError(OFFLINE)
    transfer, attempts = _Transfer(url, to), 0
    with requests.Session() as session:
        while True:
            before = transfer.arrived
            try:
                transfer.attempt(session)
                return
            except _InterruptedError as error:
                attempts = 1 if transfer.arrived > before else attempts + 1
                if attempts == ATTEMPTS:
                    raise FetchError(f"{error} ({ATTEMPTS} attempts)") from None
                pause = PAUSE * 2 ** (attempts - 1)
                time.sleep(min(max(pause, error.after), LONGEST_PAUSE))


class _Transfer:
    """What has arrived of a file, and the ETag that it had."""

    def __init__(self, url: str, to: Path) -> None:
        self._url, self._to, self._etag = url, to, ""

    @property
    def arrived(self) -> int:
        """Bytes."""
        return self._to.stat().st_size if self._to.is_file() else 0

    def attempt(self, session: requests.Session) -> None:
        """One request, from where the file ends. Raises _InterruptedError if it breaks off."""
        begun = self.arrived if self._etag else 0
        # The length of a compressed transfer is not that of the file.
        headers = {"Accept-Encoding": "identity"}
        if begun:
            headers |= {"Range": f"bytes={begun}-", "If-Range": self._etag}
        try:
            with session.get(self._url, headers=headers, stream=True, timeout=TIMEOUT) as answer:
                _check_status(answer)
                self._receive(answer, begun if answer.status_code == 206 else 0)
        except requests.RequestException as error:
            raise _InterruptedError(f"{type(error).__name__}: {error}") from None

    def _receive(self, answer: requests.Response, begun: int) -> None:
        found = answer.headers.get("ETag", "")
        self._etag = "" if found.startswith("W/") else found  # a weak one tells nothing of bytes
        with open(self._to, "ab" if begun else "wb") as file:
            for piece in answer.iter_content(PIECE):
                file.write(piece)
            got = file.tell()
        length = answer.headers.get("Content-Length")
        if length is not None and got != (expected := int(length) + begun):
            raise _InterruptedError(f"it broke off after {got:,} of {expected:,} bytes")


def _check_status(answer: requests.Response) -> None:
    status = answer.status_code
    if status == 429 or status >= 500:
        after = answer.headers.get("Retry-After", "")
        raise _InterruptedError(f"HTTP {status}", float(after) if after.isdigit() else 0.0)
    if status not in (200, 206):
        raise FetchError(f"HTTP {status}: {MEANING.get(status, answer.reason)}")


def fetch_from_hub(hub: HubFile, to: Path, commit: str | None = None) -> str:
    """Write a file of a dataset of the hub to a path; the commit that it is of. `commit` stands for
    the revision where it is known from before.

    Raises FetchError if it cannot be had, or is not what the hub itself says that it is.
    """
    # Before the library looks for a copy of its own.
    if is_offline():
        raise FetchError(OFFLINE)
    revision = commit or hub.revision
    # It keeps what has arrived here, and goes on with it.
    folder = to.with_name(f"{to.name}.hub")
    try:
        address = hf_hub_url(hub.dataset, hub.file, repo_type="dataset", revision=revision)
        facts = get_hf_file_metadata(address)
        revision = facts.commit_hash or revision
        got = hf_hub_download(
            hub.dataset, hub.file, repo_type="dataset", revision=revision, local_dir=folder
        )
    except HUB_ERRORS as error:
        raise FetchError(f"the hub does not give it: {str(error).strip()}") from None
    # Of large files the ETag is their sha256.
    if facts.etag and len(facts.etag) == 64 and facts.etag != (found := file_sha256(Path(got))):
        shutil.rmtree(folder)
        raise FetchError(f"its sha256 is {found}, the hub says {facts.etag}")
    os.replace(got, to)
    shutil.rmtree(folder)
    return revision


def check_content(path: Path, name: str) -> None:
    """Raise FetchError if what has arrived is no data: nothing, a page of a web site, or what Git
    LFS keeps in place of a large file."""
    with open(path, "rb") as file:
        begin = file.read(512).lstrip().lower()
    if not begin:
        raise FetchError("what arrived is empty")
    if begin.startswith((b"<!doctype html", b"<html")) and not name.endswith((".html", ".htm")):
        raise FetchError("what arrived is a web page: a login, an error, or a moved file")
    if begin.startswith(b"version https://git-lfs.github.com/spec/"):
        raise FetchError("what arrived is a pointer of Git LFS, and not the file")
