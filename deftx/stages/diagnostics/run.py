"""Stage `diagnostics`: what the vectors of a system look like, and how they disturb each other."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from math import prod
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from pydantic import Field

from deftx.core.mask import load_mask
from deftx.core.sparse_delta import SparseDelta
from deftx.core.vector_files import SFT_STAGES
from deftx.models.base import Base
from deftx.models.vectors import read_vector
from deftx.report.alignment import align
from deftx.report.interference import Vector, jaccard, meet, overlap, positions
from deftx.report.places import place
from deftx.store.artefact import write_text
from deftx.store.errors import ArtefactError
from deftx.store.item_ids import decode_ids
from deftx.store.strict import Strict
from deftx.store.tensors import TensorFile

NOT_ADDED = ("adapter",)
"""Stages whose vectors are no differences of weights: there is nothing to compare."""

OF_PAIRS = ("sign_conflict", "interference", "norm_ratio", "cosine")


class Params(Strict):
    """Which system is looked at."""

    system: str
    task: str
    source: str = Field(description="language that the task was learnt in")
    languages: list[str] = Field(description="in the order of the rows")
    seeds: list[int]


class Row(NamedTuple):
    """One number: a line of the table. What does not apply is empty."""

    seed: str
    measure: str
    a: str
    b: str
    layer: str
    part: str
    value: float | None


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
    a dense task vector started from. Alignment is measured where `evaluated` has pooled states.
    Adapters are no differences of weights: of a system of them only what needs no comparison of
    vectors is written, and perhaps nothing but the header.

    Raises ArtefactError if a file is of another base, task or system, is a second one of its kind,
    or is missing.
    """
    encoder = Base.load(base)
    files = _vectors(params, encoder, vectors)
    starts = {TensorFile(path).provenance["seed"]: path for path in start_vector or []}
    rows = [
        *_meetings(params, encoder, files, starts),
        *_overlaps(params, files),
        *_distribution(params, encoder, files),
        *_stability(params, files),
        *_held_out(params, files),
        *_alignments(params, evaluated or []),
    ]
    write_text(out, _csv(params, (row for row in rows if row.value is not None)))


def _vectors(params: Params, base: Base, paths: Sequence[Path]) -> Vectors:
    targets = _targets(params)
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
        # One that was not made here is the same for every seed.
        for seed in params.seeds if own is None else [own]:
            if (target, seed) in files:
                raise ArtefactError(f"{path}: a second vector of {target} with seed {seed}")
            files[target, seed] = file
    for target in targets:
        found = [seed for seed in params.seeds if (target, seed) in files]
        # A language without text has no vector; but one with a vector has it for every seed.
        if found != params.seeds and (found or target == targets[0]):
            lacking = next(seed for seed in params.seeds if seed not in found)
            raise ArtefactError(f"no vector of {target} with seed {lacking} among those given")
    return files


def _targets(params: Params) -> list[str]:
    """The task, then the languages."""
    return [f"task-{params.task}", *(f"lang-{language}" for language in params.languages)]


def _meetings(
    params: Params, base: Base, files: Vectors, starts: Mapping[int, Path]
) -> Iterator[Row]:
    """Each language's vector beside the task's of the same seed, two vectors in memory at most."""
    task, *languages = _targets(params)
    for seed in params.seeds:
        theirs = _read(files[task, seed], base, starts)
        for language in languages:
            if (language, seed) not in files or theirs is None:
                continue
            mine = _read(files[language, seed], base, {})
            if mine is None:
                continue
            found = meet(mine, theirs)
            sparse = isinstance(mine, SparseDelta) and isinstance(theirs, SparseDelta)
            for measure in (*(["overlap"] if sparse else []), *OF_PAIRS):
                value: float | None = getattr(found, measure)
                yield Row(str(seed), measure, language, task, "", "", value)


def _read(file: TensorFile, base: Base, starts: Mapping[int, Path]) -> Vector | None:
    """The vector in a file; None if it is none that is added to weights."""
    stage, start = file.provenance["stage"], file.provenance.get("start", "base")
    if stage in NOT_ADDED:
        return None
    path = starts.get(file.provenance["seed"]) if start != "base" else None
    if stage == "full" and start != "base" and path is None:
        raise ArtefactError(
            f"{file.path}: its training started from the vector of {start} with seed "
            f"{file.provenance['seed']}, which is needed too (--start-vector)"
        )
    return read_vector(file, base, path)


def _overlaps(params: Params, files: Vectors) -> Iterator[Row]:
    """Overlaps between the languages' masks of the first seed. Source: DeFT-X Figure 3."""
    seed = params.seeds[0]
    languages = _targets(params)[1:]
    chosen = {
        target: positions(load_mask(files[target, seed]))
        for target in languages
        if _is_sparse(files.get((target, seed)))
    }
    for a, b in combinations(chosen, 2):
        yield Row(str(seed), "overlap", a, b, "", "", overlap(chosen[a], chosen[b]))


def _distribution(params: Params, base: Base, files: Vectors) -> Iterator[Row]:
    """How many entries are chosen in each layer, and how many may be."""
    for target in _targets(params):
        for seed in params.seeds:
            file = files.get((target, seed))
            if file is None or not _is_sparse(file):
                continue
            layout = file.provenance["layout"]
            entries: dict[tuple[str, str], int] = {}
            maskable: dict[tuple[str, str], int] = {}
            # Normalisation layers count only where the method may choose them.
            for name in sorted(base.maskable.keys() | layout.keys()):
                where = place(name)[1], part(name)
                maskable[where] = maskable.get(where, 0) + prod(base.shapes[name])
                chosen = layout[name]["entries"] if name in layout else 0
                entries[where] = entries.get(where, 0) + chosen
            for measure, counts in (("entries", entries), ("maskable", maskable)):
                for (layer, kind), count in sorted(counts.items(), key=_by_depth):
                    yield Row(str(seed), measure, target, "", layer, kind, count)


def part(name: str) -> str:
    """`attention` for a parameter of an attention block, `other` for the rest. Source: Sharma &
    Chauhan, Figures 1 and 2."""
    return "attention" if re.search(r"\battn\b|\battention\b", name) else "other"


def _by_depth(item: tuple[tuple[str, str], int]) -> tuple[int, str]:
    layer, kind = item[0]
    return int(layer) if layer.isdigit() else -1, kind


def _stability(params: Params, files: Vectors) -> Iterator[Row]:
    """How alike the masks of one target are that were made with different seeds; nothing of a
    vector that is the same for all."""
    for target in _targets(params):
        chosen = {
            seed: positions(load_mask(files[target, seed]))
            for seed in params.seeds
            if _is_sparse(files.get((target, seed)))
            and files[target, seed].provenance.get("seed") is not None
        }
        for a, b in combinations(chosen, 2):
            yield Row(f"{a}-{b}", "jaccard", target, "", "", "", jaccard(chosen[a], chosen[b]))


def _is_sparse(file: TensorFile | None) -> bool:
    return file is not None and file.provenance["stage"] in SFT_STAGES


def _held_out(params: Params, files: Vectors) -> Iterator[Row]:
    """The loss on held-out text at the checkpoint that was kept, where the vector was trained."""
    for target in _targets(params)[1:]:
        for seed in params.seeds:
            file = files.get((target, seed))
            outcome = file.provenance.get("outcome", {}) if file is not None else {}
            loss = outcome.get("best", {}).get("loss")
            yield Row(str(seed), "held_out_loss", target, "", "", "", loss)


def _alignments(params: Params, paths: Iterable[Path]) -> Iterator[Row]:
    """How alike the composed models represent items and their translations in the source."""
    pooled = _pooled(params, paths)
    for seed in params.seeds:
        if (params.source, seed) not in pooled:
            continue
        source = _items(pooled[params.source, seed])
        for language in params.languages:
            if language == params.source or (language, seed) not in pooled:
                continue
            found = align(*_items(pooled[language, seed]), *source)
            if found is not None:
                for measure, value in found._asdict().items():
                    yield Row(str(seed), measure, language, params.source, "", "", value)


def _pooled(params: Params, paths: Iterable[Path]) -> dict[tuple[str, int], TensorFile]:
    """(language, seed) → the evaluation that has pooled states."""
    found = {}
    for path in paths:
        file = TensorFile(path)
        for name in ("system", "task"):
            if file.provenance.get(name) != getattr(params, name):
                raise ArtefactError(
                    f"{path}: an evaluation of {name} {file.provenance.get(name)}, "
                    f"expected {getattr(params, name)}"
                )
        if "pooled" in file:
            found[file.provenance["language"], file.provenance["seed"]] = file
    return found


def _items(file: TensorFile) -> tuple[np.ndarray, np.ndarray]:
    """Ids (n,) and pooled states (n, hidden)."""
    ids = decode_ids(file["ids"])
    pooled = file["pooled"].numpy()
    if len(ids) != len(pooled):
        raise ArtefactError(f"{file.path}: {len(ids)} ids, {len(pooled)} pooled states")
    return ids, pooled


def _csv(params: Params, rows: Iterable[Row]) -> str:
    # Six digits: the order of summation, which depends on threads, shows further behind.
    lines = [(params.system, params.task, *row[:-1], _digits(row.value)) for row in rows]
    frame = pd.DataFrame(lines, columns=["system", "task", *Row._fields])
    return frame.to_csv(index=False, lineterminator="\n")


def _digits(value: float | None) -> str:
    return str(value) if isinstance(value, int) else f"{value:.6g}"
