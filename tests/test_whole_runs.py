"""One run of methods of every kind, from nothing to the end, on a GPU if there is one and else on a
simulated one; its results are compared with the estimate made before it."""

import json

import pytest
from conftest import HAS_GPU, with_the_gpu
from safetensors import safe_open
from simulated_gpu import BEGIN
from transformers import AutoConfig
from workspace import Workspace

from deftx.estimate.items import Items
from deftx.estimate.shape import shape_of
from deftx.estimate.sizes import Sizes
from deftx.estimate.work import Works
from deftx.plan.config import read_config
from deftx.plan.plan import Plan
from deftx.store.tensors import TensorFile

pytestmark = pytest.mark.workflow


def write_config_of_every_kind(workspace):
    """Methods of every kind, whose tasks start from the source's vector."""
    config = workspace.config
    config.update(run="kinds", task_start="lt-sft")
    config["languages"] = {"qta": {"text": "text"}, "qaa": {"name": "Source", "text": "text"}}
    config["base"]["pretrain"] |= {"intermediate": 96, "vocabulary": 150}
    config["methods"] = {
        "full": {"prune": False, "retrain": False},
        "lt-sft": {},
        "deft-x": {"denoise": {"rank_share": 0.1, "residual_keep": 0.05}},
        "denoised": {"denoise": {"energy": 0.5}, "prune": False, "retrain": False},
        "pruned": {"retrain": False},
        "sc-sft": {"shares": {r"^embeddings\.": 0.1, r"^encoder\.": 0.9}},
        "observed": {"shares": {"observed": "lt-sft"}},
        "groups": {"shares": {"observed": "deft-x", "groups": [r"^embeddings\.", r"^encoder\."]}},
        "rand-sft": {"score": "random", "budget": 99, "learning_rate": 0.01},
        "bitfit": {"score": "none", "choose_from": r"\.bias$", "layer_norm": True},
        "automatic": {"denoise": {"auto": "optimal-threshold"}},
        "rounds": {"rounds": 2},
        "ada-sft": {"gate": {}},
        "ada-sft-block": {"gate": {"granularity": "block"}},
        "mad-x": {"adapter": {"task_reduction": 4, "drop_last": 1}},
        "lora": {"lora": {}},
    }
    config["systems"] = {name: {"task": name} for name in config["methods"]}
    merged = {
        "ties": {"density": 0.2}, "dare": {"density": 0.5}, "layer_swap": {"bottom": 1, "top": 0}
    }  # fmt: skip
    for name, how in merged.items():
        system = {"task": "full", "language": "full", "combine": {name: how}}
        config["systems"][name.replace("_", "-")] = system
    config["systems"]["from-the-base"] = {"task": "lt-sft", "task_start": "base"}
    config["systems"]["mixed"] = {"task": "lt-sft", "language": "full", "language_scale": 0.5}
    several = json.loads(json.dumps(config["tasks"]["sentiment"]))
    several["more_sources"] = [{"language": "qta", "dataset": "sentiment", "split": "train"}]
    config["tasks"]["several"] = {**several, "systems": ["lt-sft", "deft-x"]}
    workspace.write_config()


def test_a_method_of_every_kind_runs_on_its_device_and_as_estimated(tmp_path, simulated):
    workspace = Workspace(tmp_path)
    write_config_of_every_kind(workspace)
    if HAS_GPU:
        workspace.environment = with_the_gpu(workspace.environment)
    elif simulated:
        # Only stages that ask for a device find one.
        for name, code in {"__init__.py": simulated, "models/device.py": BEGIN}.items():
            workspace.append(f"deftx/{name}", code)
    workspace.run()
    assert workspace.planned() == {}
    observed, plain = (
        json.loads((workspace.results / path).read_text())["tensors"]
        for path in (
            f"mask/{m}/task-sentiment/lt-sft/seed0.safetensors.json" for m in ("observed", "lt-sft")
        )
    )
    assert observed == plain
    trained = {}
    for path in workspace.results.glob("**/*.safetensors"):
        facts = TensorFile(path).provenance
        if "engine" in facts.get("outcome", {}):
            trained.setdefault(facts["stage"], set()).add(facts["outcome"]["engine"]["device"])
    device = "cuda" if HAS_GPU or simulated else "cpu"
    stages = ("full", "sparse", "gate", "gated", "adapter", "lora")
    assert trained == {stage: {device} for stage in stages}
    the_estimate_is_what_was_made(workspace)


def the_estimate_is_what_was_made(workspace):
    """Bytes of every artefact without its header, and steps of every training, lie within what the
    estimate says before anything is there."""
    plan = Plan(read_config(workspace.folder / "tiny.yaml"))
    shape = shape_of(AutoConfig.from_pretrained(workspace.results / "base"), "")
    items = Items(plan)  # of the folder that tests run in, where there are no results
    sizes, works = Sizes(plan, shape, items), Works(plan, shape, items)
    stages = set()
    for artefact in plan.artefacts:
        expected = None if artefact.stage == "base" else sizes.of(artefact)
        if expected is None:
            continue
        stages.add(artefact.stage)
        path = workspace.results / artefact.path
        header = int.from_bytes(path.read_bytes()[:8], "little")
        found = path.stat().st_size - 8 - header
        # How many escapes gaps need is a matter of where the entries lie.
        loose = 0.9 if artefact.stage in ("mask", "sparse", "compose") else 1 - 1e-9
        assert loose * expected.low <= found <= expected.high / loose, (artefact, found, expected)
        with safe_open(path, framework="np") as file:
            outcome = json.loads(file.metadata()["deftx"]).get("outcome", {})
        if (steps := works.of(artefact).steps) is not None:
            assert steps.low <= outcome["steps"] <= steps.high, artefact
            trained = outcome["trained"] + outcome["trained_head"]
            assert trained == sizes.trained(artefact), artefact
    assert stages >= {"full", "denoise", "mask", "sparse", "adapter", "gate", "gated", "lora"}
