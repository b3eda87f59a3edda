"""The laws of the figures: what is drawn is what was counted, and bytes repeat."""

import json
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex
from PIL import Image
from test_tables import LANGUAGES, SYSTEMS, params, save_evaluation

from deftx.artefact import ArtefactError
from deftx.figures import (
    COLOURS,
    Spectrum,
    mask_figure,
    mask_shares,
    place,
    spectrum_figure,
    transfer_figure,
)
from deftx.mask import Mask, mask_layout, mask_tensors
from deftx.results import MEAN, draw, load_evaluations, transfer
from deftx.stages.figures import Params, figures
from deftx.tensor_file import save_tensors

BASE = {"id": "tiny", "revision": None, "hash": "0" * 64}

SHAPES = {
    "embeddings.word_embeddings.weight": (10, 4),
    "embeddings.LayerNorm.weight": (4,),
    **{
        f"encoder.layer.{layer}.{module}.{kind}": (4, 4) if kind == "weight" else (4,)
        for layer in (0, 1)
        for module in ("attention.self.query", "attention.output.dense", "output.dense")
        for kind in ("weight", "bias")
    },
    "encoder.layer.0.output.LayerNorm.bias": (4,),
}

FILES = [f"{name}.{kind}" for name in ("transfer", "mask", "spectrum") for kind in ("svg", "png")]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> dict[str, object]:
    """Everything that the stage takes."""
    folder = tmp_path_factory.mktemp("results")
    parameters = {
        name: {"shape": list(shape), "layer_norm": "LayerNorm" in name}
        for name, shape in SHAPES.items()
    }
    facts = {"identity": BASE, "parameters": parameters, "source": {}}
    (folder / "base").mkdir()
    (folder / "base" / "backbone.json").write_text(json.dumps(facts), encoding="utf-8")
    return {
        "base": folder / "base",
        "evaluated": [
            save_evaluation(folder, system, "mood", language, seed)
            for system, language, seed in product(SYSTEMS, LANGUAGES, range(2))
        ],
        "masks": [save_mask(folder, "deft-x", target) for target in ("task-mood", "lang-ace")],
        "denoised": [save_denoised(folder, "lang-ace")],
    }


def save_mask(folder: Path, method: str, target: str, base: dict = BASE) -> Path:
    name = "encoder.layer.0.output.dense.weight"
    mask = Mask({name: torch.tensor([1, 7])}, {name: (4, 4)})
    out = folder / "mask" / method / target / "seed0.safetensors"
    provenance = {"stage": "mask", "method": method, "target": target, "base": base}
    save_tensors(out, mask_tensors(mask), **provenance, layout=mask_layout(mask))
    return out


def save_denoised(folder: Path, target: str) -> Path:
    name = "encoder.layer.0.output.dense.weight"
    tensors = {
        f"{name}.delta": torch.zeros(4, 4),
        f"{name}.singular_values": torch.tensor([8.0, 4.0, 2.0, 0.0], dtype=torch.float64),
        "encoder.layer.0.output.dense.bias.delta": torch.zeros(4),
    }
    out = folder / "denoise" / "rank-2" / target / "seed0.safetensors"
    rule = {"rule": {"rank": 2}}
    save_tensors(out, tensors, stage="denoise", target=target, params=rule, ranks={name: 2})
    return out


def figure_params() -> Params:
    return Params.model_validate(params().model_dump())


def test_all_declared_files_are_there_and_same_inputs_same_bytes(inputs, tmp_path):
    for run in ("first", "second"):
        figures(figure_params(), **inputs, out=tmp_path / run / "transfer.svg")
    assert sorted(path.name for path in (tmp_path / "first").iterdir()) == sorted(FILES)
    for name in FILES:
        first, second = ((tmp_path / run / name).read_bytes() for run in ("first", "second"))
        assert first == second


def test_files_hold_no_date(inputs, tmp_path):
    figures(figure_params(), **inputs, out=tmp_path / "transfer.svg")
    for path in tmp_path.iterdir():
        assert b"<dc:date>" not in path.read_bytes()
        if path.suffix == ".png":
            assert Image.open(path).text == {}


@pytest.mark.parametrize("absent", [{}, {"masks": [], "denoised": []}])
def test_without_masks_the_figures_say_so_in_words(inputs, tmp_path, absent):
    needed = {name: inputs[name] for name in ("base", "evaluated")}
    figures(figure_params(), **needed, **absent, out=tmp_path / "transfer.svg")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(FILES)
    assert "<!-- No mask:" in (tmp_path / "mask.svg").read_text(encoding="utf-8")
    assert "<!-- No spectrum:" in (tmp_path / "spectrum.svg").read_text(encoding="utf-8")


def test_mask_for_another_base_is_refused(inputs, tmp_path):
    alien = save_mask(tmp_path, "lt-sft", "lang-ace", {**BASE, "hash": "1" * 64})
    with pytest.raises(ArtefactError, match="made for base"):
        figures(figure_params(), **{**inputs, "masks": [alien]}, out=tmp_path / "transfer.svg")


def test_too_many_masks_are_cut_to_the_first_of_each_kind_and_counted(inputs, tmp_path):
    targets = ["task-mood", *(f"lang-{key}" for key in LANGUAGES)]
    masks = [save_mask(tmp_path, method, t) for method, t in product(SYSTEMS, targets)]
    figures(figure_params(), **{**inputs, "masks": masks}, out=tmp_path / "transfer.svg")
    text = (tmp_path / "mask.svg").read_text(encoding="utf-8")
    assert "6 of 15 masks" in text
    for line in ("task mood", "eng"):  # the second line of a title
        assert text.count(f"<!-- {line} -->") == len(SYSTEMS)


def test_mask_shares_are_counted_exactly():
    chosen = {
        "encoder.layer.0.output.dense.weight": [0, 5, 9],
        "encoder.layer.1.output.dense.bias": [3],
        "encoder.layer.1.attention.self.query.bias": [0, 1],
        "embeddings.word_embeddings.weight": list(range(10)),
    }
    index = {name: torch.tensor(positions) for name, positions in chosen.items()}
    shares = mask_shares(Mask(index, {name: SHAPES[name] for name in index}), SHAPES)
    expected = {
        ("output", "0"): 3 / 16,
        ("biases", "1"): 3 / 12,
        ("word embeddings", "emb."): 10 / 40,
    }
    assert {where: share for where, share in shares.items() if share} == expected
    sizes: dict[tuple[str, str], int] = {}
    for name, shape in SHAPES.items():
        sizes[place(name)] = sizes.get(place(name), 0) + int(np.prod(shape))
    counted = sum(round(share * sizes[where]) for where, share in shares.items())
    assert counted == sum(map(len, index.values()))


@pytest.mark.parametrize(
    ("name", "module", "layer"),
    [
        ("encoder.layer.11.attention.self.query.weight", "attention query", "11"),
        ("encoder.layer.0.attention.output.dense.weight", "attention output", "0"),
        ("encoder.layer.0.attention.output.LayerNorm.bias", "normalisation", "0"),
        ("encoder.layer.0.output.dense.bias", "biases", "0"),
        ("embeddings.token_type_embeddings.weight", "token type embeddings", "emb."),
        ("transformer.layer.2.attention.q_lin.weight", "attention q lin", "2"),
        ("layers.7.mlp.Wi.weight", "mlp Wi", "7"),
        ("encoder.rel_embeddings.weight", "rel embeddings", "emb."),
    ],
)
def test_place_is_derived_from_the_name_in_any_encoder(name, module, layer):
    assert place(name) == (module, layer)


def drawn(figure, panel: int = 0):
    return [axes for axes in figure.axes if axes.get_visible()][panel]


def test_transfer_draws_every_mean_in_the_colour_of_its_system(inputs):
    comparison = params()
    draws = draw(comparison, load_evaluations(inputs["evaluated"]))
    means = transfer(comparison, draws)
    axes = drawn(transfer_figure(comparison, means, draws, {"mood": 3}))
    for number, system in enumerate(SYSTEMS):
        values = [100 * mean.mean for mean in means if mean.system == system]
        lines = [line for line in axes.lines if np.array_equal(line.get_ydata(), values)]
        assert [to_hex(line.get_color()) for line in lines] == [COLOURS[number]]
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert labels == ["eng\n(source)", "Acehnese", "ban", "Nahuatl †", MEAN]
    assert [line.get_ydata()[0] for line in axes.lines if line.get_linestyle() == "--"] == [100 / 3]


def test_heat_map_leaves_blank_what_a_model_does_not_have():
    panels = {"a": {("query", "0"): 0.5, ("word embeddings", "emb."): 0.0}}
    values = drawn(mask_figure(panels, of=1)).images[0].get_array()
    assert np.array_equal(values, [[0, np.nan], [np.nan, 50]], equal_nan=True)


def test_spectrum_marks_the_cut_and_omits_zero_matrices():
    spectra = [
        Spectrum("query", np.array([8.0, 4.0, 2.0, 1.0]), rank=2),
        Spectrum("key", np.zeros(4), rank=0),
        Spectrum("value", np.array([3.0, 0.0]), rank=2),
    ]
    axes = drawn(spectrum_figure({"a": spectra}, of=1))
    cuts = [line.get_xydata().tolist() for line in axes.lines if line.get_marker() == "|"]
    assert cuts == [[[2.0, 0.5]], [[1.0, 1.0]]]
    assert axes.lines[0].get_ydata().tolist() == [1, 0.5]
    assert axes.lines[1].get_ydata().tolist() == [0.5, 0.25, 0.125]
