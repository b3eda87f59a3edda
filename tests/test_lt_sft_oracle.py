"""Equal to what the public LT-SFT implementation chose, read as data (test_foreign.py: composed);
and to a small fixture made by a plain sort in NumPy, for where that data is absent."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from training import dense as dense_over

from deftx.core.delta import Delta
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
