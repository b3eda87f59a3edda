"""Equal to what the public LT-SFT implementation chose and composed, read as data; and to a small
fixture made by a plain sort in NumPy, for where that data is absent."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from training import dense as dense_over
from transformers import XLMRobertaConfig, XLMRobertaForSequenceClassification

from deftx.core.delta import Delta
from deftx.core.parameters import backbone_parameters
from deftx.core.sparse_delta import SparseDelta
from deftx.stages.mask.math import top_k

FIXTURE = Path(__file__).parent / "fixtures" / "plain_top_k.safetensors"


class Oracle:
    """One training of the public implementation."""

    def __init__(self, path):
        self.file = safe_open(path, framework="pt")
        self.metadata = self.file.metadata()
        self.maskable = json.loads(self.metadata["maskable"])
        self.k = int(self.metadata["K"])

    def __getitem__(self, part):
        """Tensors of a part by full name."""
        keys = [key for key in self.file.keys() if key.startswith(part + ".")]  # noqa: SIM118
        return {key.removeprefix(part + "."): self.file.get_tensor(key) for key in keys}

    def delta(self, end):
        start = {name: self["start"][name] for name in self.maskable}
        return Delta.between(start, {name: self[end][name] for name in self.maskable})


@pytest.fixture(params=["lang-a", "lang-b", "task"])
def oracle(request, shared):
    return Oracle(shared / "oracles/lt-sft" / request.param / "oracle.safetensors")


def test_our_mask_is_the_public_mask(oracle):
    mask = top_k(oracle.delta("theta1"), oracle.k)
    assert len(mask) == oracle.k == int(oracle.metadata["chosen"])
    for name, theirs in oracle["mask"].items():
        ours = mask.dense(name) if name in mask.index else torch.zeros_like(theirs)
        assert torch.equal(ours, theirs), name


@pytest.mark.rounding
def test_our_vector_is_the_public_vector(oracle):
    phi = SparseDelta.from_dense(oracle.delta("end"), top_k(oracle.delta("theta1"), oracle.k))
    ours = dense_over(phi, {name: oracle["start"][name].shape for name in oracle.maskable})
    theirs = oracle["diff"]
    for name in oracle.maskable:
        # Their vector drops differences of at most 1e-7.
        expected = theirs.get(name, torch.zeros_like(ours[name]))
        dropped = expected == 0
        assert torch.equal(ours[name][~dropped], expected[~dropped]), name
        assert (ours[name][dropped].abs() <= 1e-7).all(), name


def vector(oracle, head):
    """Under our names, without the prefix of the model's class."""
    parts = [
        {n.removeprefix("roberta."): d for n, d in oracle.delta(end).items() if "roberta." in n}
        for end in ("end", "theta1")
    ]
    return SparseDelta.from_dense(parts[0], top_k(parts[1], oracle.k), head)


@pytest.mark.rounding
def test_our_composition_and_logits_are_the_public_ones(shared):
    folder = shared / "oracles/lt-sft"
    task, lang = (Oracle(folder / name / "oracle.safetensors") for name in ("task", "lang-b"))
    file = safe_open(folder / "composed.safetensors", framework="pt")
    names = list(file.keys())
    parts = {
        part: {n.removeprefix(part): file.get_tensor(n) for n in names if n.startswith(part)}
        for part in ("base.", "composed.")
    }
    config = XLMRobertaConfig(**json.loads(file.metadata()["config"]), num_labels=3)
    model = XLMRobertaForSequenceClassification(config).eval()
    with torch.no_grad():
        for name, parameter in backbone_parameters(model).items():
            parameter.copy_(parts["base."][name])
    task_vector, language_vector = vector(task, task["abs"]), vector(lang, {})
    total = task_vector + language_vector
    shapes = {name: tensor.shape for name, tensor in parts["base."].items()}
    dense = [dense_over(vector, shapes) for vector in (task_vector, language_vector)]
    with total.applied(model), torch.no_grad():
        for name, parameter in backbone_parameters(model).items():
            theirs = parts["composed."][f"roberta.{name}"]
            # Sums in two orders differ by an ulp of the largest of what is added.
            terms = [theirs, parts["base."][name], dense[0][name], dense[1][name]]
            ulp = np.spacing(torch.stack(terms).abs().amax(0).numpy())
            assert (np.abs(parameter.numpy() - theirs.numpy()) <= ulp).all(), name
        # In float64, so that the difference is the rounding of the other side: data, on any CPU.
        logits = copy.deepcopy(model).double()(file.get_tensor("input_ids")).logits
    torch.testing.assert_close(logits, file.get_tensor("logits").double(), rtol=0, atol=1e-6)


def test_our_mask_is_that_of_the_fixture():
    """tests/fixtures/make_plain_top_k.py made it: start, θ1, and what a NumPy sort chose."""
    file = safe_open(FIXTURE, framework="pt")
    tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    parts = {
        part: {n.removeprefix(part): t for n, t in tensors.items() if n.startswith(part)}
        for part in ("start.", "theta1.", "mask.")
    }
    mask = top_k(Delta.between(parts["start."], parts["theta1."]), int(file.metadata()["k"]))
    for name, chosen in parts["mask."].items():
        assert torch.equal(mask.dense(name), chosen), name
