"""Files of a repository on the Hugging Face Hub."""

from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import errors, snapshot_download

from deftx.store.errors import ArtefactError

HUB_ERRORS = (OSError, ValueError, errors.HTTPError)  # type: ignore[attr-defined]
"""What the hub's client raises. The last is of the HTTP library below it, which is another one from
version to version, and reports that there is no connection."""


def fetch(id: str, revision: str | None, files: Sequence[str], folder: Path | None = None) -> Path:
    """A folder with those of the files that a repository has, at a revision or its newest: in the
    hub's cache, which also serves it without a network, or in `folder`.

    Raises ArtefactError, with what to do, if they cannot be downloaded.
    """
    try:
        return Path(
            snapshot_download(id, revision=revision, allow_patterns=list(files), local_dir=folder)
        )
    except HUB_ERRORS as error:
        raise ArtefactError(
            f"{id}@{revision or 'main'}: cannot download it from the Hub; run once with network "
            f"access (it is then cached), or give a folder: {' '.join(str(error).split())}"
        ) from None


def commit_of(id: str, revision: str | None = None) -> str:
    """The commit that a revision of a model on the hub is, by default its newest. Raises
    ArtefactError as `fetch` does."""
    return fetch(id, revision, ["config.json"]).name  # the cache has a folder for each commit
