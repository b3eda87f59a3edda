"""One run of methods of every kind, from nothing to the end, on a GPU if there is one and else on a
simulated one; its results are compared with the estimate made before it."""

import json

import pytest
from conftest import HAS_GPU, with_the_gpu
from safetensors import safe_open
from simulated_gpu import BEGIN
from transformers import AutoConfig
from workspace import Workspace

from deftx.estimate.sizes import Sizes
from deftx.estimate.work import Works
from deftx.plan.config import read_config
from deftx.plan.plan import Plan
from deftx.stages.table import path_of
from deftx.store.tensors import TensorFile

pytestmark = pytest.mark.workflow


def write_config_of_every_kind(workspace):
    """Methods of every kind, whose tasks start from the source's vector."""
    config = workspace.config
    config.update(run="kinds", task_start="lt-sft")
    config["languages"] = {"qta": {"text": "text"}, "qaa": {"name": "Source", "text": "text"}}
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
        "low": {"keep_lower": 0.5},
        "ada-sft": {"gate": {}},
        "ada-sft-block": {"gate": {"granularity": "block"}},
        "mad-x": {"adapter": {"task_reduction": 4, "drop_last": 1}},
        "lora": {"lora": {}},
    }
    config["systems"] = {name: {"task": name} for name in config["methods"]}
    merged = {
        "ties": {"density": 0.2}, "dare": {"density": 0.5}, "layer_swap": {"bottom": 1, "top": 0},
        "tsv": {},
    }  # fmt: skip
    for name, how in merged.items():
        system = {"task": "full", "language": "full", "combine": {name: how}}
        config["systems"][name.replace("_", "-")] = system
    config["systems"]["from-the-base"] = {"task": "lt-sft", "task_start": "base"}
    config["systems"]["mixed"] = {"task": "lt-sft", "language": "full", "language_scale": 0.5}
    lines = {"slope": {"alpha": 1, "beta": -1}}
    config["systems"]["slope"] = {"task": "lora", "task_depth": lines, "language": "full"}
    config["systems"]["lower"] = {"task": "lt-sft", "language_depth": {"share": 0.5}}
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
    made = stages_that_were_made_as_estimated(workspace)
    assert made == {"full", "denoise", "mask", "sparse", "compose"}


def stages_that_were_made_as_estimated(workspace):
    """Bytes of the large vectors without header and head, and steps of every training, are what the
    estimate says before they exist. It runs in the tests' folder, where there are no results."""
    plan = Plan(read_config(workspace.folder / "tiny.yaml"))
    sizes = Sizes(plan, AutoConfig.from_pretrained(workspace.results / "base"))
    works, stages = Works(plan), set()
    for artefact in plan.artefacts:
        work = works.of(artefact)
        if artefact.stage in ("base", "evaluate") or not path_of(artefact).endswith(".safetensors"):
            continue
        with safe_open(workspace.results / path_of(artefact), framework="pt") as file:
            outcome = json.loads(file.metadata()["deftx"]).get("outcome", {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if work.steps is not None:
            few = outcome["steps"] <= work.steps.value
            assert few if work.steps.at_most else outcome["steps"] == work.steps.value, artefact
        expected = sizes.of(artefact, work.trains)
        if expected is None or expected.value < 10_000:  # heads alone, and vectors of 99 entries
            continue
        stages.add(artefact.stage)
        found = sum(t.nbytes for name, t in tensors.items() if not name.startswith("head."))
        assert found <= expected.value * 1.02, (artefact, found, expected)
        assert expected.at_most or found >= expected.value * 0.98, (artefact, found, expected)
    return stages
