"""Existing vectors: files of the user, or repositories of the hub."""

import re
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from deftx.store.strict import Strict

Commit = Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]
Classes = Annotated[list[str], Field(min_length=2)]

HUB_ID = re.compile(r"^[\w.-]+/[\w.{}-]+$")


class Foreign(Strict):
    """Where to find the vectors of a method; plain text means `{source: text}`."""

    source: str = Field(
        description="a folder or file (absolute, or below data_dir) or, with a revision, a hub id; "
        "may contain {language} or {task}"
    )
    revision: Commit | dict[str, Commit] | None = Field(
        default=None, description="commit (40 hexadecimal digits) of the hub id, or of each name's"
    )
    aliases: dict[str, str] = Field(
        default={},
        description="language or task → its name in `source`; `none`: there is no vector",
    )
    classes: Classes | dict[str, Classes] | None = Field(
        default=None,
        description="classes of a task, or of each, in the order of the stored head's rows; needed "
        "if the file does not record them, but for tags, which the public code sorts",
    )

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        return {"source": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _hub_id(self) -> Self:
        if self.revision is not None and not HUB_ID.match(self.source):
            raise ValueError(f"source {self.source!r} has a revision, but is no hub id: owner/name")
        return self

    def has(self, name: str) -> bool:
        """Whether there is a vector of this language or task."""
        return self.aliases.get(name) != "none"

    def source_of(self, name: str) -> str:
        """Path or hub id of its vector."""
        known = self.aliases.get(name, name)
        return self.source.replace("{language}", known).replace("{task}", known)

    def revision_of(self, name: str) -> str | None:
        """The commit of its hub id; None for a path, and where none is given for it."""
        return self.revision.get(name) if isinstance(self.revision, dict) else self.revision

    def classes_of(self, task: str) -> list[str] | None:
        """The classes in the order of the stored head."""
        return self.classes.get(task) if isinstance(self.classes, dict) else self.classes
