"""The sources of a task: training files by language, and the vectors that some languages have."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from transformers import PreTrainedModel

from deftx.core.sparse_delta import SparseDelta
from deftx.engine.objective import Objective
from deftx.engine.params import SourceLanguages, TargetParams
from deftx.models.base import Base
from deftx.store.artefact import digests
from deftx.store.errors import ArtefactError, InputError


@dataclass(frozen=True)
class Sources:
    """Files that a phase trains on.

    Attributes:
        train: training files, in the order of the sources.
        languages: their languages; None for one file without a stated language.
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
        found = {}
        for language, path in self.vectors.items():
            vector = found[language] = SparseDelta.load(path)
            base.check(vector.provenance, path)
            expected = f"lang-{language}"
            target = vector.provenance.get("target", expected)
            if target != expected:
                raise ArtefactError(f"{path}: the vector of {target}, expected that of {expected}")
        return [found.get(language) for language in self.languages or []] if found else []


def around_source(
    model: PreTrainedModel, objective: Objective, vectors: Sequence[SparseDelta | None]
) -> Callable[[int], AbstractContextManager[Any]] | None:
    """Number of a source → a block inside of which its vector (without head) is in the model's
    weights, which have their former bits afterwards: what an optimiser moves is never the sum, and
    nothing drifts. A source whose vector is None is computed with the weights as they are; None if
    `vectors` is empty. The vectors are moved to the model's device, 12 bytes an entry.

    Source: LT-SFT's training on several sources, which subtracts the vector again, so that weights
    drift by rounding. Raises InputError unless there is one for each source of the objective.
    """
    if vectors and len(vectors) != len(objective.sources):
        raise InputError(
            f"{len(vectors)} source vectors for {len(objective.sources)} sources: give each source "
            "its vector or None"
        )
    here = [v if v is None else SparseDelta(v.mask, v.values).to(model.device) for v in vectors]
    if not here:
        return None

    def around(source: int) -> AbstractContextManager[Any]:
        vector = here[source]
        return nullcontext() if vector is None else vector.applied(model)

    return around


def load_round_vector(
    params: TargetParams, number: int, base: Base, path: Path | None
) -> SparseDelta | None:
    """What round `number` of a target begins with: the vector of the round before, relative to the
    same start, or None for the first one. Raises InputError if it is missing, or given to a first
    round; ArtefactError if it was made for another base, target or round."""
    if path is None:
        if number > 1:
            raise InputError(f"round {number} begins with the vector of the one before: give it")
        return None
    if number == 1:
        raise InputError(f"{path}: round 1 begins at the start weights, not with a vector")
    vector = SparseDelta.load(path)
    base.check(vector.provenance, path)
    expected = {**params.model_dump(include={"target", "start", "seed"}), "round": number - 1}
    known = {**vector.provenance.get("params", {}), **vector.provenance}
    found = {name: known.get(name) for name in expected}
    if found != expected:
        raise ArtefactError(f"{path}: the vector of {found}, expected that of {expected}")
    return vector
