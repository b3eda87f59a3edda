"""Stage `figures`: the scores of the systems, and the structure of their vectors."""

from collections.abc import Sequence
from pathlib import Path
from typing import Self, TypeVar

from matplotlib.figure import Figure
from pydantic import Field, model_validator

from deftx.core.low_rank import DeltaFile
from deftx.core.mask import Mask, load_mask
from deftx.models.base import Base
from deftx.report.comparison import Comparison
from deftx.report.csv_files import read_csv
from deftx.report.evaluations import load_evaluations
from deftx.report.figures.curves import Ruler, distance_figure, sweep_figure
from deftx.report.figures.diagnosed import layers_figure, load_diagnostics, overlap_figure
from deftx.report.figures.style import notice, save
from deftx.report.figures.transfer import against, difference_figure, transfer_figure
from deftx.report.figures.vectors import Spectrum, mask_figure, mask_shares, spectrum_figure
from deftx.report.places import place
from deftx.report.scores import Difference, differences, draw, transfer
from deftx.stages.denoise.settings import RankRule
from deftx.stages.figures.settings import Sweep
from deftx.store.artefact import canonical
from deftx.store.tensors import TensorFile

MASK_PANELS, SPECTRUM_PANELS = 8, 6


File = TypeVar("File", TensorFile, DeltaFile)


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
    masks: list[Path] | None = None,
    denoised: list[Path] | None = None,
    diagnostics: list[Path] | None = None,
    coverage: Path | None = None,
    out: Path,
) -> None:
    """Write `transfer.svg` (`out`), and beside it `differences`, `sweep`, `distance`, `overlap`,
    `layers`, `mask` and `spectrum`, each as SVG and as PNG.

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
    diagnosed = load_diagnostics(diagnostics or [])
    rulers = _rulers(params, coverage)
    gaps, gains = differences(params, draws), list[Difference]()
    gaps = [
        gap
        for task in params.tasks
        for gap in against([g for g in gaps if g.task == task], params.reference_of(task))
    ]
    if params.zero_shot is not None:
        over = params.model_copy(update={"reference": params.zero_shot})
        gains = against(differences(over, draws), params.zero_shot)
    drawn = {
        "differences": difference_figure(params, gaps)
        or notice("No differences: a single system."),
        "sweep": sweep_figure(params, means, params.sweeps)
        or notice("No sweep: no two systems of this run differ in one setting only."),
        "distance": distance_figure(params, means, gains, rulers)
        or notice("No distances: this run has no measured property of its languages."),
        "overlap": overlap_figure(params, diagnosed)
        or notice("No overlap: no system of this run adds two sparse vectors."),
        "layers": layers_figure(params, diagnosed)
        or notice("No layers: no system of this run has a sparse vector."),
        "mask": _masks(params, encoder, masks or []),
        "spectrum": _spectra(params, denoised or []),
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


def _masks(params: Params, base: Base, paths: Sequence[Path]) -> Figure:
    files = [TensorFile(path) for path in paths]
    if not files:
        return notice("No mask: every system of this run uses dense vectors.")
    found: dict[str, Mask] = {}
    for file in _first_of_each(files, MASK_PANELS):
        base.check(file.provenance, file.path)
        target = params.target_name(file.provenance["target"])
        found[f"{file.provenance['method']}, {target}"] = load_mask(file)
    chosen = {name for mask in found.values() for name in mask.index}
    # Normalisation layers are shown only where a method may choose them.
    shapes = {n: shape for n, shape in base.shapes.items() if n in base.maskable or n in chosen}
    shares = {title: mask_shares(mask, shapes, base.known_as) for title, mask in found.items()}
    return mask_figure(shares, of=len(files))


def _spectra(params: Params, paths: Sequence[Path]) -> Figure:
    files = [DeltaFile(TensorFile(path)) for path in paths]
    if not files:
        return notice("No spectrum: no method of this run denoises.")
    panels = {}
    for file in _first_of_each(files, SPECTRUM_PANELS):
        rule = RankRule.model_validate(file.provenance["params"]["rule"])
        target = params.target_name(file.provenance["target"])
        panels[f"{rule.slug()}, {target}"] = [
            Spectrum(place(name)[0], values.numpy(), file.rank(name))
            for name in file
            if (values := file.spectrum(name)) is not None
        ]
    return spectrum_figure(panels, of=len(files))


def _first_of_each(files: Sequence[File], most: int) -> Sequence[File]:
    """All files if there are at most `most`. Otherwise the first language and the first task of
    each method (or rank rule), at most `most` files."""
    first: dict[tuple[str, str], File] = {}
    for file in files:
        rule = file.provenance.get("method") or canonical(file.provenance["params"]["rule"])
        first.setdefault((rule, file.provenance["target"].partition("-")[0]), file)
    return files if len(files) <= most else list(first.values())[:most]
