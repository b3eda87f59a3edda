"""Laws of `keep_lower`: K entries in the lower layers; those of the upper ones are discarded."""

import dataclasses
import json

import pytest
import torch
from test_selection import as_lists, plain_top_k
from tiny_config import with_change
from training import CLASSES, TASK, items, write_data

from deftx.core.mask import load_mask
from deftx.core.places import in_lower_part
from deftx.core.sparse_delta import SparseDelta
from deftx.plan.config import check_config
from deftx.plan.feasible import Uses, check_uses
from deftx.plan.plan import Plan
from deftx.stages.full import run as full_stage
from deftx.stages.mask import run as mask_stage
from deftx.stages.mask.math import choose
from deftx.stages.mask.settings import Selection
from deftx.stages.sparse import run as sparse_stage
from deftx.stages.table import path_of
from deftx.store.errors import ConfigError, InputError
from deftx.store.tensors import TensorFile

LOWER = ["embeddings.w", "encoder.layer.0.w", "encoder.layer.1.w"]
UPPER = ["encoder.layer.2.w", "encoder.layer.3.w", "norm.w"]
KNOWN = {f"own.{name}": name for name in [*LOWER, *UPPER]}


def difference(seed):
    """Larger in the upper part, with ties."""
    generator = torch.Generator().manual_seed(seed)
    return {
        own: (torch.randn(5, 4, generator=generator) * (3 if name in UPPER else 1)).round()
        for own, name in KNOWN.items()
    }


@pytest.mark.parametrize("k", [1, 7, 20])
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("score", ["magnitude", "random"])
def test_k_entries_are_kept_and_what_the_method_chooses_elsewhere_trains_too(k, seed, score):
    delta = difference(seed)
    shapes = {name: tuple(tensor.shape) for name, tensor in delta.items()}

    def chosen(shapes, scores, **rule):
        given = {"scores": scores if score == "magnitude" else None, "seed": seed}
        rule = Selection(score=score, budget=k, **rule)
        return as_lists(choose(rule, shapes, k, total=k, known_as=KNOWN, **given))

    plain, found = chosen(shapes, delta), chosen(shapes, delta, keep_lower=0.5)
    lower = {own: tensor for own, tensor in delta.items() if KNOWN[own] in LOWER}
    kept = {own: places for own, places in found.items() if own in lower}
    assert sum(map(len, kept.values())) == k
    assert kept == chosen({own: shapes[own] for own in lower}, lower)
    if score == "magnitude":
        assert kept == plain_top_k(lower, k) and plain == plain_top_k(delta, k)
    rest = {own: places for own, places in plain.items() if own not in lower}
    assert {own: places for own, places in found.items() if own not in lower} == rest
    # So all that trains without the setting trains with it.
    assert all(set(places) <= set(found[own]) for own, places in plain.items())


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    return {
        split: write_data(folder, items(40, seed), split) / f"{split}.parquet"
        for split, seed in (("train", 1), ("valid", 2))
    }


def test_the_vector_has_the_kept_entries_of_a_training_of_all(base, data, tmp_path):
    """The same mask, with and without discarding: the same training, of which a part is stored."""
    facts = {"target": "task-x", "classes": CLASSES, "task": TASK}
    given = {"base": base.folder, **data}
    full_stage.full(full_stage.Params(**facts), **given, out=tmp_path / "full.safetensors")
    rule, mask = {"budget": 300, "keep_lower": 0.5}, tmp_path / "mask.safetensors"
    mask_stage.mask(
        mask_stage.Params(method="m", target="task-x", selection=rule),
        base=base.folder, delta=tmp_path / "full.safetensors", out=mask,
    )  # fmt: skip
    vectors = {}
    for name, setting in (("kept", {"keep_lower": 0.5}), ("all", {})):
        out = tmp_path / name / "sft_model.safetensors"
        params = sparse_stage.Params(**facts, method="m", **setting)
        sparse_stage.sparse(params, **given, mask=mask, out=out)
        vectors[name] = SparseDelta.load(out)
    kept, every = vectors["kept"], vectors["all"]
    lower = in_lower_part(base.known_as, 0.5)
    chosen = load_mask(TensorFile(mask))
    assert len(kept) == kept.provenance["k"] == 300 < len(every) == len(chosen)
    assert kept.provenance["outcome"]["trained"] == len(chosen)
    assert kept.mask.index.keys() == every.mask.index.keys() & lower < every.mask.index.keys()
    for name, values in kept.values.items():
        assert torch.equal(kept.mask.index[name], every.mask.index[name])
        assert torch.equal(values, every.values[name])
    assert all(torch.equal(kept.head[name], tensor) for name, tensor in every.head.items())
    assert any(bool(every.values[name].any()) for name in every.values if name not in lower)
    assert "keep_lower" not in every.provenance["params"]


# In the config and the plan


def low(raw, **settings):
    raw["methods"]["low"] = {"denoise": {"rank": 4}, "keep_lower": 0.5, **settings}
    raw["systems"]["low"] = {"task": "deft-x", "language": "low"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"keep_lower": 1}, r"methods\.low\.keep_lower: .*less than 1.*\(given: 1\)"),
        ({"keep_lower": -0.1}, r"methods\.low\.keep_lower: .*greater than or equal to 0"),
        ({"keep_lowr": 0.5}, r"low\.keep_lowr: unknown key; did you mean keep_lower"),
        ({"rounds": 2}, "keep_lower goes neither with shares nor with rounds"),
        ({"shares": {".": 1.0}}, "keep_lower goes neither with shares nor with rounds"),
        ({"retrain": False}, "keep_lower needs a score and retrain: true"),
        ({"denoise": None, "score": "none"}, "keep_lower needs a score and retrain: true"),
        ({"denoise": None, "lora": {}}, "low.keep_lower has no effect on a method with lora"),
    ],
)
def test_what_is_wrong_is_named_with_its_key(settings, message):
    with pytest.raises(ConfigError, match=message):
        check_config(with_change(lambda raw: low(raw, **settings)))


def test_no_shares_are_counted_in_entries_that_are_discarded():
    def change(raw):
        low(raw)
        raw["methods"]["counts"] = {"shares": {"observed": "low"}}

    with pytest.raises(ConfigError, match=r"observed: low chooses entries that it discards"):
        check_config(with_change(change))


def uses(**settings):
    return Uses.of(Plan(check_config(with_change(lambda raw: low(raw, **settings)))))


def test_what_cannot_work_on_a_base_is_known_before_anything_trains(base):
    check_uses(base, uses())
    for settings, message in (
        ({"keep_lower": 0.1}, r"keep_lower: the share 0\.1 of 2 layers is 0\.2, so none of them"),
        (
            {"budget": 0.9},
            r"budget: K is \d+ .* at most the \d+ entries that may be chosen and kept",
        ),
        ({"keep_lower": 0, "choose_from": r"^encoder\."}, "at most the 0 entries"),
    ):
        with pytest.raises(
            InputError, match=rf"methods\.low \(for a language\): {message}|{message}"
        ):
            check_uses(base, uses(**settings))
    shared = dataclasses.replace(base, depth=12)
    with pytest.raises(InputError, match="keep_lower: the base's 12 layers share the weights of 2"):
        check_uses(shared, uses())


def test_only_mask_and_sparse_and_what_follows_are_made_for_it():
    def state(change):
        plan = Plan(check_config(with_change(change)))
        return {path_of(a): json.dumps(plan.params(a), sort_keys=True) for a in plan.artefacts}

    def same_method(raw):
        low(raw)
        del raw["methods"]["low"]["keep_lower"]

    before, after, without = state(lambda raw: None), state(low), state(same_method)
    new = {p for p in after if before.get(p) != after[p] and "/low/" in p}
    assert {p.split("/")[0] for p in new} == {
        "mask",
        "sparse",
        "compose",
        "evaluate",
        "diagnostics",
    }
    assert all(after[path] == params for path, params in before.items() if "low" not in path
               and path.startswith(("full", "denoise", "mask", "sparse", "compose")))  # fmt: skip
    changed = {p for p in after if without.get(p) != after[p] and p.startswith(("mask", "sparse"))}
    assert changed == {p for p in after if p.startswith(("mask/low", "sparse/low"))}
    assert not any("keep_lower" in params for params in before.values())


def test_it_may_be_given_for_languages_only_and_is_written_out_so():
    config = check_config(with_change(lambda raw: low(raw, keep_lower={"language": 0.5})))
    rows = {kind: config.row("low", kind) for kind in ("task", "language")}
    assert [row.keep_lower for row in rows.values()] == [None, 0.5]
    assert "lowest 50 % of the layers" in rows["language"].selected
    assert type(config).model_validate_json(config.model_dump_json()) == config
