"""YAML as users write it, read strictly: no key twice, and keys are text."""

from pathlib import Path
from typing import Any

import yaml

from deftx.store.errors import ConfigError


class _Loader(yaml.SafeLoader):
    """A loader that reports what YAML itself accepts in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        lines: dict[Any, int] = {}
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key, line = self.construct_object(key_node, deep=True), key_node.start_mark.line + 1
            if not isinstance(key, str):
                raise ConfigError(
                    f"line {line}: a key is read as {key!r}, which is no text: put it in quotes"
                )
            if key in lines:
                raise ConfigError(
                    f"line {line}: the key {key!r} is here again, after line {lines[key]}; "
                    "join the two, since YAML would drop the first"
                )
            lines[key] = line
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> Any:
    """The content of a YAML file. Raises ConfigError, with the file and the line, if it is missing,
    no YAML, or has a key twice or one that is not text."""
    try:
        return yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except (yaml.YAMLError, UnicodeDecodeError, ValueError) as error:
        raise ConfigError(f"{path}: not YAML: {error}") from None
    except ConfigError as error:
        raise ConfigError(f"{path}, {error}") from None
