"""Checks of languages, datasets and tasks: names that must exist, combinations that cannot work.
Free of torch."""

import difflib
from collections.abc import Iterator
from typing import Any

from deftx.plan.artefact import NONE, OWN_TEXT
from deftx.plan.schema import Items, RunSettings, is_path
from deftx.stages.data.settings import Dataset
from deftx.stages.world.math import INFERENCE, SENTIMENT

CLASSES_OF_THE_WORLD = {"sentiment": SENTIMENT, "inference": INFERENCE}


def unknown(key: str, name: str, known: Any, what: str) -> str:
    """The message about a name that does not exist, with the nearest one that does."""
    near = difflib.get_close_matches(name, list(known), 1, 0.5)
    hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known) or 'none'}"
    return f"{key}: no {what} {name!r}; {hint}"


def check_languages(config: RunSettings[Any]) -> Iterator[str]:
    """The text of each language."""
    if OWN_TEXT in config.datasets:
        yield f"datasets.{OWN_TEXT}: this name is kept for languages whose text is a path"
    for key, language in config.languages.items():
        where = f"languages.{key}.text"
        if isinstance(language.text, list):
            yield from _check_texts(config, where, language.text)
        for text in language.texts:
            if text != NONE and not is_path(text):
                yield from check_dataset(config, where, text, [key], "train", labelled=False)


def _check_texts(config: RunSettings[Any], where: str, texts: list[str]) -> Iterator[str]:
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


def check_without_nearest(config: RunSettings[Any]) -> Iterator[str]:
    """The other dataset from which a dataset's items were made."""
    for name, dataset in config.datasets.items():
        if (other := dataset.without_nearest) is None:
            continue
        key = f"datasets.{name}.without_nearest"
        found = config.datasets.get(other.dataset)
        if found is None or other.dataset == name:
            others = [known for known in config.datasets if known != name]
            yield unknown(f"{key}.dataset", other.dataset, others, "other dataset")
        elif found.without_nearest:
            yield f"{key}.dataset: {other.dataset} leaves items out itself"
        elif found.world:
            yield f"{key}.dataset: {other.dataset} is of the world, which was made from no other"
        if len(set(other.among)) != len(other.among):
            yield f"{key}.among: {', '.join(other.among)} has a split twice"


def check_dataset(
    config: RunSettings[Any], key: str, name: str, languages: list[str], split: str, labelled: bool
) -> Iterator[str]:
    """Whether a dataset exists and can have this split of these languages."""
    dataset = config.datasets.get(name)
    if dataset is None:
        yield unknown(key, name, config.datasets, "dataset")
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
                yield unknown("world.languages", language, config.world.languages, "language")


def check_patterns(config: RunSettings[Any]) -> Iterator[str]:
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
    hub = dataset.hub
    patterns = {
        "files": dataset.files,
        "url": dataset.url,
        "hub.file": hub and hub.file,
        "hub.config and hub.split": hub and hub.config and f"{hub.config}/{hub.split}",
    }
    for key, pattern in patterns.items():
        if pattern:
            yield key, pattern


def check_tasks(config: RunSettings[Any]) -> Iterator[str]:
    """Classes, systems, languages and datasets of each task."""
    for name, task in config.tasks.items():
        if len(set(task.classes)) != len(task.classes):
            yield f"tasks.{name}.classes: {task.classes} has a class twice"
        for system in task.systems or []:
            if system not in config.systems:
                yield unknown(f"tasks.{name}.systems", system, config.systems, "system")
        if task.systems == []:
            yield f"tasks.{name}.systems: empty; leave the task out with languages: []"
        if len(set(task.sources)) != len(task.sources):
            yield f"tasks.{name}.more_sources: {', '.join(task.sources)} has a language twice"
        for language in config.task_languages(name):
            if language not in config.languages:
                yield unknown(f"tasks.{name}.languages", language, config.languages, "language")
        parts: list[tuple[str, Items, list[str]]] = [
            ("train", task.train, [task.source]),
            ("valid", task.valid, [task.source]),
            ("test", task.test, config.task_languages(name)),
            *(
                (f"more_sources.{number}", more, [more.language])
                for number, more in enumerate(task.more_sources)
            ),
        ]
        trained = {(task.train.dataset, task.train.split, task.source)}
        trained |= {(more.dataset, more.split, more.language) for more in task.more_sources}
        for language in config.task_languages(name):
            if (task.test.dataset, task.test.split, language) in trained:
                yield f"tasks.{name}.test: {language} would be tested on what it is trained on"
        for part, items, languages in parts:
            key = f"tasks.{name}.{part}.dataset"
            yield from check_dataset(
                config, key, items.dataset, languages, items.split, labelled=True
            )
            dataset = config.datasets.get(items.dataset)
            known = dataset and CLASSES_OF_THE_WORLD.get(dataset.world or "")
            if known and sorted(known) != sorted(task.classes):
                yield (
                    f"tasks.{name}.classes: {', '.join(map(repr, task.classes))}; those of "
                    f"{items.dataset} are {', '.join(map(repr, known))}"
                )
            if dataset and dataset.labels:
                kept = {label for label in dataset.labels.values() if label is not None}
                for label in sorted(kept - set(task.classes)):
                    yield (
                        f"datasets.{items.dataset}.labels: maps to {label!r}, which is none of "
                        f"tasks.{name}.classes: {', '.join(task.classes)}"
                    )
