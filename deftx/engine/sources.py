"""The training files of a target by language, and the vectors that some languages have."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from deftx.core.sparse_delta import SparseDelta
from deftx.engine.source_settings import SourceLanguages
from deftx.models.base import Base
from deftx.store.artefact import digests
from deftx.store.errors import ArtefactError, InputError


@dataclass(frozen=True)
class Sources:
    """Files that a phase trains on.

    Attributes:
        train: training files, in the order of the sources.
        languages: their languages; None for one file of which none is said.
        vectors: language → file of its vector.
    """

    train: list[Path]
    languages: list[str] | None
    vectors: dict[str, Path]

    @classmethod
    def of(
        cls,
        params: SourceLanguages,
        train: Path | Sequence[Path],
        vectors: Sequence[Path] | None,
        start_vector: Path | None,
    ) -> Self:
        """The files of a stage. Raises InputError if there are not as many as the parameters say,
        or if there is a start vector besides those of sources."""
        files = [train] if isinstance(train, Path) else list(train)
        paths = list(vectors or [])
        if params.sources is None and len(files) != 1:
            raise InputError(f"{len(files)} training files: `sources` must say their languages")
        for what, given, languages in (
            ("training files", files, params.sources),
            ("source vectors", paths, params.with_vectors),
        ):
            if languages is not None and len(given) != len(languages):
                raise InputError(
                    f"{len(given)} {what}, expected {len(languages)}, one for each of {languages}"
                )
        if paths and start_vector is not None:
            raise InputError(
                "a start vector and source vectors: each would be added to the weights; give one"
            )
        return cls(files, params.sources, dict(zip(params.with_vectors, paths, strict=True)))

    def digests(self) -> dict[str, str]:
        """Role → checksum: `train`, or `train.<language>` where languages are said; and
        `source_vector.<language>`."""
        roles = ["train"] if self.languages is None else [f"train.{s}" for s in self.languages]
        files = dict(zip(roles, self.train, strict=True))
        return digests(**files, **{f"source_vector.{s}": p for s, p in self.vectors.items()})

    def load_vectors(self, base: Base) -> list[SparseDelta | None]:
        """The vector of each source, or None; empty if no source has one. Raises ArtefactError if
        one was made for another base or another language."""
        found = {language: _vector(path, language, base) for language, path in self.vectors.items()}
        return [found.get(language) for language in self.languages or []] if found else []


def _vector(path: Path, language: str, base: Base) -> SparseDelta:
    vector = SparseDelta.load(path)
    base.check(vector.provenance, path)
    target = vector.provenance.get("target", f"lang-{language}")
    if target != f"lang-{language}":
        raise ArtefactError(f"{path}: the vector of {target}, expected that of lang-{language}")
    return vector
