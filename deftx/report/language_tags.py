"""Keys of languages as tags of BCP 47 (https://www.rfc-editor.org/rfc/rfc5646), which the Hub
reads."""

from functools import cache
from pathlib import Path

from deftx.store.yaml_files import read_yaml


def language_tag(key: str) -> str:
    """The tag of a key of ISO 639-3, perhaps with a script: `mad` stays, `swa` and `swh` give `sw`,
    `ace_Arab` gives `ace-Arab`."""
    code, _, script = key.partition("_")
    return "-".join(filter(None, (_shorter().get(code, code), script)))


@cache
def _shorter() -> dict[str, str]:
    return read_yaml(Path(__file__).with_suffix(".yaml"))
