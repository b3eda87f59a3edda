"""Stage `cards`: a README beside each sparse vector, with its scores."""

import os
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path

from deftx.core.vector_files import SFT_STAGES
from deftx.models.base import Base
from deftx.plan.plan import Plan
from deftx.report.card import Data, Vector, dataset, model_card, vectors_of
from deftx.report.comparison import Comparison
from deftx.report.evaluations import load_evaluations
from deftx.report.prior import with_prior
from deftx.report.scores import draw, transfer
from deftx.report.template import render
from deftx.report.written_config import load_config
from deftx.store.artefact import read_manifest, write_text
from deftx.store.errors import ArtefactError
from deftx.store.tensors import TensorFile

Params = Comparison


def cards(
    params: Params,
    *,
    config: Path,
    folder: Path,
    evaluated: list[Path],
    priors: list[Path] | None = None,
    out: Path,
) -> None:
    """Write `README.md` beside each vector, and `out`, a page with links to all of them. `folder`
    is results/{run}; `config`, written by the stage `config`, gives the vectors.

    Raises ArtefactError if a vector or an evaluation is missing, corrupt or something else, or
    a vector was made for another base; InputError if an evaluation is missing.
    """
    known = load_config(config)
    tests = {task: dataset(known, known.tasks[task].test.dataset) for task in params.tasks}
    write_cards(params, vectors_of(Plan(known)), tests, folder, evaluated, out, priors or [])


def write_cards(
    comparison: Comparison,
    vectors: Sequence[Vector],
    tests: Mapping[str, Data],
    folder: Path,
    evaluated: Sequence[Path],
    out: Path,
    priors: Sequence[Path] = (),
) -> None:
    """The work of `cards` for given vectors; `tests`: task → the dataset of its test items."""
    base = Base.load(folder / "base")
    evaluations = load_evaluations(evaluated, comparison)
    means = transfer(comparison, draw(comparison, evaluations))
    if (found := with_prior(comparison, evaluations, priors)) is not None:
        # Their means may be over fewer languages than those beside them.
        means += [m for m in found.means if m.language in comparison.tasks[m.task].languages]
    every = [_read(vector, folder / vector.path, base) for vector in vectors]
    rows = []
    for vector in every:
        card, own = folder / vector.folder / "README.md", vector.provenance
        text = model_card(
            vector,
            _partner(vector, every),
            comparison,
            means,
            tests=tests,
            items={p.path: read_manifest(folder / p.path)["items"] for p in vector.data},
            maskable=sum(map(prod, base.maskable.values())),
        )
        write_text(card, text)
        rows.append(
            {
                **{name: own.get(name, "") for name in ("method", "seed", "k")},
                "name": comparison.target_name(own["target"]),
                "systems": list(vector.systems),
                "card": Path(os.path.relpath(card, out.parent)).as_posix(),
            }
        )
    write_text(out, render("cards.md.j2", rows=rows))


def _read(vector: Vector, path: Path, base: Base) -> Vector:
    found = TensorFile(path).provenance
    if (stage := found["stage"]) not in SFT_STAGES:
        expected = " or ".join(SFT_STAGES)
        raise ArtefactError(f"{path}: made by {stage}, expected a vector, made by {expected}")
    base.check(found, path)
    return vector._replace(provenance=found)


def _partner(vector: Vector, every: Sequence[Vector]) -> Vector | None:
    """The first vector of the other kind and the same seed that a system adds to this one. A vector
    without a seed, which was not made here, fits every seed."""
    seed = vector.provenance.get("seed")
    fitting = (
        other
        for other in every
        if other.target.kind != vector.target.kind
        and (seed is None or other.provenance.get("seed") in (None, seed))
        and set(vector.systems) & set(other.systems)
    )
    return next(fitting, None)
