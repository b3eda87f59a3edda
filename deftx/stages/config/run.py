"""Stage `config`: the config of the run with its defaults."""

import json
from pathlib import Path

from pydantic import Field

from deftx.plan.schema import Config
from deftx.store.artefact import write_text
from deftx.store.strict import Strict


class Params(Strict):
    """The config."""

    config: str = Field(
        description="the config as JSON; as text, since the order of systems counts"
    )


def config(params: Params, *, out: Path) -> None:
    """Write the config with its defaults as JSON, for the stages that make pages. Raises
    ValidationError if it is not a config."""
    whole = Config.model_validate_json(params.config).model_dump(mode="json")
    write_text(out, json.dumps(whole, indent=2, ensure_ascii=False) + "\n")
