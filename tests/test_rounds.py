"""Entries chosen in several rounds: each phase against a plain loop over dense tensors."""

from itertools import pairwise

import pytest
import torch
from conftest import without_dropout
from safetensors.torch import load_file
from test_selection import as_lists, plain_top_k
from training import (
    CLASSES,
    NEVER,
    assert_close,
    dense,
    differing,
    is_key_bias,
    items,
    plain_loop,
    write_data,
)

import deftx.engine.job
from deftx.core.mask import load_mask
from deftx.core.parameters import backbone_parameters, head_parameters
from deftx.core.sparse_delta import SparseDelta
from deftx.engine.job import prepare
from deftx.engine.sparse import PackedEntries
from deftx.engine.steps import Steps
from deftx.models.base import Base
from deftx.models.load import load_classifier, load_masked_lm
from deftx.models.vectors import start_weights
from deftx.stages.full import run as full_stage
from deftx.stages.full.settings import RoundOf
from deftx.stages.mask import run as mask_stage
from deftx.stages.mask.math import uniform
from deftx.stages.sparse import run as sparse_stage
from deftx.store.errors import ArtefactError
from deftx.store.seeds import stream
from deftx.store.tensors import TensorFile

TRAINING = {"learning_rate": 5e-3, "batch_size": 8, "max_length": 16, "evaluate_every": NEVER}
TARGETS = {
    "task": {"target": "task-x", "classes": CLASSES, "task": {**TRAINING, "epochs": 2, "l1": 50.0}},
    "language": {
        "target": "lang-qaa",
        "language": {**TRAINING, "min_steps": 0, "max_steps": 6, "l1": 50.0},
    },
}
WITHOUT_KEY_BIAS = r"^(?!.*key\.bias)"
K = 901


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    for split, count, seed in (("train", 40, 1), ("valid", 12, 2)):
        write_data(folder, items(count, seed), split)
    return {split: folder / f"{split}.parquet" for split in ("train", "valid")}


@pytest.fixture(scope="module", autouse=True)
def _plain():
    """No dropout, and float64, so that a plain loop can follow on any CPU."""
    with pytest.MonkeyPatch.context() as patch:
        for load in (load_classifier, load_masked_lm):
            plain = lambda *given, load=load: without_dropout(load(*given)).double()  # noqa: E731
            patch.setattr(deftx.engine.job, load.__name__, plain)
        yield


def data_of(kind, files):
    return files if kind == "task" else {"train": files["train"]}


def run(folder, base, files, kind, number, rounds, **selection):
    """One round by the stages; the paths of what it makes."""
    paths = {s: folder / f"{s}-{number}/m.safetensors" for s in ("full", "mask", "sparse")}
    before = {s: folder / f"{s}-{number - 1}/m.safetensors" for s in ("mask", "sparse")}
    later = number > 1
    given = {"base": base.folder, **data_of(kind, files)}
    begin = {"round_vector": before["sparse"]} if later else {}
    facts = {**TARGETS[kind], "round": number}
    full_stage.full(full_stage.Params(**facts), **given, **begin, out=paths["full"])
    chosen = {"chosen": before["mask"]} if later else {}
    of = {"round": number, "rounds": rounds, "method": "m", "target": facts["target"]}
    rule = {"budget": K, "choose_from": WITHOUT_KEY_BIAS, **selection}
    mask_stage.mask(
        mask_stage.Params(**of, selection=rule),
        base=base.folder, delta=paths["full"], **chosen, out=paths["mask"],
    )  # fmt: skip
    params = sparse_stage.Params(**facts, method="m", rounds=rounds)
    sparse_stage.sparse(params, **given, **begin, mask=paths["mask"], out=paths["sparse"])
    return paths


@pytest.fixture(scope="module", params=["task", "language"])
def two_rounds(request, base_folder, files, tmp_path_factory):
    base, folder = Base.load(base_folder), tmp_path_factory.mktemp("rounds")
    rounds = [run(folder, base, files, request.param, number, 2) for number in (1, 2)]
    return request.param, base, rounds


def plain_phase(kind, base, files, phase, begin, mask=None):
    """The slow way: dense weights, gradients times the mask, L1 towards θs by autograd, AdamW,
    clipping, linear decay. `begin` has φ of the round before as dense tensors, and the head."""
    params = full_stage.Params(**TARGETS[kind])
    data = data_of(kind, files)
    model, objective = prepare(params, base, data["train"], data.get("valid"), None)
    settings, order = params.training, [params.seed, params.target, phase]
    seeds = {"order_seed": stream(*order, "order"), "draw_seed": stream(*order, "masks")}
    steps = Steps(objective, settings, **seeds)
    backbone = {n: p for n, p in backbone_parameters(model).items() if n in base.maskable}
    parts = {**backbone, **{f"head.{n}": p for n, p in head_parameters(model).items()}}
    total = sum(p.numel() for p in model.parameters())
    model.requires_grad_(False)
    trained = [p.requires_grad_(True) for p in parts.values()]
    start = [p.detach().clone() for p in trained]
    with torch.no_grad():
        for name, tensor in begin.items():
            parts[name].copy_(tensor if name.startswith("head.") else parts[name] + tensor)
    learner = objective.learner(model)
    learner.train()

    def backward(number):
        step = steps.step(number)
        loss = sum(learner(**batch) for batch in step.batches) / step.labels
        pull = sum((p - s).abs().sum() for p, s in zip(trained, start, strict=True))
        (loss + settings.l1 * pull / total).backward()
        for name, parameter in backbone.items() if mask else ():
            parameter.grad *= mask.dense(name) if name in mask.index else 0

    plain_loop(trained, settings, settings.steps(*objective.sources), backward)
    learner.close()
    return parts


def dense_file(path):
    """φ of a file as dense tensors, and its head."""
    vector = SparseDelta.load(path)
    head = {f"head.{name}": tensor for name, tensor in vector.head.items()}
    return {**dense(vector, vector.mask.shapes), **head}


@pytest.mark.rounding
def test_the_full_phase_of_a_round_is_a_plain_loop_from_the_vector_before(two_rounds, files):
    kind, base, (first, second) = two_rounds
    before = dense_file(first["sparse"])
    for paths, phase, begin in ((first, "full", {}), (second, "full-2", before)):
        assert any(n.startswith("head.") for n in begin) == bool(begin)
        plain, found = plain_phase(kind, base, files, phase, begin), load_file(paths["full"])
        assert_close({name: found[name] for name in plain}, plain)
    other = plain_phase(kind, base, files, "full-2", {})
    with pytest.raises(AssertionError):
        assert_close({name: found[name] for name in other}, other)


@pytest.mark.rounding
def test_a_round_chooses_the_largest_of_all_entries_not_chosen_yet(two_rounds):
    """The difference is from θs, not from where the round began."""
    _, base, (first, second) = two_rounds
    masks = [load_mask(TensorFile(paths["mask"])) for paths in (first, second)]
    assert [len(mask) for mask in masks] == [450, 901]
    start, left = start_weights(base, None), {}
    theta1 = load_file(second["full"])
    for name in base.maskable:
        if not is_key_bias(name):
            left[name] = theta1[name] - start[name]
            left[name].view(-1)[masks[0].index.get(name, [])] = 0
    plain = plain_top_k(left, 451)
    for name, index in masks[1].index.items():
        before = masks[0].index[name].tolist() if name in masks[0].index else []
        assert index.tolist() == sorted([*before, *plain.get(name, [])])
    assert all(name in masks[1].index for name in plain)


@pytest.mark.rounding
def test_the_sparse_phase_of_a_round_is_a_plain_loop_with_the_united_mask(two_rounds, files):
    """To the float32 of the file of a vector."""
    kind, base, (first, second) = two_rounds
    start = start_weights(base, None)
    before = dense_file(first["sparse"])
    for paths, phase, begin in ((first, "sparse", {}), (second, "sparse-2", before)):
        mask = load_mask(TensorFile(paths["mask"]))
        plain = plain_phase(kind, base, files, phase, begin, mask)
        found = dense_file(paths["sparse"])
        assert {n for n in found if not n.startswith("head.")} == set(mask.index)
        for name in base.maskable:
            plain[name] = plain[name] - start[name]
            assert name in found or not plain[name].any(), name
        ours = {name: tensor.double() for name, tensor in found.items()}
        rounding = torch.finfo(torch.float32).eps
        assert_close(ours, {name: plain[name] for name in ours}, rounding)


def test_the_vector_of_the_last_round_is_a_vector_like_any_other(two_rounds):
    """And one before it keeps the head of a language, which the next round goes on with."""
    kind, _, rounds = two_rounds
    vectors = [SparseDelta.load(paths["sparse"]) for paths in rounds]
    assert [len(vector) for vector in vectors] == [450, 901]
    assert [bool(vector.head) for vector in vectors] == [True, kind == "task"]
    assert all(values.abs().sum() > 0 for vector in vectors for values in vector.values.values())


@pytest.mark.rounding
def test_a_round_that_learns_nothing_keeps_the_vector_of_the_one_before(
    two_rounds, files, tmp_path
):
    """The entries added have 0."""
    kind, base, (first, second) = two_rounds
    name = "task" if kind == "task" else "language"
    facts = {**TARGETS[kind], "round": 2, "rounds": 2, "method": "m"}
    facts[name] = {**facts[name], "learning_rate": 1e-300}
    out = tmp_path / "m.safetensors"
    sparse_stage.sparse(
        sparse_stage.Params(**facts), base=base.folder, **data_of(kind, files), out=out,
        mask=second["mask"], round_vector=first["sparse"],
    )  # fmt: skip
    ours, before = dense_file(out), dense_file(first["sparse"])
    for name in (name for name in ours if not name.startswith("head.")):
        was = before.get(name, torch.zeros_like(ours[name]))
        # θs + φ is rounded in float64.
        assert (ours[name] - was).abs().max() <= 1e-15, name
    assert all(torch.equal(ours[n], before[n]) for n in ours if n.startswith("head."))


@pytest.mark.parametrize(
    "selection",
    [
        {},
        {"score": "random"},
        {"shares": {"embeddings": 0.3, r"encoder\.layer\.0": 0.25, "": 0.45}},
    ],
)
def test_rounds_over_one_difference_make_the_mask_of_one_round(
    two_rounds, selection, tmp_path, base
):
    """With K that the rounds do not divide; and each round ends with K · i // n entries."""
    _, _, (first, _) = two_rounds
    rule = {"budget": K, "choose_from": WITHOUT_KEY_BIAS, **selection}

    def choose(number, rounds, chosen, out):
        params = {"method": "m", "target": "task-x", "selection": rule}
        if rounds > 1:
            params |= {"round": number, "rounds": rounds}
        mask_stage.mask(
            mask_stage.Params(**params), base=base.folder, delta=first["full"], chosen=chosen,
            out=tmp_path / out,
        )  # fmt: skip
        return load_mask(TensorFile(tmp_path / out))

    masks, chosen = [], None
    for number in (1, 2, 3):
        masks.append(choose(number, 3, chosen, f"{number}.safetensors"))
        chosen = tmp_path / f"{number}.safetensors"
    assert [len(mask) for mask in masks] == [300, 600, 901]
    for before, after in pairwise(masks):
        for name, index in before.index.items():
            assert set(index.tolist()) <= set(after.index[name].tolist())
    once = choose(1, 1, None, "once.safetensors")
    assert as_lists(masks[-1]) == as_lists(once)


@pytest.mark.rounding
def test_one_round_has_the_bytes_of_training_without_rounds(two_rounds, files, tmp_path, base):
    """The first of several rounds and a phase without rounds differ in the budget alone."""
    kind, _, (first, _) = two_rounds
    out = tmp_path / "full.safetensors"
    params = full_stage.Params(**TARGETS[kind])
    full_stage.full(params, base=base.folder, **data_of(kind, files), out=out)
    assert out.read_bytes() == first["full"].read_bytes()
    assert RoundOf().phase("sparse") == "sparse" and RoundOf().budgets(K) == (0, K)


@pytest.mark.parametrize("low", [torch.float32, torch.bfloat16])
def test_a_vector_is_added_to_packed_entries_in_float32(base, low):
    """Of word embeddings too; θs + φ before it is rounded to the dtype of the matrices."""
    model = load_masked_lm(base)
    weights = {name: p.detach().clone() for name, p in backbone_parameters(model).items()}
    mask, few = (uniform(base.maskable, k, 0) for k in (900, 400))
    vector = SparseDelta(few, {name: torch.randn(len(i)) for name, i in few.index.items()})
    packed = PackedEntries(model, mask, low)
    packed.add(vector)
    packed.write_back()
    packed.close()
    vector.add_to(weights)
    assert differing(backbone_parameters(model), weights) == set()
    packed = PackedEntries(load_masked_lm(base), few, low)
    with pytest.raises(ArtefactError, match=r"entries of \S+ that the mask does not choose"):
        packed.add(SparseDelta(mask, {name: torch.ones(len(i)) for name, i in mask.index.items()}))


def test_wrong_rounds_are_refused_by_what_is_wrong(two_rounds, files, tmp_path, base):
    kind, _, (first, second) = two_rounds
    given = {"base": base.folder, **data_of(kind, files), "out": tmp_path / "m.safetensors"}

    def train(number, vector, **changes):
        params = full_stage.Params(**{**TARGETS[kind], "round": number, **changes})
        full_stage.full(params, **given, round_vector=vector)

    with pytest.raises(ValueError, match="round 2 begins with the vector of the one before"):
        train(2, None)
    with pytest.raises(ValueError, match="round 1 begins at the start weights, not with a vector"):
        train(1, first["sparse"])
    with pytest.raises(ArtefactError, match=r"'round': 2\}, expected that of .*'round': 1\}"):
        train(2, second["sparse"])
    with pytest.raises(ArtefactError, match=r"'seed': 0, .* expected that of .*'seed': 7, "):
        train(2, first["sparse"], seed=7)

    def choose(number, rounds, chosen, **rule):
        params = mask_stage.Params(
            method="m", target=TARGETS[kind]["target"], round=number, rounds=rounds,
            selection={"budget": K, **rule},
        )  # fmt: skip
        mask_stage.mask(
            params, base=base.folder, delta=first["full"], chosen=chosen, out=given["out"]
        )

    with pytest.raises(ValueError, match="round is 3, but rounds is 2"):
        choose(3, 2, first["mask"])
    with pytest.raises(ValueError, match=r"round 2 adds to the mask of round 1 .*--chosen"):
        choose(2, 2, None)
    with pytest.raises(ValueError, match="round 1 chooses the first entries"):
        choose(1, 2, first["mask"])
    with pytest.raises(ArtefactError, match="450 entries, but the round before ends with 300"):
        choose(2, 3, first["mask"])
    with pytest.raises(ArtefactError, match=r"entries of .*embeddings.*, a tensor that may not be"):
        choose(2, 2, first["mask"], choose_from=r"^encoder\.")
    with pytest.raises(ValueError, match="rounds is 2, but score: none takes everything at once"):
        choose(2, 2, first["mask"], score="none", budget=None)
    with pytest.raises(ValueError, match="rounds is 2: with retrain: false there is one"):
        sparse_stage.Params(**TARGETS[kind], method="m", rounds=2, retrain=False)
