"""The laws of the figures: they show the numbers they are given, and their bytes repeat."""

import json
import re
from itertools import combinations, product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import OF_A_BASE
from imports import reached
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from PIL import Image
from pydantic import ValidationError
from test_tables import LANGUAGES, SYSTEMS, params, save_evaluations

from deftx.core.mask import Mask, mask_layout, mask_tensors
from deftx.report.comparison import MEAN, Comparison
from deftx.report.csv_files import DIAGNOSTICS, load_diagnostics
from deftx.report.evaluations import load_evaluations
from deftx.report.figures.captions import CAPTIONS
from deftx.report.figures.curves import Ruler, Sweep, cost_figure, distance_figure, sweep_figure
from deftx.report.figures.style import COLOURS, MARKERS, WIDTH, looks
from deftx.report.figures.transfer import against, difference_figure, transfer_figure
from deftx.report.figures.vectors import (
    faded,
    layers_figure,
    mask_figure,
    mask_shares,
    over_seeds,
    overlap_figure,
    spectrum_figure,
)
from deftx.report.places import place
from deftx.report.scores import Transfer, draw, transfer
from deftx.stages.figures.run import Params, figures
from deftx.store.errors import ArtefactError
from deftx.store.tensors import save_tensors

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

NAMES = [name for name in CAPTIONS if name != "cost"]
FILES = [f"{name}.{kind}" for name in NAMES for kind in ("svg", "png")]

DISTANCES = {"eng": 0.0, "ace": 0.3, "ban": 0.9, "nah": 1.0}
PIECES = {"eng": 1.2, "ace": 1.9, "ban": 2.3, "nah": 3.1}
SWEEP = Sweep(name="rank", label="rank", points=[(100, "deft-x"), (4, "lt-sft")])


MEASURED = list(DIAGNOSTICS)[2:]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> dict[str, object]:
    """All inputs of the stage."""
    folder = tmp_path_factory.mktemp("results")
    parameters = {
        name: {"shape": list(shape), "layer_norm": "LayerNorm" in name}
        for name, shape in SHAPES.items()
    }
    facts = {"identity": BASE, "parameters": parameters, "source": {}, **OF_A_BASE}
    (folder / "base").mkdir()
    (folder / "base" / "backbone.json").write_text(json.dumps(facts), encoding="utf-8")
    return {
        "base": folder / "base",
        "evaluated": save_evaluations(folder, seeds=2),
        "masks": [save_mask(folder, "deft-x", target) for target in ("task-mood", "lang-ace")],
        "denoised": [save_denoised(folder, "lang-ace")],
        "diagnostics": [save_diagnostics(folder, system) for system in SYSTEMS],
        "coverage": save_coverage(folder),
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


def measured(system: str) -> list[tuple[object, ...]]:
    """Rows of `diagnostics` with two seeds: zero-shot has no language vectors, deft-x its own."""
    rows: list[tuple[object, ...]] = []
    languages = [] if system == "zero-shot" else ["ace", "ban", "eng"]
    generator = np.random.default_rng(SYSTEMS.index(system))
    for seed in (0, 1):
        for language in languages:
            value = generator.random()
            rows.append((seed, "overlap", f"lang-{language}", "task-mood", "", "", value))
        for a, b in combinations(languages, 2):
            row = "overlap", f"lang-{a}", f"lang-{b}", "", "", generator.random()
            rows.append((seed, *row))
        for target in ("task-mood", *(f"lang-{language}" for language in languages)):
            for layer, part in [("emb.", "other"), *product("01", ("attention", "other"))]:
                count = int(generator.integers(1, 9))
                rows.append((seed, "entries", target, "", layer, part, count))
        rows.append((seed, "cosine", "lang-ace", "task-mood", "", "", 0.5))
    return rows


def rows_of(system: str, measure: str) -> pd.DataFrame:
    frame = pd.DataFrame(measured(system), columns=MEASURED)
    return frame[frame["measure"] == measure]


def save_diagnostics(folder: Path, system: str, like: str | None = None) -> Path:
    out = folder / "diagnostics" / system / "mood.csv"
    out.parent.mkdir(parents=True)
    frame = pd.DataFrame(measured(like or system), columns=MEASURED)
    frame.assign(system=system, task="mood").to_csv(out, index=False)
    return out


def save_coverage(folder: Path) -> Path:
    splits = [("moods", "test", 0), ("moods", "valid", 5), ("x", "test", 7)]
    rows = [
        (language, dataset, split, pieces + wrong)
        for (language, pieces), (dataset, split, wrong) in product(PIECES.items(), splits)
    ]
    out = folder / "coverage.csv"
    columns = ["language", "dataset", "split", "pieces_per_word"]
    pd.DataFrame(rows, columns=columns).to_csv(out, index=False)
    return out


def compared(**changes: object) -> dict[str, object]:
    """The comparison of the tables' tests, on the data set `moods`."""
    comparison = params(**changes).model_dump()
    comparison["tasks"]["mood"]["dataset"] = "moods"
    return comparison


def figure_params(**more: object) -> Params:
    given = {"sweeps": [SWEEP.model_dump()], "distances": DISTANCES, "zero_shot": "zero-shot"}
    return Params.model_validate({**compared(), **given, **more})


@pytest.fixture(scope="module")
def written(inputs, tmp_path_factory) -> Path:
    """The folder of a run of the stage."""
    folder = tmp_path_factory.mktemp("figures")
    figures(figure_params(), **inputs, out=folder / "transfer.svg")
    return folder


@pytest.fixture
def drawn(monkeypatch):
    """The stage without writing: runs it, and gives its figures by name."""

    def run(given: Params, **paths: object) -> dict[str, Figure]:
        found = {}
        monkeypatch.setattr(
            "deftx.stages.figures.run.save", lambda figure, path: found.update({path.stem: figure})
        )
        figures(given, **paths, out=Path("transfer.svg"))
        return found

    return run


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    return Comparison.model_validate(compared())


@pytest.fixture(scope="module")
def numbers(inputs, comparison):
    """Evaluations of the tables' tests: their scores, means, and differences to each system."""
    evaluations = load_evaluations(inputs["evaluated"], comparison)
    draws = draw(comparison, evaluations)
    gaps = {s: against(comparison.model_copy(update={"reference": s}), draws) for s in SYSTEMS}
    return draws, transfer(comparison, draws), gaps


@pytest.fixture(scope="module")
def diagnosed(inputs) -> pd.DataFrame:
    return over_seeds(load_diagnostics(inputs["diagnostics"]))


RULERS = [
    Ruler("distance", {"mood": DISTANCES}, joined=True),
    Ruler("pieces per word", {"mood": PIECES}, joined=False),
]

COSTS = {
    "zero-shot": {"seconds": 60.0, "stored_bytes": 4e9, "trained": None},
    "lt-sft": {"seconds": 7200.0, "stored_bytes": 5e9},
}


@pytest.fixture(scope="module")
def all_figures(comparison, numbers, diagnosed):
    draws, means, gaps = numbers
    return {
        "transfer": transfer_figure(comparison, means, draws, {"mood": 3}),
        "differences": difference_figure(comparison, gaps["lt-sft"]),
        "sweep": sweep_figure(comparison, means, [SWEEP]),
        "distance": distance_figure(comparison, means, gaps["zero-shot"], RULERS),
        "cost": cost_figure(comparison, means, COSTS),
        "overlap": overlap_figure(comparison, diagnosed),
    }


def panels(figure) -> dict[str, list]:
    """Title → its panels, in order."""
    found: dict[str, list] = {}
    for axes in figure.axes:
        if axes.get_visible():
            found.setdefault(axes.get_title(loc="left"), []).append(axes)
    return found


def points(axes, system: str) -> np.ndarray:
    """(n, 2): the positions of a system's markers."""
    look = looks(SYSTEMS)[system]
    drawn = [
        line.get_xydata()
        for line in axes.lines
        if (line.get_color(), line.get_marker()) == (look.colour, look.marker)
    ]
    return np.concatenate([np.empty((0, 2)), *drawn])


def test_all_declared_files_are_written_undated_and_their_bytes_repeat(inputs, written, tmp_path):
    figures(figure_params(), **inputs, out=tmp_path / "transfer.svg")
    for folder in (written, tmp_path):
        assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    for name in FILES:
        content = (written / name).read_bytes()
        assert (tmp_path / name).read_bytes() == content
        assert b"<dc:date>" not in content
        assert not name.endswith("png") or Image.open(written / name).text == {}


@pytest.mark.parametrize("absent", [{}, {"masks": [], "denoised": [], "diagnostics": []}])
def test_a_figure_without_data_says_so_in_words(inputs, drawn, comparison, numbers, absent):
    needed = {name: inputs[name] for name in ("base", "evaluated")}
    found = drawn(Params.model_validate(compared()), **needed, **absent)
    assert found.keys() == set(NAMES)
    single = [mean for mean in numbers[1] if mean.language != MEAN]
    ruler = Ruler("distance", {"mood": {"ace": 1.0}}, joined=True)  # one language makes no curve
    empty = [
        *(found[name] for name in set(NAMES) - {"transfer", "differences"}),
        difference_figure(comparison, []),
        sweep_figure(comparison, single, [SWEEP]),
        cost_figure(comparison, numbers[1], {}),
        cost_figure(comparison, single, COSTS),
        distance_figure(comparison, numbers[1], [], [ruler]),
    ]
    for figure in empty:
        assert re.match(r"No \w+: ", figure.texts[0].get_text())


@pytest.mark.parametrize(
    "wrong",
    [{"zero_shot": "mad-x"}, {"sweeps": [{"name": "rank", "label": "", "points": [(1, "mad-x")]}]}],
)
def test_a_system_that_is_not_compared_is_refused(wrong):
    with pytest.raises(ValidationError, match="no system 'mad-x', there are zero-shot, lt-sft"):
        figure_params(**wrong)


@pytest.mark.parametrize(("name", "column"), [("diagnostics", "part"), ("coverage", "split")])
def test_csv_without_a_column_is_refused(inputs, tmp_path, name, column):
    path = inputs[name][0] if name == "diagnostics" else inputs[name]
    less = tmp_path / "less.csv"
    pd.read_csv(path).drop(columns=column).to_csv(less, index=False)
    given = {**inputs, name: [less] if name == "diagnostics" else less}
    with pytest.raises(ArtefactError, match=f"no column {column}"):
        figures(figure_params(), **given, out=tmp_path / "transfer.svg")


def test_mask_for_another_base_is_refused(inputs, tmp_path):
    alien = save_mask(tmp_path, "lt-sft", "lang-ace", {**BASE, "hash": "1" * 64})
    with pytest.raises(ArtefactError, match="made for base"):
        figures(figure_params(), **{**inputs, "masks": [alien]}, out=tmp_path / "transfer.svg")


def test_tokens_per_word_are_those_of_the_evaluated_items(inputs, drawn, monkeypatch):
    seen: list[Ruler] = []
    monkeypatch.setattr(
        "deftx.stages.figures.run.distance_figure", lambda *given: seen.extend(given[-1])
    )
    drawn(figure_params(), **inputs)
    assert [ruler.values for ruler in seen] == [{"mood": DISTANCES}, {"mood": PIECES}]


def test_of_too_many_masks_the_first_of_each_kind_are_shown_and_all_counted(
    inputs, tmp_path, drawn
):
    targets = ["task-mood", *(f"lang-{key}" for key in LANGUAGES)]
    masks = [save_mask(tmp_path, method, t) for method, t in product(SYSTEMS, targets)]
    figure = drawn(figure_params(), **{**inputs, "masks": masks})["mask"]
    assert figure.get_supxlabel() == "6 of 15 masks are shown."
    expected = {f"{method}, {what}" for method in SYSTEMS for what in ("task mood", "eng")}
    assert panels(figure).keys() - {""} == expected


def test_mask_shares_are_counted_exactly():
    chosen = {
        "encoder.layer.0.output.dense.weight": [0, 5, 9],
        "encoder.layer.1.output.dense.bias": [3],
        "encoder.layer.1.attention.self.query.bias": [0, 1],
        "embeddings.word_embeddings.weight": list(range(10)),
    }
    index = {name: torch.tensor(positions) for name, positions in chosen.items()}
    shares = mask_shares(Mask(index, {name: SHAPES[name] for name in index}), SHAPES)
    assert {where: share for where, share in shares.items() if share} == {
        ("output", "0"): 3 / 16,
        ("biases", "1"): 3 / 12,
        ("word embeddings", "emb."): 10 / 40,
    }
    assert set(shares.index) == set(map(place, SHAPES))


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


def test_heat_map_leaves_blank_what_a_model_does_not_have():
    shares = pd.Series({("query", "0"): 0.5, ("word embeddings", "emb."): 0.0})
    shares = shares.rename_axis(["module", "layer"])
    values = mask_figure({"a": shares}, of=1).axes[0].images[0].get_array()
    assert np.array_equal(values, [[0, np.nan], [np.nan, 50]], equal_nan=True)


def test_spectrum_marks_the_cut_and_omits_zero_matrices():
    spectra = [
        ("query", np.array([8.0, 4.0, 2.0, 1.0]), 2),
        ("key", np.zeros(4), 0),
        ("value", np.array([3.0, 0.0]), 2),
    ]
    axes = spectrum_figure({"a": spectra}, of=1).axes[0]
    cuts = [line.get_xydata().tolist() for line in axes.lines if line.get_marker() == "|"]
    assert cuts == [[[2.0, 0.5]], [[1.0, 1.0]]]
    assert axes.lines[0].get_ydata().tolist() == [1, 0.5]
    assert axes.lines[1].get_ydata().tolist() == [0.5, 0.25, 0.125]


def test_a_system_looks_the_same_in_every_figure(all_figures, comparison, diagnosed):
    known = {(look.colour, look.marker) for look in looks(SYSTEMS).values()}
    for name, figure in all_figures.items():
        assert figure.get_figwidth() == WIDTH
        axes = [axes for axes in figure.axes if axes.get_visible()]
        legends = [*figure.legends, *(a.get_legend() for a in axes if a.get_legend())]
        handles = [handle for legend in legends for handle in legend.legend_handles]
        drawn = {
            (line.get_color(), line.get_marker())
            for line in [*(line for a in axes for line in a.lines), *handles]
            if line.get_marker() in MARKERS
        }
        assert drawn <= known, name
        assert len(drawn) >= 2, name
    for system, each in panels(layers_figure(comparison, diagnosed)).items():
        colour = looks(SYSTEMS)[system].colour
        for axes in each:
            colours = {to_hex(bar.get_facecolor()) for bar in axes.patches}
            assert colours == {colour, to_hex(faded(colour))}


def test_ten_systems_differ_in_colour_and_seventy_in_look():
    systems = [str(number) for number in range(70)]
    found = looks(systems)
    assert len({look.colour for look in list(found.values())[:10]}) == len(COLOURS) == 10
    assert len({(look.colour, look.marker) for look in found.values()}) == 70
    assert list(looks(systems[:9]).items()) == list(found.items())[:9]


def test_transfer_draws_every_mean_and_every_seed(all_figures, numbers, inputs, comparison):
    means = numbers[1]
    drawn = panels(all_figures["transfer"])
    titles = ["eng (source)", "Acehnese", "ban", "Nahuatl †", MEAN]
    assert list(drawn) == titles
    for column, title in zip(comparison.columns("mood"), titles, strict=True):
        (axes,) = drawn[title]
        mine = {mean.system: mean for mean in means if mean.language == column}
        languages = ["ace", "ban"] if column == MEAN else [column]
        single = [
            e for e in load_evaluations(inputs["evaluated"], comparison) if e.language in languages
        ]
        for y, system in enumerate(SYSTEMS):
            bar, dots = axes.collections[2 * y : 2 * y + 2]
            assert points(axes, system).tolist() == [[100 * mine[system].mean, y]]
            low, high = bar.get_segments()[0][:, 0]
            assert [low, high] == [100 * mine[system].low, 100 * mine[system].high]
            by_seed = [
                np.mean(
                    [e.metrics.macro_f1 for e in single if (e.system, e.seed) == (system, seed)]
                )
                for seed in (0, 1)
            ]
            here = np.asarray(dots.get_offsets()[:, 0])
            assert here == pytest.approx(100 * np.array(by_seed))
            assert here.mean() == pytest.approx(100 * mine[system].mean)
        (chance,) = [line for line in axes.lines if line.get_linestyle() == "--"]
        assert chance.get_xdata()[0] == 100 / 3
        assert (axes._left_title.get_fontweight() == "bold") == (column == MEAN)


def test_marks_are_hollow_exactly_where_differences_are_not_significant(comparison, numbers):
    noisy = {("zero-shot", "ace"), ("deft-x", MEAN)}
    gaps = [
        gap._replace(difference=0.05, significant=(gap.system, gap.language) not in noisy)
        for gap in numbers[2]["lt-sft"]
    ]
    drawn = panels(difference_figure(comparison, gaps))
    names = [label.get_text() for label in drawn["eng (source)"][0].get_yticklabels()]
    assert names == ["zero-shot", "deft-x"]
    for column, (axes,) in zip(comparison.columns("mood"), drawn.values(), strict=True):
        for system in ("zero-shot", "deft-x"):
            colour = looks(SYSTEMS)[system].colour
            (line,) = [line for line in axes.lines if line.get_color() == colour]
            assert line.get_xdata() == pytest.approx([5])
            assert line.get_markerfacecolor() == ("white" if (system, column) in noisy else colour)


def test_a_difference_turned_round_is_its_negative(numbers):
    _, _, gaps = numbers
    there = {gap.language: gap for gap in gaps["zero-shot"] if gap.system == "deft-x"}
    back = {gap.language: gap for gap in gaps["deft-x"] if gap.system == "zero-shot"}
    assert there.keys() == back.keys() == {*LANGUAGES, MEAN}
    for language, gap in there.items():
        turned = back[language]
        assert (turned.difference, turned.low, turned.high) == pytest.approx(
            (-gap.difference, -gap.high, -gap.low)
        )


def test_sweep_draws_the_means_in_the_order_of_the_values_beside_the_band(all_figures, numbers):
    mean = {m.system: m for m in numbers[1] if m.language == MEAN}
    (axes,) = panels(all_figures["sweep"])["rank"]
    assert points(axes, "deft-x").tolist() == [[1, 100 * mean["deft-x"].mean]]
    assert points(axes, "lt-sft").tolist() == [[0, 100 * mean["lt-sft"].mean]]
    band = axes.patches[0].get_bbox()
    assert (band.y0, band.y1) == pytest.approx(
        (100 * mean["lt-sft"].low, 100 * mean["lt-sft"].high)
    )
    assert [label.get_text() for label in axes.get_xticklabels()] == ["4", "100"]


def test_distance_draws_scores_and_gains_at_the_places_of_the_languages(all_figures, numbers):
    _, means, gaps = numbers
    score = {(m.system, m.language): 100 * m.mean for m in means}
    gain = {(g.system, g.language): 100 * g.difference for g in gaps["zero-shot"]}
    drawn = panels(all_figures["distance"])
    scored, fitted = drawn["macro-F1 (%)"]
    gained, _ = drawn["gain over zero-shot (points)"]
    for axes, number, languages, places in (
        (scored, score, ["eng", "ace", "ban"], DISTANCES),
        (gained, gain, ["eng", "ace", "ban"], DISTANCES),
        (fitted, score, ["ace", "ban"], PIECES),
    ):
        for system in SYSTEMS[1:]:
            x, y = points(axes, system).T
            assert y.tolist() == pytest.approx([number[system, k] for k in languages])
            span = places[languages[-1]] - places[languages[0]]
            assert x.tolist() == pytest.approx([places[k] for k in languages], abs=0.05 * span)
    assert not len(points(gained, "zero-shot"))
    labels = [part.get_supxlabel() for part in all_figures["distance"].subfigs]
    assert labels == [
        "distance\neng 0, Acehnese 0.3, ban 0.9",
        "pieces per word\nAcehnese 1.9, ban 2.3",
    ]


def test_without_a_zero_shot_system_only_scores_are_drawn(comparison, numbers):
    assert list(panels(distance_figure(comparison, numbers[1], [], RULERS[:1]))) == ["macro-F1 (%)"]


def test_curves_join_the_means_of_languages_at_one_place(comparison, numbers):
    tied = Ruler("distance", {"mood": {"eng": 0.0, "ace": 1.0, "ban": 1.0}}, joined=True)
    figure = distance_figure(comparison, numbers[1], [], [tied])
    score = {m.language: 100 * m.mean for m in numbers[1] if m.system == "lt-sft"}
    look = (looks(SYSTEMS)["lt-sft"].colour, "None")
    (curve,) = [
        line for line in figure.axes[0].lines if (line.get_color(), line.get_marker()) == look
    ]
    expected = [score["eng"], (score["ace"] + score["ban"]) / 2]
    assert curve.get_ydata().tolist() == pytest.approx(expected)


def test_overlap_draws_the_mean_over_seeds_of_each_language(all_figures):
    (axes,) = panels(all_figures["overlap"])[""][:1]
    assert [t.get_text() for t in axes.get_yticklabels()] == ["Acehnese", "ban", "eng"]
    for system in ("lt-sft", "deft-x"):
        frame = rows_of(system, "overlap").query("b == 'task-mood'")
        expected = 100 * frame.groupby("a", sort=False)["value"].mean()
        x, y = points(axes, system).T
        assert y.tolist() == [0, 1, 2]
        assert x == pytest.approx(expected.to_numpy())


def test_overlap_of_languages_fills_the_lower_half(all_figures):
    (axes,) = panels(all_figures["overlap"])["deft-x"]
    value = 100 * rows_of("deft-x", "overlap").groupby(["a", "b"])["value"].mean()
    expected = [
        [value["lang-ace", "lang-ban"], np.nan],
        [value["lang-ace", "lang-eng"], value["lang-ban", "lang-eng"]],
    ]
    assert np.ma.filled(axes.images[0].get_array(), np.nan) == pytest.approx(
        np.array(expected), nan_ok=True
    )


def test_layers_are_the_shares_of_selected_entries_and_add_up(comparison, diagnosed):
    figure = layers_figure(comparison, diagnosed)
    parts = {part._suptitle.get_text(): part for part in figure.subfigs}
    for title, targets in (
        ("language vectors", ["lang-ace", "lang-ban", "lang-eng"]),
        ("vectors of the task mood", ["task-mood"]),
    ):
        (axes,) = panels(parts[title])["deft-x"]
        frame = rows_of("deft-x", "entries")
        frame = frame[frame["a"].isin(targets)]
        whole = frame.groupby("a")["value"].sum()
        expected = []
        for part, layer in product(("attention", "other"), ("emb.", "0", "1")):
            mine = frame[(frame["layer"] == layer) & (frame["part"] == part)]
            shares = mine.groupby("a")["value"].sum().reindex(whole.index, fill_value=0) / whole
            expected.append(100 * shares.mean())
        heights = [bar.get_height() for bar in axes.patches]
        assert heights == pytest.approx(expected)
        assert sum(heights) == pytest.approx(100)


def test_a_language_of_two_tasks_counts_once(comparison, diagnosed):
    twice = pd.concat([diagnosed, diagnosed.assign(task="other")], ignore_index=True)
    once, again = (
        [bar.get_height() for axes in layers_figure(comparison, frame).axes for bar in axes.patches]
        for frame in (diagnosed, twice)
    )
    assert once == pytest.approx(again)


@pytest.mark.parametrize("draw_figure", [overlap_figure, layers_figure])
def test_vectors_that_systems_share_are_shown_once(comparison, tmp_path, draw_figure):
    """Here rand-sft has all vectors of deft-x, and the note names it."""
    systems = [*SYSTEMS, "rand-sft"]
    paths = [
        save_diagnostics(tmp_path, system, like="deft-x" if system == "rand-sft" else None)
        for system in systems
    ]
    figure = draw_figure(
        comparison.model_copy(update={"systems": systems}), over_seeds(load_diagnostics(paths))
    )
    assert {"lt-sft", "deft-x"} <= panels(figure).keys()
    assert "rand-sft" not in panels(figure)
    assert "shown once: deft-x = rand-sft." in figure.get_supxlabel().replace("\n", " ")


def test_a_bar_that_is_cut_off_has_its_value(comparison, diagnosed):
    lifted = diagnosed.copy()
    embeddings = (lifted["layer"] == "emb.") & (lifted["system"] == "deft-x")
    lifted.loc[embeddings, "value"] *= 1e6
    (axes, _) = panels(layers_figure(comparison, lifted))["deft-x"]
    top = axes.get_ylim()[1]
    assert [text.get_text() for text in axes.texts] == ["100"]
    assert max(bar.get_height() for bar in axes.patches) > top


def test_costs_are_drawn_in_readable_units_and_gaps_are_named(all_figures, numbers):
    mean = {m.system: 100 * m.mean for m in numbers[1] if m.language == MEAN}
    seconds, stored = panels(all_figures["cost"])[""]
    assert (seconds.get_xlabel(), stored.get_xlabel()) == ("time (h)", "stored (GB)")
    assert (seconds.get_xscale(), stored.get_xscale()) == ("log", "linear")
    assert points(seconds, "lt-sft").tolist() == [[2, mean["lt-sft"]]]
    assert points(seconds, "zero-shot").tolist() == [[1 / 60, mean["zero-shot"]]]
    assert all(not len(points(axes, "deft-x")) for axes in (seconds, stored))
    assert "Without a known cost: deft-x." in all_figures["cost"].get_supxlabel()


def assert_apart(figure, boxes: list) -> None:
    """Boxes are inside the figure and do not overlap."""
    for box in boxes:
        assert figure.bbox.x0 <= box.x0 <= box.x1 <= figure.bbox.x1
        assert figure.bbox.y0 <= box.y0 <= box.y1 <= figure.bbox.y1
    for a, b in combinations(boxes, 2):
        across, down = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
        assert across <= 0.5 or down <= 0.5


def crowd(systems: int, languages: int) -> tuple[Comparison, list[Transfer]]:
    """Many systems whose scores lie close together."""
    keys = [f"l{number:02}" for number in range(languages)]
    comparison = Comparison.model_validate(
        {
            "systems": [f"some-system-of-mine-{number}" for number in range(systems)],
            "tasks": {"mood": {"metric": "accuracy", "source": "eng", "languages": keys}},
            "names": {key: f"A language {key}" for key in keys},
        }
    )
    means = [
        Transfer("mood", system, key, "accuracy", value, value - 0.01, value + 0.01, 1, None, True)
        for number, system in enumerate(comparison.systems)
        for key in [*keys, MEAN]
        for value in [0.5 + 0.001 * number]
    ]
    return comparison, means


@pytest.mark.parametrize("systems", [2, 28])
def test_legends_and_panels_are_inside_the_figure_and_apart(systems):
    comparison, means = crowd(systems, 22)
    costs = {s: {"seconds": 1.0, "peak_bytes": 1e9} for s in comparison.systems}
    places = {key: 1 + 0.001 * n**3 for n, key in enumerate(comparison.tasks["mood"].languages)}
    by_place = [Ruler("x", {"mood": places}, joined=False)]
    for figure in (
        cost_figure(comparison, means, costs),
        distance_figure(comparison, means, [], by_place),
    ):
        figure.draw_without_rendering()
        legends = [*figure.legends, *(a.get_legend() for a in figure.axes if a.get_legend())]
        names = [text.get_text() for legend in legends for text in legend.get_texts()]
        assert names == comparison.systems
        bodies = [axes.get_window_extent() for axes in figure.axes]
        assert min(body.height for body in bodies) > 100
        assert_apart(figure, [*(legend.get_window_extent() for legend in legends), *bodies])


@pytest.mark.parametrize(("systems", "languages"), [(1, 2), (28, 22)])
def test_titles_and_names_of_transfer_do_not_overlap(systems, languages):
    comparison, means = crowd(systems, languages)
    figure = transfer_figure(comparison, means, {}, {"mood": 2})
    figure.draw_without_rendering()
    every = [axes for axes in figure.axes if axes.get_visible()]
    names = [label for label in every[0].get_yticklabels() if label.get_visible()]
    texts = [*(axes._left_title for axes in every), *names]
    assert_apart(figure, [text.get_window_extent() for text in texts if text.get_text()])


def test_every_figure_has_a_caption_and_captions_need_no_other_module():
    assert reached("deftx.report.figures.captions") == {"deftx.report.figures.captions"}
    assert all(caption.endswith(".") for caption in CAPTIONS.values())
