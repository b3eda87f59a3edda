"""What the stage `download` reads: artefacts and values of the config. Free of torch."""

from pathlib import Path
from typing import Any

from deftx.plan.artefact import Artefact, Inputs
from deftx.plan.graph import Graph
from deftx.plan.user_files import sha256
from deftx.store.artefact import read_json
from deftx.store.errors import ArtefactError


def inputs(graph: Graph, artefact: Artefact) -> Inputs:
    return {}


def params(graph: Graph, artefact: Artefact) -> dict[str, Any]:
    dataset = graph.config.datasets[artefact["dataset"]]
    language, split = artefact["language"], artefact["split"]
    hub = dataset.hub.model_dump() if dataset.hub else {}
    return {
        **dict(artefact.wildcards),
        "url": dataset.url and dataset.fill(dataset.url, language, split),
        "hub": {name: value and dataset.fill(value, language, split) for name, value in hub.items()}
        or None,
        "given": _given(graph, artefact),
    }


def _given(graph: Graph, artefact: Artefact) -> str | None:
    """The checksum of the user's own copy of a file that could be downloaded; None if it is to be
    downloaded, or was.

    The record of a finished download stands as long as the file is unchanged. So downloading a file
    does not make its own download stale, and another copy in its place does.
    """
    file, done = graph.user_files.of(artefact), Path(graph.path(artefact))
    try:
        found: dict[str, Any] | None = read_json(done, "given", "bytes", "sha256")
    except ArtefactError:  # there is none, or it was damaged and is made again
        found = None
    if not file.is_file():
        return found["given"] if found else None
    # Hashed only if something suggests a change: these files may have gigabytes.
    if found and file.stat().st_size == found["bytes"]:
        if file.stat().st_mtime <= done.stat().st_mtime:
            return found["given"]
        if sha256(file) == found["sha256"]:
            return found["given"]
    return sha256(file)
