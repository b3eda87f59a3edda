"""The parameters that stages which train have in common. Free of torch."""

from typing import Any, Self

from pydantic import Field, model_validator

from deftx.engine.settings import Engine, LanguageTraining, TaskTraining
from deftx.store.errors import InputError
from deftx.store.strict import Strict
from deftx.tasks.heads import KindOfTask


class TargetParams(Strict):
    """What is trained and how."""

    target: str = Field(description="lang-<language> or task-<task>")
    start: str = Field(default="base", description="base, or the method of the source's vector")
    seed: int = 0
    classes: list[str] | None = Field(
        default=None, description="the classes of a task, in the order of its logits"
    )
    kind: KindOfTask = None
    language: LanguageTraining | None = Field(default=None, description="settings of a language")
    task: TaskTraining | None = Field(default=None, description="settings of a task")
    engine: Engine = Engine()
    report_to: list[str] = Field(
        default_factory=list,
        description="trackers as accelerate names them; nothing in the result depends on them",
    )

    def recorded(self) -> dict[str, Any]:
        """The parameters in the provenance: all that the result depends on."""
        return self.model_dump(exclude={"report_to"})

    @property
    def training(self) -> LanguageTraining | TaskTraining:
        """The settings of this kind of target."""
        settings = self.task if self.classes else self.language
        if settings is None:
            raise InputError(
                f"{self.target}: give `classes` and `task` for a task, `language` for a language"
            )
        return settings


class MethodParams(TargetParams):
    """What is trained and how, by which method."""

    method: str
    learning_rate: float | None = Field(
        default=None, description="instead of that of the target's settings"
    )

    @property
    def training(self) -> LanguageTraining | TaskTraining:
        """The settings of this kind of target, with the method's learning rate."""
        rate = self.learning_rate
        return super().training.model_copy(update={"learning_rate": rate} if rate else {})


class SourceLanguages(Strict):
    """Languages of the training files of a task."""

    sources: list[str] | None = Field(
        default=None,
        description="language of each training file, in their order; the first one's is validated",
    )
    with_vectors: list[str] = Field(
        default_factory=list,
        description="those sources whose vector is in the weights while their batches are "
        "computed, in the order of the source vectors",
    )

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        sources = self.sources or []
        for key, languages in (("sources", sources), ("with_vectors", self.with_vectors)):
            if twice := [language for language in languages if languages.count(language) > 1]:
                raise ValueError(f"{key}: {twice[0]} is there more than once")
        unknown = [language for language in self.with_vectors if language not in sources]
        if unknown:
            raise ValueError(f"with_vectors: {unknown[0]} is none of the sources {sources}")
        if self.sources == []:
            raise ValueError("sources: no language; leave it out if there is one training file")
        return self
