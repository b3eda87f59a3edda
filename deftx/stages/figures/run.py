"""Stage `figures`: the scores of the systems, and the structure of their vectors."""

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import pandas as pd
from pydantic import Field, model_validator

from deftx.core.low_rank import DeltaFile
from deftx.core.mask import Mask, load_mask
from deftx.models.base import Base
from deftx.report.comparison import Comparison
from deftx.report.csv_files import load_diagnostics, read_csv
from deftx.report.evaluations import load_evaluations
from deftx.report.figures.curves import Ruler, Sweep, distance_figure, sweep_figure
from deftx.report.figures.style import save
from deftx.report.figures.transfer import (
    against,
    difference_figure,
    prior_figure,
    transfer_figure,
)
from deftx.report.figures.vectors import (
    Spectrum,
    layers_figure,
    mask_figure,
    mask_shares,
    over_seeds,
    overlap_figure,
    spectrum_figure,
)
from deftx.report.places import place
from deftx.report.prior import with_prior
from deftx.report.scores import Difference, draw, transfer
from deftx.stages.denoise.settings import RankRule
from deftx.store.tensors import TensorFile

MASK_PANELS, SPECTRUM_PANELS = 8, 6


class Params(Comparison):
    """Which systems are compared on what."""

    sweeps: list[Sweep] = Field(default=[], description="settings whose effect is drawn")
    distances: dict[str, float] = Field(
        default={}, description="language of the world → its distance from the source"
    )
    zero_shot: str | None = Field(
        default=None, description="the system without language vectors, over which gains are drawn"
    )

    @model_validator(mode="after")
    def _names_known_systems(self) -> Self:
        named = [(f"sweeps: {s.name}", system) for s in self.sweeps for _, system in s.points]
        for key, system in [*named, ("zero_shot", self.zero_shot or self.systems[0])]:
            if system not in self.systems:
                known = ", ".join(self.systems)
                raise ValueError(f"{key}: no system {system!r}, there are {known}")
        return self


def figures(
    params: Params,
    *,
    base: Path,
    evaluated: list[Path],
    priors: list[Path] | None = None,
    masks: list[Path] | None = None,
    denoised: list[Path] | None = None,
    diagnostics: list[Path] | None = None,
    coverage: Path | None = None,
    out: Path,
) -> None:
    """Write `transfer.svg` (`out`), and beside it `differences`, `prior`, `sweep`, `distance`,
    `overlap`, `layers`, `mask` and `spectrum`, each as SVG and as PNG.

    A figure that has nothing to show says why. If there are many masks or spectra, only those of
    the first language and the first task of each method are shown, with the number of all.

    Args:
        diagnostics: {system}/{task}.csv of the stage `diagnostics`.
        coverage: the CSV of the stage `coverage`.

    Raises ArtefactError if an input cannot be read, or a mask was made for another base;
    InputError if an evaluation is missing.
    """
    encoder = Base.load(base)
    evaluations = load_evaluations(evaluated, params)
    draws = draw(params, evaluations)
    means = transfer(params, draws)
    classes = {evaluation.task: evaluation.classes for evaluation in evaluations}
    diagnosed = over_seeds(load_diagnostics(diagnostics or []))
    gains = list[Difference]()
    if params.zero_shot is not None:
        over = params.model_copy(update={"reference": params.zero_shot})
        gains = [gap for gap in against(over, draws) if gap.versus == params.zero_shot]
    drawn = {
        "differences": difference_figure(params, against(params, draws)),
        "prior": prior_figure(with_prior(params, evaluations, priors or [])),
        "sweep": sweep_figure(params, means, params.sweeps),
        "distance": distance_figure(params, means, gains, _rulers(params, coverage)),
        "overlap": overlap_figure(params, diagnosed),
        "layers": layers_figure(params, diagnosed),
        "mask": mask_figure(_masks(params, encoder, masks or []), of=len(masks or [])),
        "spectrum": spectrum_figure(_spectra(params, denoised or []), of=len(denoised or [])),
        "transfer": transfer_figure(params, means, draws, classes),
    }
    for name, figure in drawn.items():
        for suffix in (".png", ".svg"):
            save(figure, out.with_name(name + suffix))


def _rulers(params: Params, coverage: Path | None) -> list[Ruler]:
    rulers = []
    if params.distances:
        same = dict.fromkeys(params.tasks, params.distances)
        rulers.append(Ruler("distance from the source", same, joined=True))
    if coverage is not None:
        frame = read_csv(coverage, language=str, dataset=str, split=str, pieces_per_word=float)
        # The split of the evaluation comes last and replaces the others.
        frame = frame.sort_values("split", key=lambda split: split == "test", kind="stable")
        frame = frame.dropna(subset="pieces_per_word")
        found = {}
        for task, table in params.tasks.items():
            mine = frame[frame["dataset"] == table.dataset]
            found[task] = dict(zip(mine["language"], mine["pieces_per_word"], strict=True))
        rulers.append(Ruler("tokens per word", found, joined=False))
    return rulers


def _masks(params: Params, base: Base, paths: Sequence[Path]) -> dict[str, pd.Series]:
    found: dict[str, Mask] = {}
    for title, file in _shown(params, paths, MASK_PANELS).items():
        base.check(file.provenance, file.path)
        found[title] = load_mask(file)
    chosen = {name for mask in found.values() for name in mask.index}
    # Normalisation layers are shown only where a method may choose them.
    shapes = {n: shape for n, shape in base.shapes.items() if n in base.maskable or n in chosen}
    return {title: mask_shares(mask, shapes, base.known_as) for title, mask in found.items()}


def _spectra(params: Params, paths: Sequence[Path]) -> dict[str, list[Spectrum]]:
    found = _shown(params, paths, SPECTRUM_PANELS)
    return {
        title: [
            (place(name)[0], values.numpy(), delta.rank(name))
            for name in delta
            if (values := delta.spectrum(name)) is not None
        ]
        for title, delta in zip(found, map(DeltaFile, found.values()), strict=True)
    }


def _shown(params: Params, paths: Sequence[Path], most: int) -> dict[str, TensorFile]:
    """Title → file: all if there are at most `most`. Otherwise the first language and the first
    task of each method (or rank rule), at most `most` files."""
    every, first = {}, dict[tuple[str, str], str]()
    for file in map(TensorFile, paths):
        known, target = file.provenance, file.provenance["target"]
        rule = known.get("method") or RankRule.model_validate(known["params"]["rule"]).slug()
        title = f"{rule}, {params.target_name(target)}"
        every[title] = file
        first.setdefault((rule, target.partition("-")[0]), title)
    chosen = every if len(paths) <= most else list(first.values())[:most]
    return {title: every[title] for title in chosen}
