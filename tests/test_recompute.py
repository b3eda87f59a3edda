"""Artefacts on disk are enough to recompute every later one, and outlive an edit of the code.

Most tests use NumPy and the standard library, and read files as docs/format.md describes them; only
the tokens need tokenizers, and the last step, from weights to logits, transformers.
"""

import hashlib
import json

import numpy as np
import pandas as pd
import pytest
import torch
from tokenizers import Tokenizer
from training import one_forward_pass
from transformers import AutoModelForSequenceClassification, AutoTokenizer

pytestmark = pytest.mark.workflow

DTYPES = {"F32": np.float32, "F64": np.float64, "F16": np.float16, "I64": np.int64,
          "U8": np.uint8, "U16": np.uint16, "I32": np.int32, "BOOL": np.bool_}  # fmt: skip


def read(path):
    """Tensors by name and the metadata, from the bytes of a safetensors file."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    metadata = json.loads(header.pop("__metadata__")["deftx"])
    tensors = {}
    for name, entry in header.items():
        first, last = (8 + length + offset for offset in entry["data_offsets"])
        values = np.frombuffer(data[first:last], dtype=DTYPES[entry["dtype"]])
        tensors[name] = values.reshape(entry["shape"])
    return tensors, metadata


def positions(code):
    """The gap code, read one value at a time."""
    escape, found, position, gap = np.iinfo(code.dtype).max, [], -1, 0
    for value in code.tolist():
        gap += value
        if value != escape:
            position += gap + 1
            found.append(position)
            gap = 0
    return found


def entries(tensors, metadata):
    """Tensor → positions of a mask or a vector."""
    return {name: positions(tensors[f"{name}.gaps"]) for name in metadata["layout"]}


def sparse(tensors, metadata):
    """(tensor, position) → value of a vector."""
    return {
        (name, place): value
        for name, places in entries(tensors, metadata).items()
        for place, value in zip(places, tensors[f"{name}.values"].tolist(), strict=True)
    }


TARGETS = ["lang-qta", "task-sentiment/base"]


@pytest.fixture(scope="module")
def results(finished):
    return finished / "results/tiny"


def base_weights(results):
    header, _ = read(results / "base/model.safetensors")
    names = json.loads((results / "base/backbone.json").read_text())["parameters"]
    return {n: next(v for k, v in header.items() if k.endswith("." + n)) for n in names}


def test_manifests_hold_the_sum_of_their_files(results):
    paths = [p for s in ("safetensors", "parquet") for p in results.rglob(f"*.{s}")]
    assert len(paths) > 30
    for path in paths:
        manifest = json.loads(path.with_name(path.name + ".json").read_text())
        assert manifest["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest(), path
        assert manifest["bytes"] == path.stat().st_size


@pytest.mark.parametrize("target", TARGETS)
def test_denoised_is_the_truncated_difference(results, target):
    theta1, _ = read(results / f"full/{target}/seed0/model.safetensors")
    tensors, metadata = read(results / f"denoise/rank-4/{target}/seed0.safetensors")
    for name, start in base_weights(results).items():
        if "LayerNorm" in name:
            assert np.array_equal(theta1[name], start)
            continue
        delta = theta1[name].astype(np.float32) - start.astype(np.float32)
        if delta.ndim != 2:
            assert np.array_equal(tensors[f"{name}.delta"], delta)
            continue
        u, s, vt = np.linalg.svd(delta.astype(np.float64), full_matrices=False)
        rank = metadata["ranks"][name]
        assert rank == min(4, *delta.shape)
        squares = tensors[f"{name}.singular_values"] ** 2, s**2
        # That of the eigenvalues of a Gram matrix in float64.
        bound = sum(delta.shape) * np.finfo(np.float64).eps * squares[1][0]
        assert (np.abs(squares[0] - squares[1]) <= bound).all()
        expected = (u[:, :rank] * s[:rank]) @ vt[:rank]
        assert np.abs(dense_of(tensors, name) - expected).max() <= rounding(tensors, name)


def dense_of(tensors, name):
    if f"{name}.delta" in tensors:
        return tensors[f"{name}.delta"]
    return tensors[f"{name}.left"] @ tensors[f"{name}.right"]


def rounding(tensors, name):
    """How wrong an entry of `dense_of` may be: a sum of at most 4 products in float32 of factors
    that were rounded to it. Where only the sum is stored, no part of it exceeds the matrix."""
    eps = np.finfo(np.float32).eps
    if f"{name}.delta" in tensors:
        return 6 * eps * np.linalg.norm(tensors[f"{name}.delta"])
    left, right = (np.abs(tensors[f"{name}.{side}"]) for side in ("left", "right"))
    return 6 * eps * (left @ right).max()


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("method", ["lt-sft", "deft-x"])
def test_the_mask_is_the_top_k_and_the_support_of_the_vector(results, target, method):
    tensors, metadata = read(results / f"mask/{method}/{target}/seed0.safetensors")
    base = {n: v for n, v in base_weights(results).items() if "LayerNorm" not in n}
    k = round(0.1 * sum(v.size for v in base.values()))
    if method == "lt-sft":
        theta1, _ = read(results / f"full/{target}/seed0/model.safetensors")
        scores = {n: theta1[n] - v.astype(np.float32) for n, v in base.items()}
    else:
        factors, _ = read(results / f"denoise/rank-4/{target}/seed0.safetensors")
        scores = {n: dense_of(factors, n) for n in base}
    chosen = entries(tensors, metadata)
    assert sum(map(len, chosen.values())) == metadata["k"] == k
    inside, outside = [], []
    for name, score in scores.items():
        flat = np.abs(score).reshape(-1)
        outside.append(np.delete(flat, chosen.get(name, [])))
        inside.append(flat[chosen.get(name, [])])
    smallest, largest = np.concatenate(inside).min(), np.concatenate(outside).max()
    # Products of factors may be rounded otherwise here; differences may not.
    wrong = 0 if method == "lt-sft" else 2 * max(rounding(factors, n) for n in scores)
    assert smallest >= largest - wrong
    tensors, metadata = read(results / f"sparse/{method}/{target}/seed0/sft_model.safetensors")
    assert entries(tensors, metadata) == chosen
    assert all(np.isfinite(tensors[f"{name}.values"]).all() for name in chosen)
    assert any(name.startswith("head.") for name in tensors) == target.startswith("task")


@pytest.mark.parametrize("language", ["qta", "qtb"])
def test_composed_is_the_sum_with_the_tasks_head(results, language):
    path = results / f"compose/deft-x/sentiment/{language}/seed0.safetensors"
    tensors, metadata = read(path)
    folder = results / "sparse/deft-x"
    task_tensors, task_metadata = read(folder / "task-sentiment/base/seed0/sft_model.safetensors")
    expected = sparse(task_tensors, task_metadata)
    if language == "qta":
        for place, value in sparse(*read(folder / "lang-qta/seed0/sft_model.safetensors")).items():
            expected[place] = float(np.float32(expected.get(place, 0.0)) + np.float32(value))
    assert sparse(tensors, metadata) == expected
    for name in task_tensors:
        if name.startswith("head."):
            assert np.array_equal(tensors[name], task_tensors[name])


@pytest.mark.parametrize("system", ["zero-shot", "task-arithmetic", "lt-sft", "deft-x"])
@pytest.mark.parametrize("language", ["qta", "qtb"])
def test_logits_and_metrics_follow_from_base_and_composed(results, system, language):
    weights = {n: v.astype(np.float32).copy() for n, v in base_weights(results).items()}
    name = f"{system}/sentiment/{language}/seed0"
    tensors, metadata = read(results / f"compose/{name}.safetensors")
    if "recipe" in metadata:
        targets = ["task-sentiment/base"]
        if system == "task-arithmetic" and language == "qta":
            targets.append("lang-qta")
        assert len(metadata["recipe"]) == len(targets)
        parts = [read(results / f"full/{t}/seed0/model.safetensors")[0] for t in targets]
        for key, start in base_weights(results).items():
            weights[key] += sum(part[key] - start for part in parts)
    else:
        for (key, place), value in sparse(tensors, metadata).items():
            weights[key].reshape(-1)[place] += np.float32(value)
    folder = results / "base"
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=3).eval()
    state = {f"roberta.{n}": torch.from_numpy(v) for n, v in weights.items()}
    head = {n: v for n, v in tensors.items() if n.startswith("head.")}
    state |= {n.removeprefix("head."): torch.from_numpy(v.copy()) for n, v in head.items()}
    model.load_state_dict(state, strict=True)
    items = pd.read_parquet(results / f"data/sentiment/{language}/test.parquet")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    batch = tokenizer(
        list(items["text"]), padding=True, truncation=True, max_length=32, return_tensors="pt"
    )
    logits, bound = one_forward_pass(model, batch)
    stored, metadata = read(results / f"evaluate/{name}.safetensors")
    assert np.abs(stored["logits"] - logits.numpy()).max() <= bound
    classes = metadata["params"]["classes"]
    assert [classes[i] for i in stored["labels"]] == list(items["label"])
    assert bytes(stored["ids"]).decode().split("\n") == list(items["id"])


@pytest.mark.parametrize("place", ["data/text/qta/train", "data/sentiment/qaa/train"])
def test_tokens_are_what_the_tokenizer_makes_of_each_item(results, place):
    tokenizer = Tokenizer.from_file(str(results / "base/tokenizer.json"))
    items = pd.read_parquet(results / f"{place}.parquet")
    labelled = "label" in items
    if labelled:
        tokenizer.enable_truncation(32)
    else:
        tokenizer.no_truncation()
    stored, metadata = read(results / f"tokens/{32 if labelled else 'whole'}/{place}.safetensors")
    encoded = [tokenizer.encode(text) for text in items["text"]]
    assert stored["input_ids"].tolist() == [number for line in encoded for number in line.ids]
    assert stored["ends"].tolist() == np.cumsum([len(line.ids) for line in encoded]).tolist()
    assert bytes(stored["ids"]).decode().split("\n") == list(items["id"])
    if labelled:
        names = [metadata["classes"][i] for i in stored["labels"]]
        assert names == list(items["label"])
    else:
        special = [i for line in encoded for i in line.special_tokens_mask]
        assert stored["special_tokens_mask"].tolist() == special


def test_provenance_names_base_inputs_and_parameters_and_no_path(results):
    for path in results.rglob("*.safetensors"):
        _, metadata = read(path)
        assert metadata["format"] == 1 and metadata["version"]
        assert str(results) not in json.dumps(metadata)
        if "base" not in str(path.relative_to(results)).split("/")[0]:
            assert len(metadata["base"]["hash"]) == 64, path
            assert metadata["inputs"] is not None and metadata["stage"] in str(path)
