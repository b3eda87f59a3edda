"""The user's own files that a config names. Free of torch."""

import os
from functools import cache
from pathlib import Path

from deftx.models.folder import folder_sha256 as any_folder_sha256
from deftx.models.folder import has_weights
from deftx.plan.artefact import OWN_TEXT, Artefact
from deftx.plan.schema import Config, is_path
from deftx.stages.data.settings import Columns, Dataset
from deftx.store.artefact import file_sha256
from deftx.store.errors import ConfigError


class UserFiles:
    """Where the files of a config are."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def dataset(self, name: str) -> Dataset:
        """A dataset by its name, also that of languages whose text is a path."""
        if name == OWN_TEXT:
            return Dataset(files="", columns=Columns())
        return self.config.datasets[name]

    def of(self, artefact: Artefact) -> Path:
        """The file that a `data` or `download` artefact is made from."""
        dataset = self.dataset(artefact["dataset"])
        language, split = artefact["language"], artefact["split"]
        if artefact["dataset"] == OWN_TEXT:
            return self.locate(next(filter(is_path, self.config.languages[language].texts)))
        assert dataset.files is not None
        return self.locate(dataset.fill(dataset.files, language, split))

    def locate(self, path: str) -> Path:
        """A path of the config: as it is if absolute, else below data_dir, $DEFTX_DATA, or the
        working folder, the first of these that is set."""
        return Path(os.path.expanduser(self.data_folder or ".")) / os.path.expanduser(path)

    def base_folder(self) -> Path | None:
        """The local folder of the base, or None if it is a hub id or is made here."""
        model = self.config.base.model
        if model is None or not (self.locate(model) / "config.json").is_file():
            return None
        return self.locate(model)

    def base_is_downloaded(self) -> bool:
        """Whether the base comes from the hub."""
        return self.config.base.model is not None and self.base_folder() is None

    @property
    def data_folder(self) -> str | None:
        """Where relative paths start, as the config or the environment has it."""
        return self.config.data_dir or os.environ.get("DEFTX_DATA") or None


sha256 = cache(file_sha256)
"""SHA-256 of a file, computed once."""


@cache
def folder_sha256(folder: Path, allow_pickle: bool) -> str:
    """SHA-256 of a model folder, computed once. Raises ConfigError if its weights are missing."""
    if not has_weights(folder, allow_pickle):
        pickle = has_weights(folder, allow_pickle=True)
        hint = "; base.allow_pickle: true reads pytorch_model.bin" if pickle else ""
        raise ConfigError(f"base.model: no model.safetensors in {folder}{hint}")
    return any_folder_sha256(folder, allow_pickle)
