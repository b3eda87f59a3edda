"""Stage `convert`: write a vector that others made in our format."""

from pathlib import Path
from typing import Any, Self

import torch
from pydantic import Field, model_validator

from deftx.core.vector_files import OURS, PUBLIC, VECTOR_FILES, vector_file, write_sft_config
from deftx.exchange.foreign import read_foreign
from deftx.models.base import Base
from deftx.store.artefact import file_sha256
from deftx.store.errors import ArtefactError, InputError
from deftx.store.hub import fetch
from deftx.store.strict import Strict
from deftx.tasks.heads import KindOfTask, task_type


class Params(Strict):
    """Which vector to read: a hub id and a commit, or a file by its checksum."""

    method: str = Field(description="name of the method that the vector stands for")
    target: str = Field(description="lang-<language> or task-<task>")
    id: str | None = Field(
        default=None, description="hub id, or another name of the vector's origin"
    )
    revision: str | None = Field(default=None, description="commit of the hub id")
    content: str | None = Field(default=None, description="expected sha256 of the file")
    classes: list[str] | None = Field(
        default=None, description="classes of a task, in the order of the logits to write"
    )
    stored_classes: list[str] | None = Field(
        default=None,
        description="the same in the order of the stored head, if the file has no record; default "
        "of tags: sorted, as the public code has them",
    )
    kind: KindOfTask = None

    @model_validator(mode="after")
    def _classes_of_a_task(self) -> Self:
        if self.target.startswith("task-") != (self.classes is not None):
            raise ValueError(f"{self.target}: `classes` are required for a task, and only there")
        return self


def convert(params: Params, *, base: Path, vector: Path | None = None, out: Path) -> None:
    """Write an SFT file, and `sft_config.json` beside it, with every difference of `vector` (a file
    or folder) or the hub's repository and, for a task, its head in the order of `classes`.

    Raises ArtefactError as `read_foreign` does, and if there is no vector or its checksum differs.
    """
    encoder = Base.load(base)
    if vector is None:
        if params.id is None or params.revision is None:
            raise InputError("give a file or folder (--vector), or a hub id and its --revision")
        vector = fetch(params.id, params.revision, VECTOR_FILES)
    file = vector_file(vector)
    if file is None:
        raise ArtefactError(f"{vector}: expected {OURS} or {PUBLIC} in it")
    found = file_sha256(file)
    if params.content not in (None, found):
        raise ArtefactError(f"{file}: sha256 {found}, expected {params.content}: did it change?")
    phi = read_foreign(file, encoder, params.classes, params.stored_classes, params.kind)
    source = {"id": params.id, "revision": params.revision, "file": file.name, "sha256": found}
    made = {k: v for k, v in phi.provenance.items() if k not in ("base", "k", "layout")}
    provenance: dict[str, Any] = params.model_dump(include={"method", "target"})
    write_sft_config(
        out.parent,
        encoder.identity,
        params.classes,
        task_type(params.classes, params.kind),
        **provenance,
        source=source,
        k=len(phi),
    )
    phi.save(
        out,
        stage="convert",
        **provenance,
        base=encoder.identity,
        params=params.model_dump(),
        inputs={"vector": found},
        source={**source, "made": made or None},
        outcome={"trained": len(phi), "trained_head": sum(map(torch.numel, phi.head.values()))},
    )
