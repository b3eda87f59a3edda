"""Stage `config`: the config as it is run, its defaults filled in."""

import json
from pathlib import Path

from pydantic import Field

from deftx.plan.config import Config
from deftx.store.artefact import write_text
from deftx.store.strict import Strict


class Params(Strict):
    """What is written down."""

    config: str = Field(
        description="the config as JSON; as text, since the order of systems counts"
    )


def config(params: Params, *, out: Path) -> None:
    """Write the whole config as JSON, so that what was made says of itself what it is. Raises
    ValidationError if it is none."""
    whole = Config.model_validate_json(params.config).model_dump(mode="json")
    write_text(out, json.dumps(whole, indent=2, ensure_ascii=False) + "\n")
