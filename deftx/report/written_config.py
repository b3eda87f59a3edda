"""The config of a run, as written by the stage `config`."""

import hashlib
from pathlib import Path

import yaml

from deftx.plan.config import Config
from deftx.store.artefact import canonical
from deftx.store.errors import ArtefactError


def load_config(path: Path) -> Config:
    """Read what the stage `config` wrote. Raises ArtefactError if the file is not a config."""
    try:
        return Config.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ArtefactError(f"{path}: not a config as `deftx config` writes it: {error}") from None


def config_text(config: Config) -> str:
    """The config with its defaults as YAML."""
    plain = config.model_dump(mode="json", exclude_none=True)
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=100)


def config_sha256(config: Config) -> str:
    """SHA-256 over the config as canonical JSON."""
    return hashlib.sha256(canonical(config.model_dump(mode="json")).encode()).hexdigest()
