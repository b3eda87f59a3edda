"""The laws of the stage `diagnostics`, on vectors of the tiny base."""

from itertools import combinations, product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from test_tables import rows as table

from deftx.core.mask import Mask
from deftx.core.sparse_delta import SparseDelta
from deftx.models.backbone import base_weights
from deftx.stages.diagnostics.run import Params, diagnostics
from deftx.store.errors import ArtefactError
from deftx.store.tensors import save_tensors

LANGUAGES, SEEDS = ["ind", "ace", "ban"], [0, 3]
TARGETS = ["task-mood", *(f"lang-{key}" for key in LANGUAGES)]


def params(**changes) -> Params:
    settings = {"system": "lt-sft", "task": "mood", "source": "ind", "seeds": SEEDS}
    return Params(**{**settings, "languages": LANGUAGES, **changes})


def save_sparse(folder: Path, base, target: str, seed: int, /, **provenance) -> Path:
    """A vector as the stage `sparse` writes it, with entries in every second tensor."""
    generator = torch.Generator().manual_seed(1000 * seed + sum(target.encode()))
    index, values, shapes = {}, {}, {}
    for name in sorted(base.maskable)[::2]:
        size = int(np.prod(base.maskable[name]))
        index[name] = torch.nonzero(torch.rand(size, generator=generator) < 0.2).flatten()
        values[name] = torch.randn(len(index[name]), generator=generator)
        shapes[name] = base.maskable[name]
    out = folder / "sparse" / target / f"seed{seed}" / "sft_model.safetensors"
    facts = {"stage": "sparse", "method": "lt-sft", "target": target, "seed": seed}
    outcome = {"best": {"loss": 2.5 + seed}} if target.startswith("lang") else {}
    SparseDelta(Mask(index, shapes), values).save(
        out, **{**facts, "base": base.identity, "start": "base", "outcome": outcome, **provenance}
    )
    return out


def save_full(folder: Path, base, target: str, seed: int, start: Path | None = None) -> Path:
    """θ1 as the stage `full` writes it; a task's start is a sparse vector's."""
    generator = torch.Generator().manual_seed(seed + sum(target.encode()))
    weights = dict(base_weights(base))
    if start is not None:
        SparseDelta.load(start).add_to(weights)
    moved = {
        name: weight + 0.1 * torch.randn(weight.shape, generator=generator)
        for name, weight in weights.items()
    }
    out = folder / "full" / target / f"seed{seed}" / "model.safetensors"
    facts = {"target": target, "seed": seed, "start": "base" if start is None else "lt-sft"}
    save_tensors(out, moved, stage="full", base=base.identity, **facts)
    return out


def save_evaluation(folder: Path, language: str, seed: int, ids: list[str], **changes) -> Path:
    provenance = {"system": "lt-sft", "task": "mood", "language": language, "seed": seed}
    pooled = torch.eye(len(ids), 8).half()
    tensors = {"ids": torch.frombuffer(bytearray("\n".join(ids).encode()), dtype=torch.uint8)}
    out = folder / "evaluate" / language / f"seed{seed}.safetensors"
    if changes.pop("pooled", True):
        tensors["pooled"] = pooled
    save_tensors(out, tensors, stage="evaluate", **{**provenance, **changes})
    return out


def values(path: Path, measure: str) -> dict[tuple[str, str, str], float]:
    return {
        (row["seed"], row["a"], row["b"]): float(row["value"])
        for row in table(path)
        if row["measure"] == measure
    }


@pytest.fixture
def vectors(base, tmp_path) -> list[Path]:
    return [save_sparse(tmp_path, base, target, seed) for target in TARGETS for seed in SEEDS]


@pytest.fixture
def written(base, vectors, tmp_path) -> Path:
    out = tmp_path / "mood.csv"
    diagnostics(params(), base=base.folder, vectors=vectors, out=out)
    return out


def chosen(path: Path) -> set[tuple[str, int]]:
    index = SparseDelta.load(path).mask.index
    return {(name, int(place)) for name, places in index.items() for place in places}


def test_overlaps_and_jaccard_are_those_of_sets(written, vectors):
    sets = dict(zip(product(TARGETS, SEEDS), map(chosen, vectors), strict=True))
    expected = {}
    for seed in SEEDS:
        for a in TARGETS[1:]:
            mine, task = sets[a, seed], sets["task-mood", seed]
            shared = len(mine & task) / min(len(mine), len(task))
            expected[str(seed), a, "task-mood"] = pytest.approx(shared, rel=1e-5)
    for a, b in combinations(TARGETS[1:], 2):
        mine, other = sets[a, SEEDS[0]], sets[b, SEEDS[0]]
        shared = len(mine & other) / min(len(mine), len(other))
        expected[str(SEEDS[0]), a, b] = pytest.approx(shared, rel=1e-5)
    assert values(written, "overlap") == expected
    assert values(written, "jaccard") == {
        ("0-3", target, ""): pytest.approx(
            len(sets[target, 0] & sets[target, 3]) / len(sets[target, 0] | sets[target, 3]),
            rel=1e-5,
        )
        for target in TARGETS
    }


def test_entries_add_up_to_k_and_maskable_to_what_may_be_chosen(written, vectors, base):
    sizes = {name: int(np.prod(shape)) for name, shape in base.maskable.items()}
    inside = "encoder.layer.1.attention."
    attention = sum(size for name, size in sizes.items() if name.startswith(inside))
    frame = pd.read_csv(written).set_index(["measure", "layer", "part"])
    for path, (target, seed) in zip(vectors, product(TARGETS, SEEDS), strict=True):
        mine = frame[(frame["a"] == target) & (frame["seed"] == str(seed))]["value"]
        entries, maskable = mine["entries"], mine["maskable"]
        assert entries.sum() == len(SparseDelta.load(path))
        assert maskable.sum() == sum(sizes.values())
        assert maskable["1", "attention"] == attention
        places = [("emb.", "other"), *product("01", ("attention", "other"))]
        assert list(entries.index) == list(maskable.index) == places


def test_held_out_loss_is_that_of_the_checkpoint_kept(written):
    assert values(written, "held_out_loss") == {
        (str(seed), f"lang-{key}", ""): 2.5 + seed for key in LANGUAGES for seed in SEEDS
    }


def test_bytes_repeat_and_a_language_without_a_vector_has_no_rows(written, base, vectors, tmp_path):
    again, fewer = tmp_path / "again.csv", tmp_path / "fewer.csv"
    diagnostics(params(), base=base.folder, vectors=vectors[::-1], out=again)
    assert again.read_bytes() == written.read_bytes()
    diagnostics(params(), base=base.folder, vectors=vectors[:-2], out=fewer)
    assert {row["a"] for row in table(fewer)} == set(TARGETS[:-1])


@pytest.mark.rounding
def test_dense_vectors_are_compared_as_whole_differences_from_their_starts_which_they_need(
    base, tmp_path
):
    start = save_sparse(tmp_path, base, "lang-ind", 0)
    task = save_full(tmp_path, base, "task-mood", 0, start)
    language = save_full(tmp_path, base, "lang-ace", 0)
    out = tmp_path / "dense.csv"
    one = params(seeds=[0])
    diagnostics(one, base=base.folder, vectors=[task, language], start_vector=[start], out=out)
    with pytest.raises(ArtefactError, match=r"vector of lt-sft with seed 0.*--start-vector"):
        diagnostics(one, base=base.folder, vectors=[task, language], out=tmp_path / "x.csv")
    weights = dict(base_weights(base))
    drawn = []
    for target in ("task-mood", "lang-ace"):
        generator = torch.Generator().manual_seed(sum(target.encode()))
        parts = [0.1 * torch.randn(w.shape, generator=generator) for w in weights.values()]
        drawn.append(torch.cat([part.flatten() for part in parts]).double())
    phi_t, phi_l = drawn
    # The file holds θ + φ in float32, so a φ of 0.1 may be wrong by 1e-7 (more signs than one in
    # 10,000 do not change), and the table has six digits.
    key = ("0", "lang-ace", "task-mood")
    cosine = float(phi_t @ phi_l / phi_t.norm() / phi_l.norm())
    assert values(out, "cosine")[key] == pytest.approx(cosine, abs=1e-5)
    ratio = float(phi_t.norm() / phi_l.norm())
    assert values(out, "norm_ratio")[key] == pytest.approx(ratio, rel=1e-4)
    assert values(out, "interference")[key] == pytest.approx(1 / ratio, rel=1e-4)
    conflict = float((phi_t * phi_l < 0).double().mean())
    assert values(out, "sign_conflict")[key] == pytest.approx(conflict, abs=2e-4)
    assert {row["measure"] for row in table(out)}.isdisjoint({"overlap", "entries", "jaccard"})


def test_adapters_are_not_compared(base, tmp_path):
    paths = []
    for target in TARGETS[:2]:
        path = tmp_path / "adapter" / f"{target}.safetensors"
        facts = {"target": target, "seed": 0, "base": base.identity}
        save_tensors(path, {"down": torch.ones(2)}, stage="adapter", **facts)
        paths.append(path)
    out = tmp_path / "adapter.csv"
    diagnostics(params(seeds=[0]), base=base.folder, vectors=paths, out=out)
    assert out.read_text() == "system,task,seed,measure,a,b,layer,part,value\n"


def test_alignment_is_over_items_that_the_source_has_too(base, vectors, tmp_path):
    ids = [f"item-{i}" for i in range(6)]
    evaluated = [
        save_evaluation(tmp_path, "ind", 0, ids),
        save_evaluation(tmp_path, "ace", 0, ids[:4]),
        save_evaluation(tmp_path, "ban", 0, ids, pooled=False),
        save_evaluation(tmp_path, "ace", 3, ids),  # the source has none with this seed
    ]
    out = tmp_path / "aligned.csv"
    diagnostics(params(), base=base.folder, vectors=vectors, evaluated=evaluated, out=out)
    key = ("0", "ace", "ind")
    assert values(out, "similarity_matched") == {key: 1}
    assert values(out, "similarity_mismatched") == {key: 0}
    assert values(out, "retrieval") == {key: 1}


def test_inputs_of_something_else_are_refused(base, vectors, tmp_path):
    alien = save_sparse(tmp_path / "1", base, "lang-ace", 0, base={"hash": "1" * 64})
    for given, message in [
        ([alien], "made for base"),
        ([*vectors, vectors[0]], "a second vector of task-mood with seed 0"),
        (vectors[:-1], "no vector of lang-ban with seed 3"),
        (vectors[2:], "no vector of task-mood with seed 0"),
        (
            [*vectors, save_sparse(tmp_path / "2", base, "lang-xyz", 0)],
            "of lang-xyz with seed 0, exp",
        ),
    ]:
        with pytest.raises(ArtefactError, match=message):
            diagnostics(params(), base=base.folder, vectors=given, out=tmp_path / "x.csv")
    other = save_evaluation(tmp_path, "ace", 0, ["a", "b"], system="deft-x")
    with pytest.raises(ArtefactError, match="an evaluation of system deft-x, expected lt-sft"):
        diagnostics(
            params(), base=base.folder, vectors=vectors, evaluated=[other], out=tmp_path / "x.csv"
        )
