"""A tiny multilingual base, a finished run, and what else tests share."""

import os
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

# The suite runs on the CPU, even where there is a GPU; tests for GPUs restore it.
VISIBLE_DEVICES = os.environ.get("CUDA_VISIBLE_DEVICES")
if "DEFTX_TEST_ON_GPU" not in os.environ:
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    os.environ["TRITON_INTERPRET"] = "1"  # read when Triton is imported, which PyTorch may do
HAS_GPU = Path("/dev/nvidia0").exists() and VISIBLE_DEVICES != ""

import pytest  # noqa: E402
import simulated_gpu  # noqa: E402
import torch  # noqa: E402

PROJECT = Path(__file__).parent.parent
PATIENCE = 60
"""Seconds to wait for something that takes a few at most, on a machine with other work."""

# Threads that wait for a core make a tiny model fifty times slower; a single one does not wait.
torch.set_num_threads(int(os.environ.get("DEFTX_TEST_THREADS", "1")))


LONGEST = ("test_workflow.py", "test_workflow_tools.py", "test_whole_runs.py", "test_engine.py")
"""Files that run first, since they would keep one process busy at the end."""


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data, models and oracles beside the project, if there is one."""
    folder = Path(os.environ.get("DEFTX_SHARED", PROJECT.parent / "shared"))
    if not (folder / "oracles").is_dir():
        pytest.skip("no folder of oracles beside the project (DEFTX_SHARED)")
    return folder


OF_A_BASE = {"model_type": "bert", "depth": 2, "positions": None, "files": {}}
"""Facts of a `backbone.json` that most tests do not look at."""

WORDS = "ba be bi bo bu da de di do du ga ge gi go gu ka ke ki ko ku la le li lo lu".split()


def sentences(count: int, seed: int = 0) -> list[str]:
    """Sentences of random syllables, enough for a tokenizer."""
    generator = torch.Generator().manual_seed(seed)
    draws = torch.randint(len(WORDS), (count, 12), generator=generator).tolist()
    return [
        " ".join("".join(WORDS[i] for i in row[j : j + 2]) for j in range(0, 12, 2))
        for row in draws
    ]


def with_the_gpu(environment):
    """The environment, with the machine's GPUs visible."""
    given = {**environment, "CUDA_VISIBLE_DEVICES": VISIBLE_DEVICES, "TRITON_INTERPRET": None}
    return {name: value for name, value in given.items() if value is not None}


@pytest.fixture(scope="session")
def simulated(tmp_path_factory) -> str | None:
    """Code that prepares a process for a simulated GPU, if this is possible here."""
    return simulated_gpu.prepared(tmp_path_factory.mktemp("library"))


class KillError(Exception):
    """Simulates a kill: nothing is saved."""


def kill_before(step):
    def before_step(done):
        if done == step:
            raise KillError

    return before_step


def without_dropout(model):
    """The model without anything random in training."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return model


@pytest.fixture(scope="session")
def base_folder(tmp_path_factory) -> Path:
    """A base of 2 layers, hidden 32, pretrained for 3 steps, as `deftx base` writes it."""
    from deftx.stages.base.run import Params, base
    from deftx.stages.base.settings import Pretrain
    from deftx.store.items import write_items

    folder = tmp_path_factory.mktemp("base")
    text = folder / "text.parquet"
    write_items(text, [{"id": str(i), "text": s} for i, s in enumerate(sentences(200))])
    settings = Pretrain(
        text="text",
        languages=["qaa"],
        vocabulary=150,
        layers=2,
        hidden=32,
        heads=2,
        intermediate=48,
        max_length=32,
        steps=3,
        batch_size=8,
        warmup_steps=1,
    )
    base(Params(id="tiny", pretrain=settings), text=[text], out=folder / "model.safetensors")
    return folder


@pytest.fixture
def base(base_folder):
    """The description of the tiny base."""
    from deftx.models.base import Base

    return Base.load(base_folder)


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Path:
    """The folder of a workspace with a finished run, which all test processes share."""
    from workspace import finished_run  # which imports this file

    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "finished"
    finished_run(folder)
    return folder


@pytest.fixture(scope="module")
def workspace(finished, tmp_path_factory):
    """A copy of the finished run, which the tests of a module may change."""
    from workspace import Workspace

    made = Workspace(tmp_path_factory.mktemp("project"), one_server=True, finished=finished)
    yield made
    made.close()
