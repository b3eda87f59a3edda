"""Stage `diagnostics`: what the vectors of a system look like, and how they interfere."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations, product
from math import prod
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from pydantic import Field

from deftx.core.mask import load_mask
from deftx.core.sparse_delta import SparseDelta
from deftx.core.vector_files import SFT_STAGES
from deftx.models.base import Base
from deftx.models.vectors import read_vector
from deftx.plan.artefact import Target
from deftx.report.alignment import align
from deftx.report.csv_files import DIAGNOSTICS, write_csv
from deftx.report.interference import Vector, jaccard, meet, overlap, positions
from deftx.report.places import place
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
    def task_target(self) -> str:
        """The target of the task's vector, as provenance has it."""
        return Target("task", self.task).label

    @property
    def language_targets(self) -> list[str]:
        """The targets of the languages' vectors, as provenance has them."""
        return [Target("language", language).label for language in self.languages]


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
    frame["value"] = frame["value"].map(_digits)
    write_csv(out, frame.assign(system=params.system, task=params.task)[list(DIAGNOSTICS)])


def _digits(value: float) -> str:
    """Counts in full. Six digits of the rest, because further ones depend on the order of summation
    and thus on threads."""
    return str(value) if isinstance(value, int) else f"{value:.6g}"


def _vectors(params: Params, base: Base, paths: Sequence[Path]) -> Vectors:
    """The files by target and seed, in the order of `params`."""
    targets = [params.task_target, *params.language_targets]
    files: dict[tuple[str, int], TensorFile] = {}
    for path in paths:
        file = TensorFile(path)
        base.check(file.provenance, path)
        target, own = file.provenance["target"], file.provenance.get("seed")
        if target not in targets or own not in (None, *params.seeds):
            raise ArtefactError(
                f"{path}: of {target} with seed {own}, expected {' or '.join(targets)} with "
                f"a seed of {params.seeds}"
            )
        # A converted vector has no seed and is the same for every seed.
        for seed in params.seeds if own is None else [own]:
            if (target, seed) in files:
                raise ArtefactError(f"{path}: a second vector of {target} with seed {seed}")
            files[target, seed] = file
    for target in targets:
        lacking = [seed for seed in params.seeds if (target, seed) not in files]
        # A language without text has no vector; but one with a vector has it for every seed.
        if lacking and (lacking != params.seeds or target == params.task_target):
            raise ArtefactError(f"no vector of {target} with seed {lacking[0]} among those given")
    return {
        (target, seed): files[target, seed]
        for target in targets
        for seed in params.seeds
        if (target, seed) in files
    }


def _meetings(
    params: Params, base: Base, files: Vectors, starts: Mapping[int, Path]
) -> Iterator[Row]:
    """Each language's vector and the task's of the same seed, at most two vectors in memory."""
    for seed in params.seeds:
        theirs = _read(files[params.task_target, seed], base, starts)
        for language in params.language_targets:
            if theirs is None or (language, seed) not in files:
                continue
            mine = _read(files[language, seed], base, {})
            if mine is None:
                continue
            found = meet(mine, theirs)
            sparse = isinstance(mine, SparseDelta) and isinstance(theirs, SparseDelta)
            for measure, value in zip(found._fields[3:], found[3:], strict=True):
                if measure != "overlap" or sparse:
                    yield Row(seed, measure, language, value, b=params.task_target)


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
    """The files of sparse vectors."""
    return {key: file for key, file in files.items() if file.provenance["stage"] in SFT_STAGES}


def _overlaps(params: Params, base: Base, files: Vectors) -> Iterator[Row]:
    """Overlaps between the languages' masks of the first seed. Source: DeFT-X Figure 3."""
    chosen = {
        target: positions(load_mask(file), base.shapes)
        for (target, seed), file in _sparse(files).items()
        if seed == params.seeds[0] and target != params.task_target
    }
    for a, b in combinations(chosen, 2):
        yield Row(params.seeds[0], "overlap", a, overlap(chosen[a], chosen[b]), b=b)


def _distribution(base: Base, files: Vectors) -> Iterator[Row]:
    """How many entries of each layer and part are chosen, and how many may be."""
    for (target, seed), file in _sparse(files).items():
        layout = file.provenance["layout"]
        counts: dict[tuple[str, str], list[int]] = {}
        # Normalisation layers count only if the method may choose them.
        for name in sorted(base.maskable.keys() | layout.keys()):
            of = counts.setdefault((place(name)[1], part(name)), [0, 0])
            of[0] += layout[name]["entries"] if name in layout else 0
            of[1] += prod(base.shapes[name])
        for i, measure in enumerate(("entries", "maskable")):
            for (layer, kind), of in sorted(counts.items(), key=_by_depth):
                yield Row(seed, measure, target, of[i], layer=layer, part=kind)


def part(name: str) -> str:
    """`attention` for a parameter of an attention block, `other` for the rest. Source: Sharma &
    Chauhan, Figures 1 and 2."""
    return "attention" if re.search(r"\battn\b|\battention\b", name) else "other"


def _by_depth(item: tuple[tuple[str, str], list[int]]) -> tuple[int, str]:
    layer, kind = item[0]
    return int(layer) if layer.isdigit() else -1, kind


def _stability(base: Base, files: Vectors) -> Iterator[Row]:
    """How alike the masks of one target are that were made with different seeds; converted vectors,
    the same for all seeds, are left out."""
    by_target: dict[str, dict[int, TensorFile]] = {}
    for (target, seed), file in _sparse(files).items():
        if file.provenance.get("seed") is not None:
            by_target.setdefault(target, {})[seed] = file
    for target, each in by_target.items():
        chosen = {seed: positions(load_mask(file), base.shapes) for seed, file in each.items()}
        for a, b in combinations(chosen, 2):
            yield Row(f"{a}-{b}", "jaccard", target, jaccard(chosen[a], chosen[b]))


def _held_out(params: Params, files: Vectors) -> Iterator[Row]:
    """The loss on held-out text at the checkpoint that was kept, if the vector was trained."""
    for (target, seed), file in files.items():
        if target != params.task_target:
            loss = file.provenance.get("outcome", {}).get("best", {}).get("loss")
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
            ids, states = decode_ids(file["ids"]), file["pooled"].numpy()
            if len(ids) != len(states):
                raise ArtefactError(f"{path}: {len(ids)} ids, {len(states)} pooled states")
            pooled[facts["language"], facts["seed"]] = ids, states
    for seed, language in product(params.seeds, params.languages):
        mine, source = pooled.get((language, seed)), pooled.get((params.source, seed))
        if language != params.source and mine is not None and source is not None:
            found = align(*mine, *source)
            for measure, value in found._asdict().items() if found is not None else ():
                yield Row(seed, measure, language, value, b=params.source)
