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

engine = Engine(precision={precision!r}, compile={compile!r}, graph={graph!r})
base = Base.load(Path({base!r}))
for kind in (test_engine.language, test_engine.task):
    for mask in (False, True):
        session = Session(engine=engine)
        outcome, weights = test_engine.trained(base, kind(base), mask, session, torch.{dtype})
        assert outcome["engine"]["device"] == "cuda"
        weights = {{name: weight.cpu() for name, weight in weights.items()}}
        save_file(weights, Path({out!r}) / f"{{kind.__name__}}-{{mask}}.safetensors")
"""


def compare_with_cpu(base, folder, bound, environment, *, before="", dtype="float32", **engine):
    """Train on a GPU, in a process that begins with the code `before`, and compare its weights with
    those of the CPU."""
    script = folder / "script.py"
    script.write_text(
        before
        + SCRIPT.format(
            tests=str(PROJECT / "tests"), base=str(base.folder), out=str(folder),
            dtype=dtype, **engine,
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
@pytest.mark.parametrize(
    ("compile", "graph"), [(False, False), (True, False), (False, True), (True, True)]
)
@pytest.mark.parametrize(("precision", "bound"), [("fp32", 1e-3), ("bf16", 0.1)])
def test_a_gpu_computes_the_same_as_a_cpu(base, tmp_path, precision, compile, graph, bound):
    """Gradients that are nothing but rounding move weights as far as any others."""
    environment = with_the_gpu({**os.environ, "DEFTX_TEST_ON_GPU": "1"})
    engine = {"precision": precision, "compile": compile, "graph": graph}
    compare_with_cpu(base, tmp_path, bound, environment, **engine)


REPLAYED = """
import os
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import torch
import test_engine
from deftx.core.parameters import backbone_parameters
from deftx.engine.checkpoint import Checkpoint
from deftx.engine.fit import fit
from deftx.engine.session import Session
from deftx.engine.settings import Engine
from deftx.models.base import Base

os.environ["DEFTX_CHECKPOINT_MINUTES"] = "0"
base, out = Base.load(Path({base!r})), Path({out!r})


class Stop(Exception):
    pass


def trained(kind, mask, name, changes):
    # Twelve steps with dropout and validation; `changes` has whether steps are replayed, and the
    # step at which training is stopped.
    model, objective, settings = kind(base)
    state = {{n: t.clone() for n, t in model.state_dict().items()}}
    with Checkpoint(out / name, {{}}) as checkpoint:
        for graph, end in changes:
            def before_step(step):
                if step == end:
                    raise Stop
            engine = Engine(precision="fp32", graph=graph)
            session = Session(engine=engine, checkpoint=checkpoint, before_step=before_step)
            model.load_state_dict(state)
            chosen = test_engine.chosen(base) if mask else None
            try:
                outcome = fit(model, objective, settings, mask=chosen, session=session)
            except Stop:
                continue
            assert outcome["engine"]["graph"] == graph
    end = test_engine.without_key_bias(model.state_dict())
    return {{name: tensor.detach().cpu() for name, tensor in end.items()}}


for kind in (test_engine.language, test_engine.task):
    for mask in (False, True):
        ends = {{}}
        for name, changes in {{
            "plain": [(False, None)],
            "plain again": [(False, None)],
            "replayed": [(True, None)],
            "plain, then replayed": [(False, 7), (True, None)],
            "replayed, then plain": [(True, 7), (False, None)],
        }}.items():
            ends[name] = trained(kind, mask, f"{{kind.__name__}}-{{mask}}-{{name}}", changes)
        plain = ends.pop("plain")
        for name, end in ends.items():
            distance = float(test_engine.distance(end, plain))
            print(kind.__name__, mask, name, distance)
            assert distance < 1e-5, (kind.__name__, mask, name, distance)
"""


@pytest.mark.skipif(not HAS_GPU, reason="no GPU")
def test_a_replayed_step_is_the_plain_one(base, tmp_path):
    """Over dropout, over validation, and over a resume from one to the other; to rounding, since
    a GPU adds up the gradients of a token that occurs twice in any order."""
    script = tmp_path / "script.py"
    script.write_text(
        REPLAYED.format(tests=str(PROJECT / "tests"), base=str(base.folder), out=str(tmp_path))
    )
    environment = with_the_gpu({**os.environ, "DEFTX_TEST_ON_GPU": "1"})
    done = subprocess.run(
        [sys.executable, str(script)],
        env={**environment, "PYTHONPATH": os.pathsep.join([str(PROJECT), *sys.path])},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("precision", "dtype", "bound"),
    [("fp32", "float64", test_engine.TO_ROUNDING), ("bf16", "float32", 0.1)],
)
def test_training_keeps_to_its_device(base, tmp_path, simulate, precision, dtype, bound):
    begin = simulate + BEGIN
    engine = {"precision": precision, "compile": False, "graph": False}
    compare_with_cpu(base, tmp_path, bound, os.environ, before=begin, dtype=dtype, **engine)


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
