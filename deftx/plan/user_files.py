"""The user's own files that a config names: where they lie, and whether they are there. Free of
torch."""

import os
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from deftx.core.vector_files import OURS, PUBLIC, vector_file
from deftx.models.folder import MODEL_FILES
from deftx.models.folder import folder_sha256 as any_folder_sha256
from deftx.plan.config import OWN_TEXT, Config, is_path
from deftx.plan.graph import Artefact, Target
from deftx.stages.convert.settings import HUB_ID
from deftx.stages.data.settings import Columns, Dataset
from deftx.store.artefact import file_sha256
from deftx.store.errors import ConfigError


class UserFiles:
    """The files of a config."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def dataset(self, name: str) -> Dataset:
        """A dataset by its name, that of languages whose text is a path included."""
        if name == OWN_TEXT:
            return Dataset(files="", columns=Columns())
        return self.config.datasets[name]

    def of(self, artefact: Artefact) -> Path:
        """The file that a `data` artefact is read from."""
        dataset = self.dataset(artefact["dataset"])
        language, split = artefact["language"], artefact["split"]
        if artefact["dataset"] == OWN_TEXT:
            return self.locate(next(filter(is_path, self.config.languages[language].texts)))
        assert dataset.files is not None
        return self.locate(dataset.fill(dataset.files, language, split))

    def vector(self, artefact: Artefact) -> Path | None:
        """The file that a `convert` artefact is read from; None if there is none, or it lies on the
        hub."""
        target = Target.parse(artefact["target"])
        foreign = self.config.row(artefact["method"], target.kind).vector
        if foreign is None or foreign.revision_of(target.name):
            return None
        return vector_file(self.locate(foreign.source_of(target.name)))

    def locate(self, path: str) -> Path:
        """A path of the config: as it is if absolute, else below data_dir, $DEFTX_DATA, or the
        working folder, the first of these that is set."""
        folder = self.config.data_dir or os.environ.get("DEFTX_DATA") or "."
        return Path(os.path.expanduser(folder)) / os.path.expanduser(path)

    def base_folder(self) -> Path | None:
        """The local folder of the base, or None if it is a hub id or is made here."""
        model = self.config.base.model
        if model is None or not (self.locate(model) / "config.json").is_file():
            return None
        return self.locate(model)

    def base_is_fetched(self) -> bool:
        """Whether the base comes from the hub."""
        return self.config.base.model is not None and self.base_folder() is None

    def folder_is_known(self) -> bool:
        """Whether the config or the environment says where relative paths start."""
        return bool(self.config.data_dir or os.environ.get("DEFTX_DATA"))

    def check(self, artefacts: Iterable[Artefact]) -> None:
        """Raise ConfigError, naming each, if files are missing that these are read from, and that
        cannot be fetched."""
        if missing := self.missing(artefacts):
            hint = "" if self.folder_is_known() else "; set data_dir or $DEFTX_DATA"
            raise ConfigError("\n".join([f"missing{hint}:", *(f"  {line}" for line in missing)]))

    def missing(self, artefacts: Iterable[Artefact]) -> list[str]:
        """A line for each file that is not there and that nothing fetches, naming who needs it."""
        lines = []
        for artefact in artefacts:
            if artefact.stage == "data" and (line := self._missing_data(artefact)):
                lines.append(line)
            if artefact.stage == "convert" and (line := self._missing_vector(artefact)):
                lines.append(line)
        model = self.config.base.model
        if model and self.base_folder() is None and (model.startswith(("/", ".", "~"))):
            lines.append(f"base.model: no model folder {self.locate(model)}")
        elif model and self.base_folder() is None and self.config.base.revision is None:
            lines.append(
                f"base.model: no model folder {self.locate(model)}; for a hub id give "
                "base.revision, a commit"
            )
        return lines

    def _missing_data(self, artefact: Artefact) -> str | None:
        path, who, language = self.of(artefact), artefact["dataset"], artefact["language"]
        if self.dataset(who).remote or path.is_file():
            return None
        key = f"languages.{language}.text" if who == OWN_TEXT else f"datasets.{who}.files"
        split = "" if who == OWN_TEXT else f" ({artefact['split']} of {language})"
        return f"{key}{split}: no file {path}"

    def _missing_vector(self, artefact: Artefact) -> str | None:
        target = Target.parse(artefact["target"])
        foreign = self.config.row(artefact["method"], target.kind).vector
        key = f"methods.{artefact['method']}.vector ({target.label})"
        assert foreign is not None
        if foreign.revision_of(target.name):
            return None
        path = self.locate(foreign.source_of(target.name))
        file = self.vector(artefact)
        if file is None:
            hint = "; for a hub id give its revision" if HUB_ID.match(foreign.source) else ""
            return f"{key}: no {OURS} and no {PUBLIC} at {path}{hint}"
        if target.kind == "task" and file.name != OURS and not foreign.classes_of(target.name):
            return (
                f"{key}: {path} does not tell the order of its classes: give `classes`, those of "
                f"tasks.{target.name} in the order of the rows of its head"
            )
        return None


sha256 = cache(file_sha256)
"""SHA-256 of a file, computed once."""


@cache
def folder_sha256(folder: Path) -> str:
    """SHA-256 of a model folder, computed once. Raises ConfigError if its weights are missing."""
    missing = [name for name in MODEL_FILES[-1:] if not (folder / name).is_file()]
    if missing:
        raise ConfigError(f"base.model: no {missing[0]} in {folder}")
    return any_folder_sha256(folder)
