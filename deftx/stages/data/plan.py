"""What the stage `data` reads: artefacts and values of the config. Free of torch."""

from collections.abc import Iterator
from typing import Any

from deftx.plan.artefact import OWN_TEXT, Artefact, Inputs
from deftx.plan.graph import Graph
from deftx.plan.schema import is_path
from deftx.plan.user_files import sha256
from deftx.stages.data.settings import Layout


def inputs(graph: Graph, artefact: Artefact) -> Inputs:
    if not graph.user_files.dataset(artefact["dataset"]).remote:
        return {"download": []}
    return {"download": [Artefact("download", artefact.wildcards)]}


def params(graph: Graph, artefact: Artefact) -> dict[str, Any]:
    dataset, path = graph.user_files.dataset(artefact["dataset"]), graph.user_files.of(artefact)
    # The checksum of a file that can be downloaded is an input.
    known = not dataset.remote and path.is_file()
    return {
        **dict(artefact.wildcards),
        **dataset.model_dump(include=set(Layout.model_fields)),
        "limit": dataset.limit.get(artefact["language"]),
        "classes": _classes(graph, artefact["dataset"]),
        "sha256": sha256(path) if known else None,
    }


def _classes(graph: Graph, dataset: str) -> dict[str, list[str]]:
    """The classes of each task that a dataset is used for."""
    return {
        name: task.classes
        for name, task in graph.config.tasks.items()
        if dataset in {part.dataset for part in (task.train, task.valid, task.test)}
        or dataset in {part.dataset for part in task.more_sources}
    }


def others(graph: Graph, artefact: Artefact) -> list[dict[str, Any]]:
    """The files that could contradict this one, as `Other` of the stage has them: for what is
    trained on, the test sets of its language; for a test set, the reverse, and the same split in
    the first of its languages (for the first one, in all others)."""
    language, tests, trained = artefact["language"], [], []
    for name in graph.config.evaluated_tasks:
        task, languages = graph.config.tasks[name], graph.config.task_languages(name)
        if language in languages:
            tests.append(_split(task.test.dataset, language, task.test.split))
        if language == task.source:
            trained += [_split(i.dataset, language, i.split) for i in (task.train, task.valid)]
        trained += [
            _split(more.dataset, language, more.split)
            for more in task.more_sources
            if more.language == language
        ]
        if language in graph.config.prior_languages(name):
            items = graph.prior_of(name).items
            trained.append(_split(items.dataset, language, items.split))
    cleaning = graph.config.cleaning
    if language in graph.config.languages and not (cleaning and cleaning.evaluation):
        trained += [
            _split(OWN_TEXT if is_path(text) else text, language, "train")
            for text in graph.config.languages[language].texts
        ]
    found = []
    if artefact in trained:
        found += [_other(graph, "test", test) for test in tests if _apart(graph, artefact, test)]
    if artefact in tests:
        found += [_other(graph, "train", part) for part in trained if _apart(graph, part, artefact)]
        found += [_other(graph, "parallel", part) for part in _parallel(graph, artefact)]
    return [other for other in found if other is not None]


def _split(dataset: str, language: str, split: str) -> Artefact:
    return Artefact.of("data", dataset=dataset, language=language, split=split)


def _apart(graph: Graph, trained: Artefact, test: Artefact) -> bool:
    """Whether two splits should have nothing in common before anything is trimmed."""
    trim = graph.user_files.dataset(trained["dataset"]).without_nearest
    return trained != test and (trim is None or trim.dataset != test["dataset"])


def _parallel(graph: Graph, artefact: Artefact) -> Iterator[Artefact]:
    for name in graph.config.evaluated_tasks:
        test, languages = graph.config.tasks[name].test, graph.config.task_languages(name)
        same = [_split(test.dataset, language, test.split) for language in languages]
        if artefact in same and graph.config.datasets[test.dataset].columns.id:
            yield from same[1:] if artefact == same[0] else same[:1]


def _other(graph: Graph, role: str, artefact: Artefact) -> dict[str, Any] | None:
    dataset = graph.user_files.dataset(artefact["dataset"])
    if dataset.world:
        return None
    return {
        "role": role,
        "name": "{dataset} ({split} of {language})".format(**dict(artefact.wildcards)),
        "file": str(graph.user_files.of(artefact)),
        "limit": dataset.limit.get(artefact["language"]),
        "layout": dataset.model_dump(include=set(Layout.model_fields)),
    }


def missing(graph: Graph, artefact: Artefact) -> str | None:
    """The message about the user's file, if it is missing and cannot be downloaded."""
    path, dataset, language = (
        graph.user_files.of(artefact),
        artefact["dataset"],
        artefact["language"],
    )
    if graph.user_files.dataset(dataset).remote or path.is_file():
        return None
    key = f"datasets.{dataset}.files ({artefact['split']} of {language})"
    if dataset == OWN_TEXT:
        key = f"languages.{language}.text"
    return f"{key}: {'not a file:' if path.exists() else 'no file'} {path}"
