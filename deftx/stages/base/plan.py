"""What the stage `base` reads: artefacts and values of the config. Free of torch."""

from typing import Any

from deftx.plan.artefact import Artefact, Inputs
from deftx.plan.graph import Graph
from deftx.plan.user_files import folder_sha256


def inputs(graph: Graph, artefact: Artefact) -> Inputs:
    pretrain = graph.config.base.pretrain
    if pretrain is None:
        return {"text": []}
    return {"text": [graph.items(pretrain.text, key, "train") for key in pretrain.languages]}


def params(graph: Graph, artefact: Artefact) -> dict[str, Any]:
    base = graph.config.base
    if base.pretrain is not None:
        return {"id": f"{graph.config.run}-base", "pretrain": base.pretrain.model_dump()}
    how = base.model_dump(include={"head", "head_seed", "allow_pickle"}, exclude_defaults=True)
    folder = graph.user_files.base_folder()
    if folder is None:
        return {"id": base.model, "revision": base.revision, **how}
    return {"id": folder.name, "content": folder_sha256(folder, base.allow_pickle), **how}


def missing(graph: Graph, artefact: Artefact) -> str | None:
    """The message about the model of the base, if there is no such folder and it is no hub id."""
    base = graph.config.base
    if base.model is None or graph.user_files.base_folder() is not None:
        return None
    folder = graph.user_files.locate(base.model)
    if base.model.startswith(("/", ".", "~")):
        return f"base.model: no model folder {folder}"
    if base.revision is None:
        return f"base.model: no model folder {folder}; for a hub id give base.revision, a commit"
    return None
