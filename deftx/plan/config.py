"""The config: reading it, and everything that can be checked without data. All that is wrong is
listed at once, each with its key, what it is and what was expected. Free of torch, since the
workflow reads the config at each start."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from deftx.plan.checks import problems
from deftx.plan.method import KINDS, nearest
from deftx.plan.schema import PER_KIND, Config
from deftx.run.workflow import FOLDER
from deftx.stages.methods import ROWS
from deftx.stages.table import TABLE
from deftx.store.errors import ConfigError
from deftx.store.yaml_files import read_yaml


def json_schema() -> dict[str, Any]:
    """The JSON Schema of the config, for editors and for `workflow/schemas/config.schema.json`."""
    schema = Config.model_json_schema()
    known, keys = schema["$defs"], schema["properties"]
    keys["threads"]["propertyNames"] = {"enum": [stage.name for stage in TABLE if stage.threads]}
    # As a config writes them: one row for both kinds of target, and datasets described elsewhere.
    known["Method"] = known["Method"]["properties"]["task"]
    known["Dataset"]["properties"]["from"] = {"type": "string"}
    (datasets,) = keys["datasets"]["patternProperties"]
    keys["datasets"]["patternProperties"] = {
        datasets: {"anyOf": [{"$ref": "#/$defs/Dataset"}, {"type": "string"}]}
    }
    for row in ROWS:
        properties = known[row.__name__]["properties"]
        for name in PER_KIND:
            if one := properties.get(name):
                each = {"type": "object", "properties": dict.fromkeys(KINDS, one)}
                properties[name] = {"anyOf": [one, {**each, "additionalProperties": False}]}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def read_config(path: Path) -> Config:
    """The config of a YAML file. Raises ConfigError if it is missing, no YAML, or not valid."""
    return check_config(read_yaml(path), path)


def check_config(raw: Any, source: Path = Path("config")) -> Config:
    """A valid config from the content of a YAML file. Raises ConfigError that lists all that is
    wrong, a line each."""
    if not isinstance(raw, dict):
        raise ConfigError(f"{source}: expected keys and values, got {type(raw).__name__}")
    raw = with_datasets(raw, source)
    if misread := list(_misread(raw)):
        raise ConfigError(_listed(source, misread))
    try:
        config = Config.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(_listed(source, [_explain(raw, e) for e in error.errors()])) from None
    if found := list(problems(config)):
        raise ConfigError(_listed(source, found))
    return config


def with_datasets(raw: dict[str, Any], source: Path) -> dict[str, Any]:
    """The config with each dataset that is described in a file of its own written out: a path
    relative to the config, or else to the working folder or to that of the workflow; or
    `{from: path, …}` with settings that replace those of the file.

    Raises ConfigError if such a file is missing or no YAML of a dataset.
    """
    datasets = raw.get("datasets")
    if not isinstance(datasets, dict):
        return raw
    found = {}
    for name, given in datasets.items():
        own = {"from": given} if isinstance(given, str) else given
        if isinstance(own, dict) and isinstance(own.get("from"), str):
            folders = (source.parent, Path(), FOLDER)
            paths = [folder / own["from"] for folder in folders]
            path = next(filter(Path.is_file, paths), paths[0])
            described = read_yaml(path)
            if not isinstance(described, dict):
                raise ConfigError(f"datasets.{name}: {path}: expected keys and values")
            own = {**described, **{key: value for key, value in own.items() if key != "from"}}
        found[name] = own
    return {**raw, "datasets": found}


def check_run_names(path: Path, config: Config, folder: Path) -> None:
    """Raise ConfigError if another config below the project's folder has the same `run`: their
    results would mix. A copy of the same config is no other config."""
    for other in [folder / "config.yaml", *sorted((folder / "workflow/configs").glob("*.yaml"))]:
        if not other.is_file() or other.samefile(path):
            continue
        try:
            raw = read_yaml(other)
        except ConfigError:
            continue  # reported when that config is run
        if isinstance(raw, dict) and raw.get("run") == config.run and raw != read_yaml(path):
            raise ConfigError(
                f"run: {config.run!r} of {path} is the run of {other} too, and the two differ: "
                "their results would mix; choose another name"
            )


def _listed(source: Path, problems: list[str]) -> str:
    return "\n".join([f"{source} is not valid:", *(f"  {p}" for p in dict.fromkeys(problems))])


def _explain(raw: Any, error: Any) -> str:
    """One line: the key as the user wrote it, what is wrong, and the nearest known key."""
    path, here, kind, tag = [], raw, "", ""
    for part in error["loc"]:
        if (isinstance(here, dict) and part in here) or (
            isinstance(here, list) and isinstance(part, int)
        ):
            path.append(str(part))
            here = here[part]
            if kind and path[-1] in PER_KIND and isinstance(here, dict) and kind in here:
                path.append(kind)
                here = here[kind]
        elif part in KINDS and path[:1] == ["methods"]:
            kind = part
        elif str(part).endswith(" method") or str(part).startswith("method with "):
            tag = str(part)
    if error["type"] == "missing":
        return f"{'.'.join([*path, str(error['loc'][-1])])}: missing"
    if error["type"] == "extra_forbidden":
        known = sorted({*_known_keys(json_schema(), path[:-1])})
        if tag and path[-1] in known:
            return f"{'.'.join(path)} has no effect on a {tag}"
        return f"{'.'.join(path)}: unknown key; {nearest(path[-1], known, 'known here')}"
    message = error["msg"].removeprefix("Value error, ")
    given = "" if isinstance(here, (dict, list)) else f" (given: {json.dumps(here)})"
    return f"{'.'.join(path)}: {message}{given}"


UNQUOTED = {True: "yes, on or true", False: "no, off or false", None: "null or ~"}
"""What YAML takes for text only in quotes."""


def _misread(raw: Any, path: str = "") -> Iterator[str]:
    """A message for each element of a list that YAML did not read as text."""
    for key, value in raw.items() if isinstance(raw, dict) else enumerate(raw):
        if isinstance(raw, list) and (value is None or isinstance(value, bool)):
            given = f"YAML reads {UNQUOTED[value]} as {json.dumps(value)}, not as a name"
            yield f'{path.removeprefix(".")}: {given}; quote it, as in "yes"'
        if isinstance(value, (dict, list)):
            yield from _misread(value, f"{path}.{key}")


def _known_keys(schema: dict[str, Any], path: list[str]) -> Iterator[str]:
    """The keys that the schema knows at a path, over all alternatives."""

    def walk(node: Any, path: list[str]) -> Iterator[str]:
        if not isinstance(node, dict):
            return
        if "$ref" in node:
            yield from walk(schema["$defs"][node["$ref"].rsplit("/", 1)[1]], path)
        for option in node.get("anyOf", []) + node.get("oneOf", []):
            yield from walk(option, path)
        properties = node.get("properties", {})
        if not path:
            yield from properties
            return
        named, others = node.get("patternProperties", {}), ("additionalProperties", "items")
        for step in [properties.get(path[0]), *named.values(), *map(node.get, others)]:
            yield from walk(step, path[1:])

    yield from walk(schema, path)
