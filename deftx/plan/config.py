"""The config: reading it, and everything that can be checked without data. All that is wrong is
listed at once, each with its key, what it is and what was expected. Free of torch, since the
workflow reads the config at each start."""

import difflib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field, ValidationError

from deftx.plan.checks.data import (
    check_dataset,
    check_languages,
    check_patterns,
    check_tasks,
    check_without_nearest,
    unknown,
)
from deftx.plan.checks.methods import (
    check_methods,
    check_same_languages,
    check_starts,
    check_systems,
)
from deftx.plan.method import KINDS, PER_KIND
from deftx.plan.schema import RunSettings
from deftx.stages.table import ROWS, TABLE, AnyRow
from deftx.store.errors import ConfigError

WITH_THREADS = [stage.name for stage in TABLE if stage.threads]


class Config(RunSettings[AnyRow]):
    """What to run."""

    threads: dict[str, Annotated[int, Field(ge=1)]] = Field(
        default_factory=dict,
        description="stage → CPU threads of a job. They are part of the parameters: another "
        "number of threads sums in another order, and changes bits",
        json_schema_extra={"propertyNames": {"enum": [*WITH_THREADS]}},
    )


def json_schema() -> dict[str, Any]:
    """The JSON Schema of the config, for editors and for `workflow/schemas/config.schema.json`."""
    schema = Config.model_json_schema()
    name = next(name for name in schema["$defs"] if name.startswith("Method"))
    schema = json.loads(json.dumps(schema).replace(name, "Method"))
    known = schema["$defs"]
    # As a config writes them: one row for both kinds of target, and datasets described elsewhere.
    known["Method"] = known["Method"]["properties"]["task"]
    known["Dataset"]["properties"]["from"] = {"type": "string"}
    datasets = schema["properties"]["datasets"]
    for values in (datasets, datasets.get("patternProperties", {})):
        for key, value in values.items():
            if isinstance(value, dict) and value.get("$ref", "").endswith("/Dataset"):
                values[key] = {"anyOf": [value, {"type": "string"}]}
    for row in ROWS:
        properties = known[row.__name__]["properties"]
        for name in PER_KIND:
            if one := properties.get(name):
                each = {"type": "object", "properties": dict.fromkeys(KINDS, one)}
                properties[name] = {"anyOf": [one, {**each, "additionalProperties": False}]}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def read_config(path: Path) -> Config:
    """The config of a YAML file. Raises ConfigError if it is missing, no YAML, or not valid."""
    return check_config(_read_yaml(path), path)


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
    if problems := list(_cross_checks(config)):
        raise ConfigError(_listed(source, problems))
    return config


def with_datasets(raw: dict[str, Any], source: Path) -> dict[str, Any]:
    """The config with each dataset that is described in a file of its own written out: a path
    relative to the config or else to the working folder, or `{from: path, …}` with settings that
    replace those of the file.

    Raises ConfigError if such a file is missing or no YAML of a dataset.
    """
    datasets = raw.get("datasets")
    if not isinstance(datasets, dict):
        return raw
    found = {}
    for name, given in datasets.items():
        own = {"from": given} if isinstance(given, str) else given
        if isinstance(own, dict) and isinstance(own.get("from"), str):
            path = source.parent / own["from"]
            described = _read_yaml(path if path.is_file() else Path(own["from"]))
            if not isinstance(described, dict):
                raise ConfigError(f"datasets.{name}: {path}: expected keys and values")
            own = {**described, **{key: value for key, value in own.items() if key != "from"}}
        found[name] = own
    return {**raw, "datasets": found}


def check_run_names(path: Path, config: Config, folder: Path) -> None:
    """Raise ConfigError if another config below the project's folder has the same `run`: their
    results would mix. A copy of the same config is no other config."""
    for other in [folder / "config.yaml", *sorted((folder / "workflow/configs").glob("*.yaml"))]:
        if not other.is_file() or (path.is_file() and other.samefile(path)):
            continue
        try:
            raw = yaml.safe_load(other.read_text(encoding="utf-8"))
        except yaml.YAMLError:
            continue  # reported when that config is run
        if isinstance(raw, dict) and raw.get("run") == config.run:
            if path.is_file() and yaml.safe_load(path.read_text(encoding="utf-8")) == raw:
                continue
            raise ConfigError(
                f"run: {config.run!r} of {path} is the run of {other} too, and the two differ: "
                "their results would mix; choose another name"
            )


def _read_yaml(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not YAML: {error}") from None


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
        known = sorted(_known_keys(path[:-1]))
        if tag and path[-1] in known:
            return f"{'.'.join(path)} has no effect on a {tag}"
        near = difflib.get_close_matches(path[-1], known, 1, 0.5)
        hint = f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}"
        return f"{'.'.join(path)}: unknown key; {hint}"
    message = error["msg"].removeprefix("Value error, ")
    given = "" if isinstance(here, (dict, list)) else f" (given: {json.dumps(here)})"
    return f"{'.'.join(path)}: {message}{given}"


UNQUOTED = {True: "yes, on or true", False: "no, off or false", None: "null or ~"}
"""What YAML takes for text only in quotes."""


def _misread(raw: Any, path: str = "") -> Iterator[str]:
    """A message for each key, and each element of a list, that YAML did not read as text."""
    pairs = raw.items() if isinstance(raw, dict) else enumerate(raw)
    for key, value in pairs:
        for word in [key] * isinstance(raw, dict) + [value] * isinstance(raw, list):
            if word is None or isinstance(word, bool):
                given = f"YAML reads {UNQUOTED[word]} as {json.dumps(word)}, not as a name"
                yield f'{path.removeprefix(".")}: {given}; quote it, as in "yes"'
        if isinstance(value, (dict, list)):
            yield from _misread(value, f"{path}.{key}")


def _known_keys(path: list[str]) -> set[str]:
    """The keys that the schema knows at a path, over all alternatives."""
    schema = json_schema()

    def alternatives(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
        if "$ref" in node:
            yield from alternatives(schema["$defs"][node["$ref"].rsplit("/", 1)[1]])
        for option in node.get("anyOf", []) + node.get("oneOf", []):
            yield from alternatives(option)
        if node.keys() & {"properties", "patternProperties", "additionalProperties"}:
            yield node

    nodes = list(alternatives(schema))
    for part in path:
        steps = [
            step
            for node in nodes
            for step in (
                node.get("properties", {}).get(part),
                node.get("additionalProperties"),
                *node.get("patternProperties", {}).values(),
            )
        ]
        nodes = [found for step in steps if isinstance(step, dict) for found in alternatives(step)]
    return {key for node in nodes for key in node.get("properties", {})}


def _cross_checks(config: Config) -> Iterator[str]:
    """What no single key shows: names that must exist, and combinations that cannot work."""
    yield from check_languages(config)
    yield from check_without_nearest(config)
    yield from check_tasks(config)
    yield from check_starts(config)
    for row in ROWS:
        yield from row.problems(config)
    yield from check_same_languages(config)
    yield from check_methods(config)
    yield from check_systems(config)
    if pretrain := config.base.pretrain:
        key = "base.pretrain.text"
        yield from check_dataset(
            config, key, pretrain.text, pretrain.languages, "train", labelled=False
        )
    yield from check_patterns(config)
    if not config.evaluated_tasks:
        yield "tasks: every task has an empty list of languages: there is nothing to evaluate"
    for stage in config.threads:
        if stage not in WITH_THREADS:
            yield unknown("threads", stage, WITH_THREADS, "stage with threads")
    if len(set(config.seeds)) != len(config.seeds):
        yield f"seeds: {config.seeds} has a seed twice"
