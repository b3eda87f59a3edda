"""The config of a run, as written by the stage `config`."""

from pathlib import Path

from deftx.plan.schema import Config
from deftx.store.artefact import read_json
from deftx.store.errors import ArtefactError


def load_config(path: Path) -> Config:
    """Read what the stage `config` wrote. Raises ArtefactError if the file is not a config."""
    try:
        return Config.model_validate(read_json(path))
    except ValueError as error:
        raise ArtefactError(f"{path}: not a config as `deftx config` writes it: {error}") from None
