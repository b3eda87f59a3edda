"""Stage `diagnostics`: what the vectors of a system look like, and how they interfere."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations, groupby, product
from math import prod
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from pydantic import Field

from deftx.core.mask import load_mask
from deftx.core.places import in_attention
from deftx.core.sparse_delta import SparseDelta
from deftx.core.vector_files import SFT_STAGES
from deftx.models.base import Base
from deftx.models.vectors import read_vector
from deftx.plan.artefact import Target
from deftx.report.alignment import align
from deftx.report.csv_files import DIAGNOSTICS, write_csv
from deftx.report.interference import Vector, jaccard, meet, overlap, positions
from deftx.report.places import depth, place
from deftx.store.errors import ArtefactError
from deftx.store.strict import Strict
from deftx.store.tensors import TensorFile, decode_ids

NOT_ADDED = ("adapter",)
"""Stages whose vectors are no differences of weights, so that they cannot be compared."""


class Params(Strict):
    """The system that is examined."""

    system: str
    task: str
    source: str = Field(description="language that the task was trained in")
    languages: list[str] = Field(description="in the order of the rows")
    seeds: list[int]

    @property
    def targets(self) -> list[str]:
        """The task and the languages as provenance names them, the task first."""
        languages = [Target("language", language).label for language in self.languages]
        return [Target("task", self.task).label, *languages]


class Row(NamedTuple):
    """One number: a line of the table. What does not apply is empty."""

    seed: int | str
    measure: str
    a: str
    value: float | None
    b: str = ""
    layer: str = ""
    part: str = ""


Vectors = Mapping[tuple[str, int], TensorFile]
"""(target, seed) → the file of a vector."""


def diagnostics(
    params: Params,
    *,
    base: Path,
    vectors: list[Path],
    evaluated: list[Path] | None = None,
    start_vector: list[Path] | None = None,
    out: Path,
) -> None:
    """Write a tidy CSV: `system`, `task` and the fields of `Row`. Every measure is defined in
    docs/diagnostics.md.

    `vectors` are those of the task and of the languages with all seeds; `start_vector` those that
    a dense task vector started from. Alignment is measured if `evaluated` has pooled states.
    Adapters are no differences of weights: for a system of adapters, only measures that need no
    comparison of vectors are written, and perhaps nothing but the header.

    Raises ArtefactError if a file is of another base, task or system, is a second one of its kind,
    or is missing.
    """
    encoder = Base.load(base)
    files = _vectors(params, encoder, vectors)
    starts = {TensorFile(path).provenance["seed"]: path for path in start_vector or []}
    rows = [
        *_meetings(params, encoder, files, starts),
        *_overlaps(params, encoder, files),
        *_distribution(encoder, files),
        *_stability(encoder, files),
        *_held_out(params, files),
        *_alignments(params, evaluated or []),
    ]
    known = [row for row in rows if row.value is not None]
    frame = pd.DataFrame(known, columns=list(Row._fields), dtype=object)
    # Counts in full; six digits of the rest, because further ones depend on the order of summation.
    frame["value"] = [str(v) if isinstance(v, int) else f"{v:.6g}" for v in frame["value"]]
    write_csv(out, frame.assign(system=params.system, task=params.task)[list(DIAGNOSTICS)])


def _vectors(params: Params, base: Base, paths: Sequence[Path]) -> Vectors:
    """The files by target and seed, in the order of `params`."""
    files: dict[tuple[str, int], TensorFile] = {}
    for path in paths:
        file = TensorFile(path)
        base.check(file.provenance, path)
        target, own = file.provenance["target"], file.provenance.get("seed")
        if target not in params.targets or own not in (None, *params.seeds):
            raise ArtefactError(
                f"{path}: of {target} with seed {own}, expected {' or '.join(params.targets)} with "
                f"a seed of {params.seeds}"
            )
        # A converted vector has no seed and is the same for every seed.
        for seed in params.seeds if own is None else [own]:
            if (target, seed) in files:
                raise ArtefactError(f"{path}: a second vector of {target} with seed {seed}")
            files[target, seed] = file
    for number, target in enumerate(params.targets):
        lacking = [seed for seed in params.seeds if (target, seed) not in files]
        # A language without text has no vector; but one with a vector has it for every seed.
        if lacking and (lacking != params.seeds or number == 0):
            raise ArtefactError(f"no vector of {target} with seed {lacking[0]} among those given")
    return {key: files[key] for key in product(params.targets, params.seeds) if key in files}


def _meetings(
    params: Params, base: Base, files: Vectors, starts: Mapping[int, Path]
) -> Iterator[Row]:
    """Each language's vector and the task's of the same seed, at most two vectors in memory."""
    task = params.targets[0]
    for seed in params.seeds:
        theirs = _read(files[task, seed], base, starts)
        for language in params.targets[1:]:
            mine = _read(files[language, seed], base, {}) if (language, seed) in files else None
            if mine is None or theirs is None:
                continue
            found = meet(mine, theirs)
            sparse = isinstance(mine, SparseDelta) and isinstance(theirs, SparseDelta)
            for measure, value in zip(found._fields[3:], found[3:], strict=True):
                if measure != "overlap" or sparse:
                    yield Row(seed, measure, language, value, b=task)


def _read(file: TensorFile, base: Base, starts: Mapping[int, Path]) -> Vector | None:
    """The vector in a file; None if it is not added to weights."""
    stage, start = file.provenance["stage"], file.provenance.get("start", "base")
    if stage in NOT_ADDED:
        return None
    from_start = stage == "full" and start != "base"
    path = starts.get(file.provenance["seed"]) if from_start else None
    if from_start and path is None:
        raise ArtefactError(
            f"{file.path}: its training started from the vector of {start} with seed "
            f"{file.provenance['seed']}, which is needed too (--start-vector)"
        )
    return read_vector(file, base, path)


def _sparse(files: Vectors) -> Vectors:
    return {key: file for key, file in files.items() if file.provenance["stage"] in SFT_STAGES}


def _overlaps(params: Params, base: Base, files: Vectors) -> Iterator[Row]:
    """Overlaps between the languages' masks of the first seed. Source: DeFT-X Figure 3."""
    first, sparse = params.seeds[0], _sparse(files)
    languages = [target for target in params.targets[1:] if (target, first) in sparse]
    chosen = {t: positions(load_mask(sparse[t, first]), base.shapes) for t in languages}
    for a, b in combinations(chosen, 2):
        yield Row(first, "overlap", a, overlap(chosen[a], chosen[b]), b=b)


def _distribution(base: Base, files: Vectors) -> Iterator[Row]:
    """How many entries of each layer and part are chosen, and how many may be."""
    for (target, seed), file in _sparse(files).items():
        layout = file.provenance["layout"]
        # Normalisation layers count only if the method may choose them.
        counts = pd.DataFrame(
            [
                (
                    place(base.known_as[name])[1],
                    # Source of the two parts: Sharma & Chauhan, Figures 1 and 2.
                    "attention" if in_attention(base.known_as[name]) else "other",
                    layout.get(name, {}).get("entries", 0),
                    prod(shape),
                )
                for name, shape in base.shapes.items()
                if name in base.maskable or name in layout
            ],
            columns=["layer", "part", "entries", "maskable"],
        )
        counts = counts.groupby(["layer", "part"], as_index=False).sum()
        counts = counts.sort_values("layer", key=lambda each: each.map(depth), kind="stable")
        for measure in ("entries", "maskable"):
            for layer, kind, of in counts[["layer", "part", measure]].itertuples(index=False):
                yield Row(seed, measure, target, int(of), layer=layer, part=kind)


def _stability(base: Base, files: Vectors) -> Iterator[Row]:
    """How alike the masks of one target are that were made with different seeds; converted vectors,
    the same for all seeds, are left out."""
    own = {key: f for key, f in _sparse(files).items() if f.provenance.get("seed") is not None}
    for target, each in groupby(own, key=lambda key: key[0]):
        chosen = {seed: positions(load_mask(own[t, seed]), base.shapes) for t, seed in each}
        for a, b in combinations(chosen, 2):
            yield Row(f"{a}-{b}", "jaccard", target, jaccard(chosen[a], chosen[b]))


def _held_out(params: Params, files: Vectors) -> Iterator[Row]:
    """The loss on held-out text at the checkpoint that was kept, if the vector was trained."""
    for (target, seed), file in files.items():
        if target != params.targets[0]:
            outcome = file.provenance.get("outcome", {})
            loss = outcome.get("averaged", outcome.get("best", {})).get("loss")
            yield Row(seed, "held_out_loss", target, loss)


def _alignments(params: Params, paths: Iterable[Path]) -> Iterator[Row]:
    """How alike the composed models represent items and their translations in the source."""
    pooled = {}
    for path in paths:
        facts = (file := TensorFile(path)).provenance
        for name, expected in (("system", params.system), ("task", params.task)):
            if facts.get(name) != expected:
                raise ArtefactError(
                    f"{path}: an evaluation of {name} {facts.get(name)}, expected {expected}"
                )
        if "pooled" in file:
            states = decode_ids(file["ids"]), file["pooled"].numpy()
            pooled[facts["language"], facts["seed"]] = states
    for seed, language in product(params.seeds, params.languages):
        mine, source = pooled.get((language, seed)), pooled.get((params.source, seed))
        if language != params.source and mine is not None and source is not None:
            found = align(*mine, *source)
            for measure, value in (found or {}).items():
                yield Row(seed, measure, language, value, b=params.source)
