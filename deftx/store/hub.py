"""The model hub: files of a repository fetched, a folder put there."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import HfApi, errors, snapshot_download
from huggingface_hub.errors import RepositoryNotFoundError

from deftx.store.errors import ArtefactError

HUB_ERRORS = (OSError, ValueError, errors.HTTPError)  # type: ignore[attr-defined]
"""What the hub's client raises. The last is of the HTTP library below it, which is another one from
version to version, and says that there is no connection."""


def fetch(id: str, revision: str | None, files: Sequence[str], folder: Path | None = None) -> Path:
    """A folder with those of the files that a repository has, at a revision or its newest: in the
    hub's cache, where it is found again without a network, or in `folder`.

    Raises ArtefactError that says what to do if they cannot be had.
    """
    with _told(
        f"{id}@{revision or 'main'}: not to be had from the hub; fetch it where there is a network "
        "(it stays in the hub's cache), or give a folder"
    ):
        return Path(
            snapshot_download(id, revision=revision, allow_patterns=list(files), local_dir=folder)
        )


def push(folder: Path, id: str, *, public: bool, files: Sequence[str], message: str) -> str:
    """Put the files of a folder into a repository, which is made if there is none, private unless
    `public`; the address of the commit.

    Raises ArtefactError if the repository is public and `public` was not said, or the hub refuses.
    """
    with _told(f"{id}: not pushed; is there a login that may write (`hf auth login`)?"):
        api = HfApi()
        try:
            there = api.model_info(id)
        except RepositoryNotFoundError:
            api.create_repo(id, private=not public)
        else:
            if not there.private and not public:
                raise ArtefactError(f"{id}: is there and public: say --public to put it there")
        commit = api.upload_folder(
            folder_path=folder, repo_id=id, allow_patterns=list(files), commit_message=message
        )
        return str(commit.commit_url)


@contextmanager
def _told(what_to_do: str) -> Iterator[None]:
    """What the hub's client raises, as one message with what to do."""
    try:
        yield
    except HUB_ERRORS as error:
        reason = " ".join(str(error).split())
        raise ArtefactError(f"{what_to_do}: {reason}") from None
