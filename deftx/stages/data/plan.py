"""What the stage `data` reads: artefacts and values of the config. Free of torch."""

from typing import Any

from deftx.plan.artefact import OWN_TEXT, Artefact, Inputs
from deftx.plan.graph import Graph
from deftx.plan.user_files import sha256


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
        "columns": dataset.columns.model_dump(),
        "labels": dataset.labels,
        "quoting": dataset.quoting,
        "header": dataset.header,
        "format": dataset.format,
        "limit": dataset.limit.get(artefact["language"]),
        "sha256": sha256(path) if known else None,
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
    if dataset == OWN_TEXT:
        return f"languages.{language}.text: no file {path}"
    return f"datasets.{dataset}.files ({artefact['split']} of {language}): no file {path}"
