"""Reading a config, and every check of it that needs no data: all that is wrong is listed at once,
each with its key, what it is and what was expected."""

import difflib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from deftx.plan.config import BASE, NONE, OWN_TEXT, ROUND, Config, Items, is_path
from deftx.plan.method import Kind, System
from deftx.stages.data.settings import Dataset
from deftx.stages.denoise.settings import RankRule
from deftx.stages.mask.settings import ObservedShares
from deftx.store.errors import ConfigError


def read_config(path: Path) -> Config:
    """The config of a YAML file. Raises ConfigError if it is missing, no YAML, or not valid."""
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not YAML: {error}") from None
    return check_config(raw, str(path))


def check_config(raw: Any, source: str = "config") -> Config:
    """A valid config. Raises ConfigError that lists all that is wrong, a line each."""
    if not isinstance(raw, dict):
        raise ConfigError(f"{source}: expected keys and values, got {type(raw).__name__}")
    try:
        config = Config.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(_listed(source, [_explain(raw, e) for e in error.errors()])) from None
    if problems := list(_cross_checks(config)):
        raise ConfigError(_listed(source, problems))
    return config


def check_run_names(path: Path, config: Config, folder: Path) -> None:
    """Raise ConfigError if another config below the project's folder has the same `run`: their
    results would mix. A copy of the same config is no other config."""
    for other in [folder / "config.yaml", *sorted((folder / "workflow/configs").glob("*.yaml"))]:
        if not other.is_file() or (path.is_file() and other.samefile(path)):
            continue
        try:
            raw = yaml.safe_load(other.read_text(encoding="utf-8"))
        except yaml.YAMLError:
            continue  # its own run will tell
        if isinstance(raw, dict) and raw.get("run") == config.run:
            if path.is_file() and yaml.safe_load(path.read_text(encoding="utf-8")) == raw:
                continue
            raise ConfigError(
                f"run: {config.run!r} of {path} is the run of {other} too, and the two differ: "
                "their results would mix; choose another name"
            )


def _listed(source: str, problems: list[str]) -> str:
    return "\n".join([f"{source} is not valid:", *(f"  {p}" for p in dict.fromkeys(problems))])


def _explain(raw: Any, error: Any) -> str:
    """One line: the key as the user wrote it, what is wrong, and the nearest known key."""
    path, here = [], raw
    for part in error["loc"]:
        if (isinstance(here, dict) and part in here) or (
            isinstance(here, list) and isinstance(part, int)
        ):
            path.append(str(part))
            here = here[part]
    if error["type"] == "missing":
        return f"{'.'.join([*path, str(error['loc'][-1])])}: missing"
    if error["type"] == "extra_forbidden":
        known = sorted(_known_keys(path[:-1]))
        near = difflib.get_close_matches(path[-1], known, 1, 0.5)
        hint = f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}"
        return f"{'.'.join(path)}: unknown key; {hint}"
    message = error["msg"].removeprefix("Value error, ")
    given = "" if isinstance(here, (dict, list)) else f" (given: {json.dumps(here)})"
    return f"{'.'.join(path)}: {message}{given}"


def _known_keys(path: list[str]) -> set[str]:
    """The keys that the schema knows at a path, over all alternatives."""
    schema = Config.model_json_schema()

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


def _unknown(key: str, name: str, known: Any, what: str) -> str:
    near = difflib.get_close_matches(name, list(known), 1, 0.5)
    hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known) or 'none'}"
    return f"{key}: no {what} {name!r}; {hint}"


def _cross_checks(config: Config) -> Iterator[str]:
    """What no single key can tell: names that must exist, and combinations that cannot work."""
    yield from _check_languages(config)
    yield from _check_without_nearest(config)
    yield from _check_tasks(config)
    yield from _check_starts(config)
    yield from _check_foreign(config)
    yield from _check_methods(config)
    yield from _check_systems(config)
    pretrain = config.base.pretrain
    if pretrain:
        yield from _check_dataset(
            config, "base.pretrain.text", pretrain.text, pretrain.languages, "train", labelled=False
        )
    yield from _check_patterns(config)
    if not any(config.task_languages(task) for task in config.tasks):
        yield "tasks: every task has an empty list of languages: there is nothing to evaluate"
    if len(set(config.seeds)) != len(config.seeds):
        yield f"seeds: {config.seeds} has a seed twice"


def _check_languages(config: Config) -> Iterator[str]:
    if OWN_TEXT in config.datasets:
        yield f"datasets.{OWN_TEXT}: this name is kept for languages whose text is a path"
    for key, language in config.languages.items():
        where = f"languages.{key}.text"
        if isinstance(language.text, list):
            yield from _check_texts(config, where, language.text)
        for text in language.texts:
            if text != NONE and not is_path(text):
                yield from _check_dataset(config, where, text, [key], "train", labelled=False)


def _check_texts(config: Config, where: str, texts: list[str]) -> Iterator[str]:
    """Whether several texts of one language can be put together."""
    if not texts:
        yield f"{where}: an empty list; without text it is `none`"
    if NONE in texts:
        yield f"{where}: none stands alone, given: {', '.join(texts)}"
    if len(set(texts)) != len(texts):
        yield f"{where}: {', '.join(texts)} has a text twice"
    if sum(map(is_path, texts)) > 1:
        yield f"{where}: one path at most; make the others datasets, given: {', '.join(texts)}"
    if len(texts) > 1 and config.cleaning is None:
        yield f"{where}: several texts are put together by cleaning: add a `cleaning` section"


def _check_without_nearest(config: Config) -> Iterator[str]:
    """Whether what a dataset is to leave out can be told."""
    for name, dataset in config.datasets.items():
        if (other := dataset.without_nearest) is None:
            continue
        key = f"datasets.{name}.without_nearest"
        found = config.datasets.get(other.dataset)
        if found is None or other.dataset == name:
            others = [known for known in config.datasets if known != name]
            yield _unknown(f"{key}.dataset", other.dataset, others, "other dataset")
        elif found.without_nearest:
            yield f"{key}.dataset: {other.dataset} leaves items out itself"
        elif found.world:
            yield f"{key}.dataset: {other.dataset} is of the world, which was made from no other"
        if len(set(other.among)) != len(other.among):
            yield f"{key}.among: {', '.join(other.among)} has a split twice"


def _check_dataset(
    config: Config, key: str, name: str, languages: list[str], split: str, labelled: bool
) -> Iterator[str]:
    """Whether a dataset exists and can have this split of these languages."""
    dataset = config.datasets.get(name)
    if dataset is None:
        yield _unknown(key, name, config.datasets, "dataset")
        return
    if labelled == (dataset.world == "text") and dataset.world:
        yield f"{key}: dataset {name} of the world is {dataset.world}, which does not fit here"
    if labelled and dataset.files and dataset.columns.label is None:
        yield f"{key}: dataset {name} has no columns.label"
    if dataset.without_nearest and split not in dataset.without_nearest.among:
        yield (
            f"datasets.{name}.without_nearest.among: no {split}, which {key} needs; "
            f"it has {', '.join(dataset.without_nearest.among)}"
        )
    if dataset.world:
        if config.world is None:
            yield f"datasets.{name}.world: there is no `world` section"
            return
        if split not in dataset.items:
            yield f"datasets.{name}.items: no number for the split {split}, which {key} needs"
        for language in languages:
            if language not in config.world.languages:
                yield _unknown("world.languages", language, config.world.languages, "language")


def _check_patterns(config: Config) -> Iterator[str]:
    """One file must not stand for several languages, nor for training and test data."""
    uses: dict[str, set[tuple[str, str]]] = {}
    for key, language in config.languages.items():
        for text in language.texts:
            uses.setdefault(text, set()).add((key, "train"))
    for name, task in config.tasks.items():
        for items, languages in (
            (task.train, [task.source]),
            (task.valid, [task.source]),
            (task.test, config.task_languages(name)),
            *((more, [more.language]) for more in task.more_sources),
        ):
            uses.setdefault(items.dataset, set()).update((key, items.split) for key in languages)
    for dataset in config.datasets.values():
        if (other := dataset.without_nearest) is not None:
            uses.setdefault(other.dataset, set()).add((other.language, other.split))
    for name, dataset in config.datasets.items():
        if (other := dataset.without_nearest) and name in uses:
            uses[name] |= {(key, split) for key, _ in set(uses[name]) for split in other.among}
        for number, part in enumerate(("language", "split")):
            found = sorted({use[number] for use in uses.get(name, ())})
            for key, pattern in _patterns(dataset):
                if len(found) > 1 and f"{{{part}}}" not in pattern:
                    yield (
                        f"datasets.{name}.{key}: {pattern!r} has no {{{part}}}, but is read for "
                        f"{', '.join(found)}"
                    )


def _patterns(dataset: Dataset) -> Iterator[tuple[str, str]]:
    """Key → the pattern of its files, where they lie and where they are from."""
    hub = dataset.hub and dataset.hub.file
    for key, pattern in (("files", dataset.files), ("url", dataset.url), ("hub.file", hub)):
        if pattern:
            yield key, pattern


def _check_tasks(config: Config) -> Iterator[str]:
    for name, task in config.tasks.items():
        if len(set(task.classes)) != len(task.classes):
            yield f"tasks.{name}.classes: {task.classes} has a class twice"
        for system in task.systems or []:
            if system not in config.systems:
                yield _unknown(f"tasks.{name}.systems", system, config.systems, "system")
        if task.systems == []:
            yield f"tasks.{name}.systems: empty; leave the task out with languages: []"
        if len(set(task.sources)) != len(task.sources):
            yield f"tasks.{name}.more_sources: {', '.join(task.sources)} has a language twice"
        for language in config.task_languages(name):
            if language not in config.languages:
                yield _unknown(f"tasks.{name}.languages", language, config.languages, "language")
        parts: list[tuple[str, Items, list[str]]] = [
            ("train", task.train, [task.source]),
            ("valid", task.valid, [task.source]),
            ("test", task.test, config.task_languages(name)),
            *(
                (f"more_sources.{number}", more, [more.language])
                for number, more in enumerate(task.more_sources)
            ),
        ]
        for part, items, languages in parts:
            key = f"tasks.{name}.{part}.dataset"
            yield from _check_dataset(
                config, key, items.dataset, languages, items.split, labelled=True
            )
            dataset = config.datasets.get(items.dataset)
            if dataset and dataset.labels:
                for label in sorted(set(dataset.labels.values()) - set(task.classes)):
                    yield (
                        f"datasets.{items.dataset}.labels: maps to {label!r}, which is none of "
                        f"tasks.{name}.classes: {', '.join(task.classes)}"
                    )


def _check_starts(config: Config) -> Iterator[str]:
    starts = {"task_start": config.task_start}
    for name, system in config.systems.items():
        if system.task_start is not None:
            starts[f"systems.{name}.task_start"] = system.task_start
    for key, start in starts.items():
        if start == BASE:
            continue
        if start not in config.methods:
            yield _unknown(key, start, [*config.methods, BASE], "method")
        elif not config.row(start, "language").is_sparse:
            yield f"{key}: {start} does not make sparse vectors; one is needed"
        for name, task in config.tasks.items():
            if start not in config.methods or not config.task_languages(name):
                continue
            if not config.has_vector(start, task.source):
                yield (
                    f"{key}: {start} needs a vector of {task.source}, the source of tasks.{name}: "
                    f"give languages.{task.source}.text"
                )


def _check_methods(config: Config) -> Iterator[str]:
    rules: dict[tuple[str, str], tuple[str, RankRule]] = {}
    for name in config.methods:
        if ROUND.search(name):
            yield f"methods.{name}: names that end so are kept for the rounds of a method"
        for kind in ("task", "language"):
            row = config.methods[name].row(kind)
            if row.denoise is not None:
                other, rule = rules.setdefault((kind, row.denoise.slug()), (name, row.denoise))
                if rule != row.denoise:
                    yield (
                        f"methods.{name}.denoise: {other} has the same rule with another "
                        "allow_full_rank; one artefact cannot serve both"
                    )
            shares = row.selection.shares
            key = f"methods.{name}.shares"
            if isinstance(shares, ObservedShares):
                if shares.observed not in config.methods:
                    yield _unknown(key, shares.observed, config.methods, "method")
                elif not config.row(shares.observed, kind).chooses:
                    yield f"{key}: observed: {shares.observed} has no mask"
                elif config.row(shares.observed, kind).rounds > 1:
                    yield f"{key}: observed: {shares.observed} chooses in several rounds"
                elif _observes(config, name, kind):
                    yield f"{key}: observed: {shares.observed} leads back to {name}"
            elif shares and abs(sum(shares.values()) - 1) > 1e-9:
                yield f"{key}: the shares for a {kind} sum to {sum(shares.values()):.6g}, not to 1"


def _check_foreign(config: Config) -> Iterator[str]:
    """Whether methods whose vectors exist have them of what they are used for."""
    used: dict[tuple[str, Kind, str], str] = {}
    for key, system in config.systems.items():
        for task in config.tasks:
            if key in config.task_systems(task) and config.task_languages(task):
                used[system.task, "task", task] = f"systems.{key}.task"
    for name in [config.task_start, *(system.task_start for system in config.systems.values())]:
        for table in config.tasks.values():
            if name is not None:
                used[name, "language", table.source] = "task_start"
    for key, system in config.systems.items():
        for language in config.languages:
            used.setdefault((system.language, "language", language), f"systems.{key}.language")
    for (name, kind, target), key in used.items():
        if name not in config.methods or config.methods[name].vector is None:
            continue
        foreign, where = config.row(name, kind).vector, f"methods.{name}.vector"
        if foreign is None:
            yield f"{key}: {where} has no vector for a {kind}: give {where}.{kind}"
            continue
        if kind == "task" and not foreign.has(target):
            yield f"{where}.aliases.{target}: none, but {key} needs a vector of it"
        several = isinstance(foreign.revision, dict) and foreign.has(target)
        if several and foreign.revision_of(target) is None:
            yield f"{where}.revision: no commit for {target}, which {key} needs"
        classes = foreign.classes_of(target)
        if kind == "task" and classes and set(classes) != set(config.tasks[target].classes):
            yield (
                f"{where}.classes: {', '.join(classes)}, but tasks.{target}.classes are "
                f"{', '.join(config.tasks[target].classes)}"
            )
    yield from _check_same_languages(config)


def _check_same_languages(config: Config) -> Iterator[str]:
    """A language has a vector of every system that adds one, or of none: means are over the same
    languages for all."""
    for task in config.tasks:
        adding = {
            name: config.systems[name].language
            for name in config.task_systems(task)
            if config.systems[name].language in config.methods
        }
        for language in config.task_languages(task):
            has = {name: config.has_vector(method, language) for name, method in adding.items()}
            if len(set(has.values())) < 2:
                continue
            one, other = (next(n for n, found in has.items() if found is f) for f in (True, False))
            yield (
                f"languages.{language}: systems.{one} has a vector of it, systems.{other} has none "
                f"({adding[other]} needs languages.{language}.text, or an alias that is not none); "
                f"evaluate them on other languages, or apart by tasks.{task}.systems"
            )


def _observes(config: Config, method: str, kind: Kind) -> bool:
    """Whether a method's observed shares lead back to itself."""
    seen: list[str] = []
    current = method
    while current in config.methods and current not in seen:
        seen.append(current)
        shares = config.methods[current].row(kind).selection.shares
        if not isinstance(shares, ObservedShares):
            return False
        current = shares.observed
    return current == method


def _check_systems(config: Config) -> Iterator[str]:
    for name, system in config.systems.items():
        if system.task not in config.methods:
            yield _unknown(f"systems.{name}.task", system.task, config.methods, "method")
            continue
        if system.language != NONE and system.language not in config.methods:
            known = [*config.methods, NONE]
            yield _unknown(f"systems.{name}.language", system.language, known, "method")
            continue
        yield from _check_pair(config, name, system)
    if config.reference is not None and config.reference not in config.systems:
        yield _unknown("reference", config.reference, config.systems, "system")
    elif config.compared_with not in (config.evaluated_systems or config.systems):
        yield f"reference: {config.reference} is evaluated on no task"
    for name, languages in config.groups.items():
        for language in languages:
            if language not in config.languages:
                yield _unknown(f"groups.{name}", language, config.languages, "language")


def _check_pair(config: Config, name: str, system: System) -> Iterator[str]:
    """Whether the two methods of a system, and the tasks, go together."""
    row = config.row(system.task, "task")
    language = None if system.language == NONE else config.row(system.language, "language")
    key = f"systems.{name}"
    if language is not None and bool(row.adapter) != bool(language.adapter):
        yield (
            f"{key}: {system.task} and {system.language}: adapters go with adapters only, and "
            "differences of weights with differences"
        )
    if row.adapter:
        if language is not None and system.language != system.task:
            yield f"{key}.language: the adapters of {system.task} are stacked on its own, or none"
        for field, default in (("combine", None), ("task_start", None)):
            if getattr(system, field) != default:
                yield f"{key}.{field} has no effect on adapters"
        if (system.task_scale, system.language_scale) != (1.0, 1.0):
            yield f"{key}: task_scale and language_scale have no effect on adapters"
    if system.combine is not None and language is None:
        yield f"{key}.combine: needs a method for the language vectors"
    for task in config.tasks:
        evaluated = config.task_languages(task) and name in config.task_systems(task)
        if not evaluated or not config.tasks[task].more_sources:
            continue
        if row.adapter or row.gate or row.lora:
            yield (
                f"{key}: {system.task} cannot train on several sources, as "
                f"tasks.{task}.more_sources asks; name those that can in tasks.{task}.systems"
            )
