"""Stage `cards`: a README beside each sparse vector, once it is known what it scores."""

import os
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

from deftx.core.vector_files import SFT_STAGES
from deftx.models.base import Base
from deftx.plan.plan import Plan
from deftx.report.card import DatasetFacts, Vector, model_card
from deftx.report.card_facts import dataset_facts, vectors_of
from deftx.report.results import Comparison, draw, load_evaluations, transfer
from deftx.report.template import render
from deftx.report.written_config import load_config
from deftx.store.artefact import read_manifest, write_text
from deftx.store.errors import ArtefactError
from deftx.store.tensors import TensorFile


class Params(Comparison):
    """Which systems are compared on what."""


def cards(params: Params, *, config: Path, folder: Path, evaluated: list[Path], out: Path) -> None:
    """Write `README.md` beside each vector, and `out`, a page with links to all of them; `folder`
    is results/{run}, `config` what the stage `config` wrote, which tells the vectors.

    Raises ArtefactError if a vector or an evaluation is missing, corrupt or something else, or
    a vector was made for another base; InputError if an evaluation is missing.
    """
    known = load_config(config)
    tests = {task: dataset_facts(known, known.tasks[task].test.dataset) for task in params.tasks}
    write_cards(params, vectors_of(Plan(known)), tests, folder, evaluated, out)


def write_cards(
    comparison: Comparison,
    vectors: Sequence[Vector],
    tests: Mapping[str, DatasetFacts],
    folder: Path,
    evaluated: Sequence[Path],
    out: Path,
) -> None:
    """What `cards` does, of these vectors; `tests`: task → the dataset that it is tested on."""
    base = Base.load(folder / "base")
    maskable = sum(map(prod, base.maskable.values()))
    means = transfer(comparison, draw(comparison, load_evaluations(evaluated, comparison)))
    known = {vector.path: _provenance(folder / vector.path, base) for vector in vectors}
    for vector in vectors:
        partner = _partner(vector, vectors, known)
        text = model_card(
            vector,
            known[vector.path],
            comparison,
            means,
            tests=tests,
            items={p.path: read_manifest(folder / p.path)["items"] for p in vector.data},
            maskable=maskable,
            partner=partner,
            classes=next(
                (c for v in (vector, partner) if v and (c := known[v.path]["params"]["classes"])),
                [],
            ),
        )
        write_text(folder / vector.folder / "README.md", text)
    rows = [
        {
            **known[vector.path],
            "name": _name(comparison, known[vector.path]),
            "systems": vector.systems,
            "card": Path(
                os.path.relpath(folder / vector.folder / "README.md", out.parent)
            ).as_posix(),
        }
        for vector in vectors
    ]
    write_text(out, render("cards.md.j2", rows=rows))


def _provenance(path: Path, base: Base) -> dict[str, Any]:
    """What the file of a vector says of itself, but for the layout of its tensors."""
    found = TensorFile(path).provenance
    if found["stage"] not in SFT_STAGES:
        raise ArtefactError(
            f"{path}: made by {found['stage']}, expected a vector, made by "
            f"{' or '.join(SFT_STAGES)}"
        )
    base.check(found, path)
    return {name: value for name, value in found.items() if name != "layout"}


def _partner(
    vector: Vector, vectors: Sequence[Vector], known: Mapping[str, Mapping[str, Any]]
) -> Vector | None:
    """The first vector of the other kind and the same seed that a system adds to this one; one that
    was not made here goes with every seed."""
    kind, seed = _kind(known[vector.path]), known[vector.path].get("seed")
    for other in vectors:
        theirs = known[other.path]
        if (
            _kind(theirs) != kind
            and (seed is None or theirs.get("seed") in (None, seed))
            and set(other.systems) & set(vector.systems)
        ):
            return other
    return None


def _kind(provenance: Mapping[str, Any]) -> str:
    kind: str = provenance["target"].partition("-")[0]
    return kind


def _name(params: Comparison, provenance: Mapping[str, Any]) -> str:
    kind, _, name = provenance["target"].partition("-")
    return params.name(name) if kind == "lang" else f"task {name}"
