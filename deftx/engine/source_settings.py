"""Sources of a task: the languages of its training files, and which of these have a vector."""

from typing import Self

from pydantic import Field, model_validator

from deftx.store.strict import Strict


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
            twice = [language for language in languages if languages.count(language) > 1]
            if twice:
                raise ValueError(f"{key}: {twice[0]} is there more than once")
        unknown = [language for language in self.with_vectors if language not in sources]
        if unknown:
            raise ValueError(f"with_vectors: {unknown[0]} is none of the sources {sources}")
        if self.sources == []:
            raise ValueError("sources: no language; leave it out if there is one training file")
        return self
