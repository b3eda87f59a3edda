"""Downloading a file by http, from the Hugging Face hub, or from a local folder."""

import json
import os
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import requests
from huggingface_hub import HfApi, get_hf_file_metadata, hf_hub_download, hf_hub_url
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from deftx.stages.data.settings import HubSource
from deftx.store.artefact import file_sha256
from deftx.store.errors import DataError
from deftx.store.hub import HUB_ERRORS

RETRY = Retry(total=6, backoff_factor=1, status_forcelist=(429, *range(500, 600)))
"""Six more attempts, 1 s, 2 s, 4 s, … apart, or as `Retry-After` asks."""
TIMEOUT = (15.0, 60.0)
"""Seconds to connect, and between two pieces of a file."""
OFFLINE = "HF_HUB_OFFLINE is set: nothing is downloaded"
MEANING = {
    401: "not allowed: is a login needed?",
    403: "not allowed",
    404: "no such file: has it moved, or is the revision wrong?",
    410: "removed for good",
    451: "not available for legal reasons",
}


class FetchError(DataError):
    """A file cannot be downloaded."""


def fetch_url(url: str, to: Path) -> None:
    """Write the content of a URL, http(s):// or file://, to a path. Raises FetchError with the
    reason if it cannot be downloaded."""
    parts = urlsplit(url)
    if parts.scheme == "file":
        source = Path(unquote(parts.path))
        if not source.is_file():
            raise FetchError(f"there is no file {source}")
        shutil.copyfile(source, to)
        return
    _check_online()
    try:
        with requests.Session() as session:
            session.mount(f"{parts.scheme}://", HTTPAdapter(max_retries=RETRY))
            # The length of a compressed transfer is not that of the file.
            headers = {"Accept-Encoding": "identity"}
            with session.get(url, headers=headers, stream=True, timeout=TIMEOUT) as answer:
                if (status := answer.status_code) != 200:
                    raise FetchError(f"HTTP {status}: {MEANING.get(status, answer.reason)}")
                with open(to, "wb") as file:
                    file.writelines(answer.iter_content(1 << 16))  # checks the length
    except requests.RequestException as error:
        raise FetchError(f"{type(error).__name__}: {error}") from None


def fetch_from_hub(hub: HubSource, to: Path, commit: str | None = None) -> str:
    """Write a file of a dataset on the hub to a path; returns its commit. `commit` replaces the
    revision if it is known already.

    Raises FetchError if the file cannot be downloaded or differs from the hub's own checksum.
    """
    _check_online()  # before the library looks for a copy of its own
    assert hub.file is not None, "else it is a configuration"
    revision = commit or hub.revision
    folder = to.with_name(f"{to.name}.hub")  # the library keeps partial downloads here
    try:
        address = hf_hub_url(hub.dataset, hub.file, repo_type="dataset", revision=revision)
        facts = get_hf_file_metadata(address)
        revision = facts.commit_hash or revision
        got = hf_hub_download(
            hub.dataset, hub.file, repo_type="dataset", revision=revision, local_dir=folder
        )
    except HUB_ERRORS as error:
        raise FetchError(f"cannot download from the hub: {str(error).strip()}") from None
    # The ETag of a large file is its sha256.
    if facts.etag and len(facts.etag) == 64 and facts.etag != (found := file_sha256(Path(got))):
        shutil.rmtree(folder)
        raise FetchError(f"its sha256 is {found}, expected {facts.etag} as on the hub")
    os.replace(got, to)
    shutil.rmtree(folder)
    return revision


def fetch_rows(hub: HubSource, to: Path, commit: str | None = None) -> str:
    """Write a split of a dataset's configuration as JSON lines, names of classes in place of their
    numbers, also in lists; returns its commit. `commit` replaces the revision if it is known
    already.

    The library's own cache of the rows is made anew and removed again, so that it never decides
    what the rows are. No code of the repository is run.

    Raises FetchError if the split cannot be downloaded or read.
    """
    _check_online()
    # Here, since it takes half a second and jobs that only train need not have it.
    from datasets import ClassLabel, disable_progress_bars, load_dataset
    from datasets.exceptions import DatasetsError

    disable_progress_bars()
    folder = to.with_name(f"{to.name}.hub")
    try:
        revision = commit or HfApi().dataset_info(hub.dataset, revision=hub.revision).sha
        split = load_dataset(
            hub.dataset, hub.config, split=hub.split, revision=revision, cache_dir=str(folder)
        )
        each = {name: getattr(kind, "feature", kind) for name, kind in split.features.items()}
        classes = {name: kind for name, kind in each.items() if isinstance(kind, ClassLabel)}
        with open(to, "w", encoding="utf-8", newline="\n") as file:
            for row in split:
                row |= {name: _class_name(kind, row[name]) for name, kind in classes.items()}
                # What JSON has no form for becomes null, which no labelled item may have.
                line = json.dumps(row, ensure_ascii=False, default=lambda _: None)
                file.write(f"{line}\n")
    except (*HUB_ERRORS, RuntimeError, DatasetsError) as error:
        reason = " ".join(f"{error} {error.__cause__ or ''}".split())
        raise FetchError(f"cannot load it from the hub: {reason}") from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return str(revision)


def _class_name(kind: Any, value: Any) -> Any:
    """The name of a class, or those of a list; a number below 0, which stands for no label, as it
    is."""
    if isinstance(value, list):
        return [_class_name(kind, each) for each in value]
    if value is None:
        return None
    return str(value) if value < 0 else kind.int2str(value)


def _check_online() -> None:
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        raise FetchError(OFFLINE)


def check_content(path: Path, name: str) -> None:
    """Raise FetchError if a downloaded file is not data: if it is empty, a web page, or the pointer
    that Git LFS keeps in place of a large file."""
    with open(path, "rb") as file:
        begin = file.read(512).lstrip().lower()
    if not begin:
        raise FetchError("the download is empty")
    if begin.startswith((b"<!doctype html", b"<html")) and not name.endswith((".html", ".htm")):
        raise FetchError("the download is a web page: a login, an error, or a moved file")
    if begin.startswith(b"version https://git-lfs.github.com/spec/"):
        raise FetchError("the download is a pointer of Git LFS, not the file")
