"""Stage `figures`: transfer with its uncertainty, where masks land, and what denoising cuts off."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from matplotlib.figure import Figure

from deftx.artefact import canonical
from deftx.base import Base
from deftx.denoised import Denoised
from deftx.figures import (
    Spectrum,
    mask_figure,
    mask_shares,
    notice,
    save,
    spectrum_figure,
    transfer_figure,
)
from deftx.mask import Mask, load_mask
from deftx.places import place
from deftx.results import Comparison, draw, load_evaluations, transfer
from deftx.settings.denoise import RankRule
from deftx.tensor_file import TensorFile

MASK_PANELS, SPECTRUM_PANELS = 8, 6


File = TypeVar("File", TensorFile, Denoised)


class Params(Comparison):
    """Which systems are compared on what."""


def figures(
    params: Params,
    *,
    base: Path,
    evaluated: list[Path],
    masks: list[Path] | None = None,
    denoised: list[Path] | None = None,
    out: Path,
) -> None:
    """Write `transfer.svg` (`out`), and beside it `mask.svg` and `spectrum.svg`, each also as PNG.

    Where there are no masks, or nothing is denoised, that figure says so in words; where there are
    many, it shows the first language and the first task of each method, and how many there are.

    Raises ArtefactError if an input cannot be read, or a mask was made for another base;
    ValueError if an evaluation is missing.
    """
    encoder = Base.load(base)
    drawn = {
        "mask": _masks(params, encoder, masks or []),
        "spectrum": _spectra(params, denoised or []),
        "transfer": _transfer(params, evaluated),
    }
    for name, figure in drawn.items():
        for suffix in (".png", ".svg"):
            save(figure, out.with_name(name + suffix))


def _transfer(params: Params, evaluated: Sequence[Path]) -> Figure:
    evaluations = load_evaluations(evaluated)
    draws = draw(params, evaluations)
    classes = {evaluation.task: evaluation.classes for evaluation in evaluations}
    return transfer_figure(params, transfer(params, draws), draws, classes)


def _masks(params: Params, base: Base, paths: Sequence[Path]) -> Figure:
    files = [TensorFile(path) for path in paths]
    if not files:
        return notice("No mask: every system of this run uses dense vectors.")
    found: dict[str, Mask] = {}
    for file in _first_of_each(files, MASK_PANELS):
        base.check(file.provenance, file.path)
        target = _target(params, file.provenance)
        found[f"{file.provenance['method']}, {target}"] = load_mask(file)
    chosen = {name for mask in found.values() for name in mask.index}
    # Normalisation layers are shown only where a method may choose them.
    shapes = {n: shape for n, shape in base.shapes.items() if n in base.maskable or n in chosen}
    shares = {title: mask_shares(mask, shapes) for title, mask in found.items()}
    return mask_figure(shares, of=len(files))


def _spectra(params: Params, paths: Sequence[Path]) -> Figure:
    files = [Denoised(TensorFile(path)) for path in paths]
    if not files:
        return notice("No spectrum: no method of this run denoises.")
    panels = {}
    for file in _first_of_each(files, SPECTRUM_PANELS):
        rule = RankRule.model_validate(file.provenance["params"]["rule"])
        panels[f"{rule.slug()}, {_target(params, file.provenance)}"] = [
            Spectrum(place(name)[0], values.numpy(), file.rank(name))
            for name in file
            if (values := file.spectrum(name)) is not None
        ]
    return spectrum_figure(panels, of=len(files))


def _first_of_each(files: Sequence[File], most: int) -> Sequence[File]:
    """All files if there are at most `most`; otherwise the first language and the first task of
    each method (or rank rule), as many as `most`."""
    if len(files) <= most:
        return files
    first: dict[tuple[str, str], File] = {}
    for file in files:
        rule = file.provenance.get("method") or canonical(file.provenance["params"]["rule"])
        first.setdefault((rule, file.provenance["target"].partition("-")[0]), file)
    return list(first.values())[:most]


def _target(params: Params, provenance: dict[str, Any]) -> str:
    """`lang-ace` by the language's name; `task-sentiment` as it is."""
    kind, _, name = provenance["target"].partition("-")
    return params.name(name) if kind == "lang" else f"task {name}"
