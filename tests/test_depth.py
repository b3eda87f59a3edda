"""Laws of scales by depth: on vectors, in the stage `compose`, in the config and in the plan."""

import dataclasses
import json

import pytest
import torch
from tiny_config import with_change
from training import classifier

from deftx.core.mask import Mask
from deftx.core.parameters import backbone_parameters
from deftx.core.places import in_lower_part, lower_layers
from deftx.core.sparse_delta import SparseDelta
from deftx.plan.config import check_config
from deftx.plan.feasible import Uses, check_uses
from deftx.plan.plan import Plan
from deftx.stages.compose.apply import composed
from deftx.stages.compose.math import by_depth
from deftx.stages.compose.run import Params, compose
from deftx.stages.compose.settings import Depth
from deftx.stages.table import path_of
from deftx.store.errors import ConfigError, InputError
from deftx.store.tensors import TensorFile, save_tensors

EMBEDDINGS, ABOVE = "embeddings.word_embeddings.weight", "final_norm.weight"


def names(layers):
    """A parameter of the embeddings, of each layer, and of what comes after the layers."""
    return [EMBEDDINGS, *(f"encoder.layer.{n}.output.weight" for n in range(layers)), ABOVE]


def scales(layers, **depth):
    of = Depth(**depth).scales(names(layers))
    return [of(name) for name in names(layers)]


@pytest.mark.parametrize(
    ("share", "layers", "lower"),
    [
        (0.5, 2, 1), (0.5, 8, 4), (0.5, 12, 6), (0.5, 24, 12),
        (0.5, 3, 1), (0.5, 9, 4), (0.5, 13, 6),  # the middle layer is not in the lower half
        (0.333, 12, 4), (0.25, 6, 1), (0.4, 8, 3), (0.1, 12, 1), (0, 8, 0), (1, 8, 8),
    ],
)  # fmt: skip
def test_the_lower_layers_are_the_nearest_whole_number_of_two_the_smaller(share, layers, lower):
    assert lower_layers(share, layers) == lower
    expected = [1.0] + [1.0] * lower + [0.0] * (layers - lower) + [float(share == 1)]
    assert scales(layers, share=share) == expected
    known_as = {f"own.{name}": name for name in names(layers)}
    kept = [f"own.{name}" in in_lower_part(known_as, share) for name in names(layers)]
    assert kept == [*map(bool, expected[:-1]), False]


@pytest.mark.parametrize(
    ("depth", "expected"),
    [
        ({"share": 0.5, "embeddings": 0.25}, [0.25, 1, 1, 0, 0, 0]),
        ({"share": 0.5, "lower": 0.5, "upper": 2}, [0.5, 0.5, 0.5, 2, 2, 2]),
        ({"share": 0.25, "upper": -1, "above": 3}, [1, 1, -1, -1, -1, 3]),
        ({"share": 0, "upper": 0.5, "embeddings": 0}, [0, 0.5, 0.5, 0.5, 0.5, 0.5]),
        ({"share": 1, "embeddings": 0, "above": 0}, [0, 1, 1, 1, 1, 0]),
    ],
)
def test_each_part_has_a_scale_of_its_own(depth, expected):
    assert scales(4, **depth) == expected


@pytest.mark.parametrize("layers", [2, 8, 12])
@pytest.mark.parametrize(("alpha", "beta"), [(0.2, 0.8), (1, -1), (0.5, 0)])
def test_a_slope_is_the_line_of_lines(layers, alpha, beta):
    """λ of layer l, from 1: α + β (l - 1) / (L - 1)."""
    line = [alpha + beta * (layer - 1) / (layers - 1) for layer in range(1, layers + 1)]
    slope = {"alpha": alpha, "beta": beta}
    assert scales(layers, slope=slope) == [alpha, *line, line[-1]]
    assert scales(layers, slope=slope, embeddings=3, above=4) == [3, *line, 4]


def dense_of(layers=4, only=()):
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.randn(6, 3, generator=generator) for name in only or [*names(layers), "lone"]
    }


KNOWN = {name: name for name in [*names(4), "lone"]}
DEPTHS = [
    {"share": 0.5}, {"share": 0.25, "embeddings": 0, "lower": 0.3, "upper": 0.7, "above": 2},
    {"slope": {"alpha": 1, "beta": -1}}, {"slope": {"alpha": 0.2, "beta": 0.8}, "above": 0},
]  # fmt: skip


def sparse_of(dense):
    index = {name: torch.arange(n + 1) * 2 for n, name in enumerate(dense)}
    mask = Mask(index, {name: tuple(tensor.shape) for name, tensor in dense.items()})
    return SparseDelta.from_dense(dense, mask, {"classifier.weight": torch.ones(2)})


@pytest.mark.parametrize("depth", DEPTHS)
def test_a_vector_is_scaled_tensor_by_tensor_and_loses_what_has_the_scale_0(depth):
    dense = dense_of()
    of = Depth(**depth).scales(KNOWN.values())
    expected = {name: tensor * of(name) for name, tensor in dense.items() if of(name)}
    found = by_depth(dense, Depth(**depth), KNOWN)
    assert found.keys() == expected.keys() and len(found) < len(dense)
    assert all(torch.equal(found[name], expected[name]) for name in found)
    vector = sparse_of(dense)
    sparse = by_depth(vector, Depth(**depth), KNOWN)
    assert sparse.mask.index.keys() == sparse.mask.shapes.keys() == expected.keys()
    assert len(sparse) == sum(len(vector.mask.index[name]) for name in expected) < len(vector)
    for name in expected:
        assert torch.equal(sparse.mask.index[name], vector.mask.index[name])
        assert torch.equal(sparse.values[name], vector.values[name] * of(name))
    assert sparse.head == vector.head


@pytest.mark.parametrize(
    "depth", [{"share": 1}, {"slope": {"alpha": 1, "beta": 0}}, {"share": 0.5, "upper": 1}]
)
def test_scales_of_1_change_no_bit(depth):
    dense = dense_of()
    found = by_depth(dense, Depth(**depth), KNOWN)
    assert all(torch.equal(found[name], tensor) for name, tensor in dense.items())
    vector = sparse_of(dense)
    same = by_depth(vector, Depth(**depth), KNOWN)
    assert all(torch.equal(same.values[n], values) for n, values in vector.values.items())
    assert by_depth(vector, None, KNOWN) is vector


def test_lower_and_upper_part_sum_to_the_vector():
    vector = SparseDelta(sparse_of(dense_of()).mask, sparse_of(dense_of()).values)
    lower = by_depth(vector, Depth(share=0.5), KNOWN)
    upper = by_depth(vector, Depth(share=0.5, lower=0, upper=1), KNOWN)
    assert len(lower) + len(upper) == len(vector)
    both = lower + upper
    assert all(torch.equal(both.values[name], values) for name, values in vector.values.items())


def test_parts_are_known_by_what_the_base_knows_them_as():
    known_as = {"embed.weight": EMBEDDINGS, "layers.0.w": names(2)[1], "layers.1.w": names(2)[2]}
    found = by_depth({name: torch.ones(2) for name in known_as}, Depth(share=0.5), known_as)
    assert set(found) == {"embed.weight", "layers.0.w"}


def test_a_vector_of_which_nothing_is_left_is_an_error():
    with pytest.raises(InputError, match="the scale of all 1 tensors of the vector is 0"):
        by_depth(dense_of(only=[names(4)[3]]), Depth(share=0.5), KNOWN)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({}, "give exactly one of share, slope; given: none"),
        ({"share": 0.5, "slope": {"alpha": 1, "beta": 0}}, "given: share, slope"),
        ({"share": 1.5}, r"less than or equal to 1"),
        ({"share": -0.1}, "greater than or equal to 0"),
        ({"share": 0.5, "lower": float("nan")}, "finite"),
        ({"slope": {"alpha": 1}}, "beta"),
        ({"slope": {"alpha": 1, "beta": 1}, "upper": 1}, "no effect with slope"),
        ({"share": 1, "upper": 0.5}, "upper has no effect with share: 1"),
        ({"share": 0.5, "lower": 0}, "every scale is 0"),
        ({"share": 0, "embeddings": 0}, "every scale is 0"),
        ({"slope": {"alpha": 0, "beta": 0}}, "every scale is 0"),
    ],
)
def test_settings_without_a_meaning_are_refused(bad, message):
    with pytest.raises(ValueError, match=message):
        Depth(**bad)


# In the stage


def written(base, folder, kind, stage="sparse"):
    """A vector's file with entries in every tensor of the base, and its dense difference."""
    generator = torch.Generator().manual_seed(len(kind))
    shapes = base.maskable
    dense = {n: 0.1 * torch.randn(shape, generator=generator) for n, shape in shapes.items()}
    path = folder / f"{kind}.safetensors"
    head = {}
    if kind == "task":
        weights = dict(classifier(base).named_parameters())
        head = {n: t.detach() for n, t in weights.items() if n.startswith("classifier.")}
    facts = {"stage": stage, "base": base.identity, "seed": 0, "outcome": {"trained": 7}}
    if stage == "sparse":
        index = {n: torch.arange(0, dense[n].numel(), 3) for n in sorted(shapes)}
        vector = SparseDelta.from_dense(dense, Mask(index, shapes), head)
        vector.save(path, **facts)
        return path, {name: vector.dense()[name] for name in vector.dense()}
    save_tensors(path, {**dense, **{f"head.{n}": t for n, t in head.items()}}, **facts)
    return path, dense


@pytest.mark.parametrize("stage", ["sparse", "gated"])
@pytest.mark.parametrize(
    ("task_depth", "language_depth"),
    [(None, {"share": 0.5}), ({"slope": {"alpha": 0.5, "beta": 0.5}}, {"share": 0, "upper": 0.5})],
)
def test_compose_scales_either_side_of_any_vector(
    base, tmp_path, stage, task_depth, language_depth
):
    files = {kind: written(base, tmp_path, kind, stage) for kind in ("task", "language")}
    given = {"task_depth": task_depth, "language_depth": language_depth}
    paths = [path for path, _ in files.values()]
    params = Params(system="s", task="t", language="qta", task_scale=2, **given)
    out = tmp_path / "out.safetensors"
    compose(params, base=base.folder, task_vector=paths[0], language_vector=paths[1], out=out)
    file = TensorFile(out)
    assert file.provenance["trained"]["task"] == file.provenance["trained"]["language"] == 7
    assert file.provenance["params"]["language_depth"]["share"] == language_depth["share"]
    assert ("task_depth" in file.provenance["params"]) == (task_depth is not None)
    plain = {n: w.detach().clone() for n, w in backbone_parameters(classifier(base)).items()}
    for kind, scale in (("task", 2.0), ("language", 1.0)):
        depth = given[f"{kind}_depth"]
        of = Depth(**depth).scales(base.known_as.values()) if depth else lambda name: 1.0
        for name, tensor in files[kind][1].items():
            plain[name] += scale * of(base.known_as[name]) * tensor
    if stage == "sparse":
        found = SparseDelta.read(file)
        assert len(found) == file.provenance["k"] and found.head
    recipe = [] if stage == "sparse" else paths
    with composed(classifier(base), file, base, vectors=recipe) as model:
        for name, weight in backbone_parameters(model).items():
            torch.testing.assert_close(weight.detach(), plain[name], rtol=1e-6, atol=1e-7)


def test_compose_without_a_depth_writes_what_it_wrote_before(base, tmp_path):
    path, _ = written(base, tmp_path, "task")
    out = tmp_path / "out.safetensors"
    compose(
        Params(system="s", task="t", language="qta"), base=base.folder, task_vector=path, out=out
    )
    params = TensorFile(out).provenance["params"]
    assert not {"task_depth", "language_depth"} & params.keys()


# In the config and the plan


def low(raw, **depth):
    raw["systems"]["low"] = {"task": "lt-sft", "language_depth": depth or {"share": 0.5}}


@pytest.mark.parametrize(
    ("system", "message"),
    [
        (
            {"language_depth": {"shar": 0.5}},
            r"systems\.low\.language_depth\.shar: unknown key; .*shar",
        ),
        ({"language_depth": {"share": 2}}, r"low\.language_depth\.share: .*\(given: 2\)"),
        ({"language_depth": {"share": 0.5, "lower": 0}}, r"low\.language_depth: every scale is 0"),
        ({"depth": {"share": 0.5}}, r"low\.depth: unknown key; did you mean"),
        (
            {"language": "none", "language_depth": {"share": 0.5}},
            r"systems\.low\.language_depth: needs a method for the language vectors",
        ),
        ({"task": "mad-x", "task_depth": {"share": 0.5}}, r"low: task_depth has no effect on ad"),
    ],
)
def test_what_is_wrong_is_named_with_its_key(system, message):
    def change(raw):
        raw["methods"]["mad-x"] = {"adapter": {}}
        raw["languages"]["qaa"] = {"text": "text"}
        raw["systems"]["low"] = {"task": "lt-sft", **system}

    with pytest.raises(ConfigError, match=message):
        check_config(with_change(change))


def uses(change):
    return Uses.of(Plan(check_config(with_change(change))))


@pytest.mark.parametrize(
    ("depth", "message"),
    [
        ({"share": 0.1}, r"language_depth: the share 0\.1 of 2 layers is 0\.2, so none of them"),
        ({"share": 0.9}, r"language_depth: the share 0\.9 of 2 layers is 1\.8, so all of them"),
        ({"share": 0, "embeddings": 0, "above": 1}, "scale of all that lt-sft changes is 0"),
    ],
)
def test_what_cannot_work_on_a_base_is_known_before_anything_trains(base, depth, message):
    check_uses(base, uses(low))
    with pytest.raises(InputError, match=rf"systems\.low\..*{message}"):
        check_uses(base, uses(lambda raw: low(raw, **depth)))


def test_layers_that_share_weights_are_refused_and_a_slope_over_one(base):
    shared = dataclasses.replace(base, depth=12)
    with pytest.raises(InputError, match="the base's 12 layers share the weights of 2"):
        check_uses(shared, uses(low))
    one_layer = {n: known.replace("layer.1.", "layer.0.") for n, known in base.known_as.items()}
    single = dataclasses.replace(base, known_as=one_layer, depth=1)
    slope = {"slope": {"alpha": 1, "beta": -1}}
    with pytest.raises(InputError, match=r"language_depth: slope: needs at least 2 layers"):
        check_uses(single, uses(lambda raw: low(raw, **slope)))


def test_a_depth_adds_its_own_compositions_and_changes_nothing_else():
    def state(change):
        plan = Plan(check_config(with_change(change)))
        return {path_of(a): json.dumps(plan.params(a), sort_keys=True) for a in plan.artefacts}

    before, after = state(lambda raw: None), state(low)
    new = {path for path in after if before.get(path) != after[path]}
    made = {path.split("/")[0] for path in new if "/low/" in path}
    assert made == {"compose", "evaluate", "diagnostics"}
    assert not [p for p in new if p.startswith(("full", "mask", "sparse", "base"))]
    composed = [path for path in after if path.startswith("compose")]
    assert {path for path in composed if "depth" in after[path]} == {
        path for path in composed if "/low/" in path
    }


def test_a_depth_is_written_out_as_it_was_given():
    config = check_config(with_change(low))
    assert config.systems["low"].model_dump()["language_depth"]["share"] == 0.5
    assert "language_depth" not in config.systems["lt-sft"].model_dump()
    assert type(config).model_validate_json(config.model_dump_json()) == config
    assert Depth(share=0.5, upper=0.25).words == "share 0.5, upper 0.25"
    assert Depth(slope={"alpha": 1, "beta": -1}).words == "alpha 1, beta -1"
