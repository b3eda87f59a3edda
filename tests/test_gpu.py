"""Training on a GPU compared with the CPU: on the machine's GPU, if there is one, and on a
simulated one. In test_whole_runs.py every stage runs on one; all other tests run on the CPU."""

import itertools
import os
import subprocess
import sys

import pytest
import test_engine
import torch
from conftest import HAS_GPU, PROJECT, with_the_gpu
from safetensors.torch import load_file
from simulated_gpu import BEGIN

SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import torch
import test_engine
from safetensors.torch import save_file
from deftx.models.base import Base
from deftx.engine.session import Session
from deftx.engine.settings import Engine

engine = Engine(precision={precision!r}, compile={compile!r})
base = Base.load(Path({base!r}))
for kind in (test_engine.language, test_engine.task):
    for mask in (False, True):
        session = Session(engine=engine)
        outcome, weights = test_engine.trained(base, kind(base), mask, session, torch.{dtype})
        assert outcome["engine"]["device"] == "cuda"
        weights = {{name: weight.cpu() for name, weight in weights.items()}}
        save_file(weights, Path({out!r}) / f"{{kind.__name__}}-{{mask}}.safetensors")
"""


def compare_with_cpu(
    base, folder, bound, precision, compile, environment, before="", dtype="float32"
):
    """Train on a GPU, in a process that begins with the code `before`, and compare its weights with
    those of the CPU."""
    script = folder / "script.py"
    script.write_text(
        before
        + SCRIPT.format(
            tests=str(PROJECT / "tests"), base=str(base.folder), out=str(folder),
            precision=precision, compile=compile, dtype=dtype,
        )
    )  # fmt: skip
    done = subprocess.run(
        [sys.executable, str(script)],
        env={**environment, "PYTHONPATH": os.pathsep.join([str(PROJECT), *sys.path])},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    kinds = (test_engine.language, test_engine.task)
    for kind, mask in itertools.product(kinds, (False, True)):
        _, expected = test_engine.trained(base, kind(base), mask, None, getattr(torch, dtype))
        found = load_file(folder / f"{kind.__name__}-{mask}.safetensors")
        assert test_engine.distance(found, expected) < bound, (kind.__name__, mask)


@pytest.fixture
def simulate(simulated):
    if simulated is None:
        pytest.skip("a simulated GPU needs Linux, g++ and the build of PyTorch for CPUs")
    return simulated


@pytest.mark.skipif(not HAS_GPU, reason="no GPU")
@pytest.mark.parametrize("compile", [False, True])
@pytest.mark.parametrize(("precision", "bound"), [("fp32", 1e-3), ("bf16", 0.1)])
def test_a_gpu_computes_the_same_as_a_cpu(base, tmp_path, precision, compile, bound):
    """Gradients that are nothing but rounding move weights as far as any others."""
    environment = with_the_gpu({**os.environ, "DEFTX_TEST_ON_GPU": "1"})
    compare_with_cpu(base, tmp_path, bound, precision, compile, environment)


@pytest.mark.parametrize(
    ("precision", "dtype", "bound"),
    [("fp32", "float64", test_engine.TO_ROUNDING), ("bf16", "float32", 0.1)],
)
def test_training_keeps_to_its_device(base, tmp_path, simulate, precision, dtype, bound):
    begin = simulate + BEGIN
    compare_with_cpu(base, tmp_path, bound, precision, False, os.environ, begin, dtype)


REFUSED = """
import torch
one, other = torch.ones(3), torch.ones(3, device="cuda")
assert (other + torch.tensor(2.0)).tolist() == [3, 3, 3] and other[torch.tensor([0])].is_cuda
assert torch.equal(other.cpu(), one) and not other.cpu().is_cuda and one.to("cuda").is_cuda
for refused in (
    lambda: one + other, lambda: one + other.sum(), lambda: torch.cat([one, other]),
    lambda: one[other.long()], lambda: other.index_select(0, torch.tensor([0])),
    lambda: other.index_put((torch.tensor([0, 1]),), torch.ones(2)),
    lambda: torch.rand(3, generator=torch.Generator(), device="cuda"), lambda: other.numpy(),
):
    try:
        refused()
    except (RuntimeError, TypeError) as error:
        print(error)
    else:
        raise SystemExit("not refused")
"""


def test_the_simulated_gpu_refuses_what_a_gpu_refuses(simulate):
    done = subprocess.run(
        [sys.executable, "-c", simulate + BEGIN + REFUSED], capture_output=True, text=True
    )
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 8, done.stdout + done.stderr
