"""The engine on a GPU beside the CPU, where there is one. All other tests run on the CPU."""

import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest
import test_engine
from conftest import PROJECT, VISIBLE_DEVICES
from safetensors.torch import load_file

pytestmark = pytest.mark.skipif(
    not Path("/dev/nvidia0").exists() or VISIBLE_DEVICES == "", reason="no GPU"
)

SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import torch
import test_engine
from safetensors.torch import save_file
from deftx.base import Base
from deftx.engine.session import Session
from deftx.settings.engine import Engine

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


@pytest.mark.parametrize("compile", [False, True, "reduce-overhead"])
@pytest.mark.parametrize(("precision", "bound"), [("fp32", 1e-3), ("bf16", 0.1)])
def test_a_gpu_computes_what_a_cpu_does(base, tmp_path, precision, compile, bound):
    script = tmp_path / "script.py"
    script.write_text(
        SCRIPT.format(
            tests=str(PROJECT / "tests"), base=str(base.folder), out=str(tmp_path),
            precision=precision, compile=compile,
        )
    )  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), "DEFTX_TEST_ON_GPU": "1"}
    if VISIBLE_DEVICES is None:
        del environment["CUDA_VISIBLE_DEVICES"]
    else:
        environment["CUDA_VISIBLE_DEVICES"] = VISIBLE_DEVICES
    done = subprocess.run(
        [sys.executable, str(script)], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    kinds = (test_engine.language, test_engine.task)
    for kind, mask in itertools.product(kinds, (False, True)):
        _, expected = test_engine.trained(base, kind(base), mask)
        found = load_file(tmp_path / f"{kind.__name__}-{mask}.safetensors")
        assert test_engine.distance(found, expected) < bound, (kind.__name__, mask)
