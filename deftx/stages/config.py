"""Stage `config`: the config as it is run, its defaults filled in."""

from pathlib import Path

from deftx.artefact import write_json
from deftx.config import Config
from deftx.settings.strict import Strict


class Params(Strict):
    """What is written down."""

    config: Config


def config(params: Params, *, out: Path) -> None:
    """Write the whole config as JSON, so that what was made says of itself what it is."""
    write_json(out, params.config.model_dump(mode="json"))
