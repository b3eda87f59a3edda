"""Training on a GPU beside the CPU, and every stage on one: on the machine's, if there is one, and
else on one that is pretended. All other tests run on the CPU."""

import itertools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import test_engine
import torch
from conftest import PROJECT, VISIBLE_DEVICES
from pretended_gpu import build
from safetensors.torch import load_file
from workspace import Workspace

from deftx.store.tensors import TensorFile

REAL = pytest.mark.skipif(
    not Path("/dev/nvidia0").exists() or VISIBLE_DEVICES == "", reason="no GPU"
)
PRETENDED = pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("g++") is None or torch.version.cuda is not None,
    reason="a pretended GPU needs Linux, g++ and PyTorch's build for CPUs",
)


BEGIN = """
import pretended_gpu.tensors
pretended_gpu.tensors.begin()
"""


@pytest.fixture(scope="module")
def load(tmp_path_factory):
    """Code that has to run before torch is imported; BEGIN may follow later."""
    library = build(tmp_path_factory.mktemp("library"))
    return f"""
import sys
sys.path.insert(0, {str(PROJECT / "tests")!r})
import pretended_gpu
pretended_gpu.load({str(library)!r})
"""


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
        outcome, weights = test_engine.trained(base, kind(base), mask, Session(engine=engine))
        assert outcome["engine"]["device"] == "cuda"
        weights = {{name: weight.cpu() for name, weight in weights.items()}}
        save_file(weights, Path({out!r}) / f"{{kind.__name__}}-{{mask}}.safetensors")
print(torch.cuda.max_memory_allocated())
"""


def with_its_devices(environment):
    """An environment in which the machine's GPUs are not hidden, as they are from the tests."""
    given = {**environment, "CUDA_VISIBLE_DEVICES": VISIBLE_DEVICES}
    return {name: value for name, value in given.items() if value is not None}


def beside_the_cpu(base, folder, bound, precision, compile, environment, before=""):
    """Train on a GPU in a process that begins with `before`, and hold its weights to the CPU's."""
    script = folder / "script.py"
    script.write_text(
        before
        + SCRIPT.format(
            tests=str(PROJECT / "tests"), base=str(base.folder), out=str(folder),
            precision=precision, compile=compile,
        )
    )  # fmt: skip
    done = subprocess.run(
        [sys.executable, str(script)],
        env={**environment, "PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    kinds = (test_engine.language, test_engine.task)
    for kind, mask in itertools.product(kinds, (False, True)):
        _, expected = test_engine.trained(base, kind(base), mask)
        found = load_file(folder / f"{kind.__name__}-{mask}.safetensors")
        assert test_engine.distance(found, expected) < bound, (kind.__name__, mask)


PRECISIONS = pytest.mark.parametrize(("precision", "bound"), [("fp32", 1e-3), ("bf16", 0.1)])


@REAL
@pytest.mark.parametrize("compile", [False, True, "reduce-overhead"])
@PRECISIONS
def test_a_gpu_computes_what_a_cpu_does(base, tmp_path, precision, compile, bound):
    environment = with_its_devices({**os.environ, "DEFTX_TEST_ON_GPU": "1"})
    beside_the_cpu(base, tmp_path, bound, precision, compile, environment)


@PRETENDED
@PRECISIONS
def test_training_keeps_to_its_device(base, tmp_path, load, precision, bound):
    beside_the_cpu(base, tmp_path, bound, precision, False, os.environ, load + BEGIN)


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


@PRETENDED
def test_the_pretended_gpu_refuses_what_a_gpu_refuses(load):
    done = subprocess.run(
        [sys.executable, "-c", load + BEGIN + REFUSED], capture_output=True, text=True
    )
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 8, done.stdout + done.stderr


@pytest.mark.parametrize(
    "where", [pytest.param("real", marks=REAL), pytest.param("pretended", marks=PRETENDED)]
)
def test_every_stage_keeps_to_its_device(request, tmp_path, where):
    """A run of every method; what trains says that it did so on a GPU."""
    made = Workspace(tmp_path)
    del made.config["languages"]["qtb"]
    made.config["languages"]["qaa"] = {"name": "Source", "text": "text"}
    made.config["base"]["pretrain"] |= {"intermediate": 96, "vocabulary": 150}
    more = [{"language": "qba", "dataset": "sentiment", "split": "train"}]
    made.config["tasks"]["several"] = {
        **made.config["tasks"]["sentiment"], "more_sources": more, "systems": ["deft-x"]
    }  # fmt: skip
    made.config["methods"] = {
        "full": {"prune": False, "retrain": False},
        "lt-sft": {"rounds": 2},
        "lt-sft-pruned": {"retrain": False},
        "deft-x": {"denoise": {"rank": 4, "residual_keep": 0.05}},
        "deft-x-energy": {"denoise": {"energy": 0.9}},
        "deft-x-auto": {"denoise": {"auto": "optimal-threshold"}},
        "sc-sft": {"shares": {"observed": "deft-x", "groups": [r"^embeddings\.", r"^encoder\."]}},
        "rand-sft": {"score": "random"},
        "ada-sft": {"gate": {}},
        "ada-sft-block": {"gate": {"granularity": "block"}},
        "bitfit": {"score": "none", "choose_from": r"\.bias$", "layer_norm": True},
        "mad-x": {"adapter": {"task_reduction": 4, "drop_last": 1}},
        "lora": {"lora": {}},
    }
    both = {"task": "full", "language": "full"}
    made.config["systems"] = {
        **{name: {"task": name, "language": "lt-sft"} for name in made.config["methods"]},
        **{name: {"task": name} for name in ("full", "deft-x", "mad-x")},
        "deft-x-on-source": {"task": "deft-x", "task_start": "lt-sft"},
        "ties": {**both, "combine": {"ties": {"density": 0.2}}},
        "dare": {**both, "combine": {"dare": {"density": 0.5}}},
    }
    made.write_config()
    if where == "real":
        made.environment = with_its_devices(made.environment)
    else:
        # Only stages that ask for a device see one.
        added = {"__init__.py": request.getfixturevalue("load"), "device.py": BEGIN}
        for name, code in added.items():
            with (made.folder / "deftx" / name).open("a") as file:
                file.write(code)
    made.run("--keep-going")
    trained = {}
    for path in made.results.glob("**/*.safetensors"):
        facts = TensorFile(path).provenance
        if "engine" in facts.get("outcome", {}):
            trained.setdefault(facts["stage"], set()).add(facts["outcome"]["engine"]["device"])
    stages = ("full", "sparse", "gate", "gated", "adapter", "lora")
    assert trained == {stage: {"cuda"} for stage in stages}
