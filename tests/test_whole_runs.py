"""Runs from nothing to the end: methods of every kind, with what an estimate says of them before;
and one that is interrupted."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from safetensors import safe_open
from transformers import AutoConfig
from workspace import Workspace

from deftx.estimate.sizes import Sizes
from deftx.estimate.work import Works
from deftx.plan.config import read_config
from deftx.plan.plan import Plan
from deftx.stages.table import path_of

pytestmark = pytest.mark.workflow


def test_a_method_of_every_kind_runs_from_a_source_vector(tmp_path):
    """In one run: tasks that start from the source's vector, two seeds, and each kind of method."""
    workspace = Workspace(tmp_path)
    config = workspace.config
    config.update(run="kinds", seeds=[0, 1], task_start="lt-sft")
    config["languages"] = {"qta": {"text": "text"}, "qaa": {"text": "text"}}
    config["methods"] = {
        "full": {"prune": False, "retrain": False},
        "lt-sft": {},
        "deft-x": {"denoise": {"rank_share": 0.1, "residual_keep": 0.05}},
        "denoised": {"denoise": {"energy": 0.5}, "prune": False, "retrain": False},
        "pruned": {"retrain": False},
        "sc-sft": {"shares": {r"^embeddings\.": 0.1, r"^encoder\.": 0.9}},
        "observed": {"shares": {"observed": "lt-sft"}},
        "rand-sft": {"score": "random", "budget": 99, "learning_rate": 0.01},
        "bitfit": {"score": "none", "choose_from": r"\.bias$", "layer_norm": True},
        "automatic": {"denoise": {"auto": "optimal-threshold"}},
        "rounds": {"rounds": 2},
        "ada-sft": {"gate": {"granularity": "block"}},
        "mad-x": {"adapter": {}},
        "lora": {"lora": {}},
    }
    config["systems"] = {name: {"task": name} for name in config["methods"]}
    merged = {"ties": {"density": 0.2}, "layer_swap": {"bottom": 1, "top": 0}}
    for name, how in merged.items():
        system = {"task": "full", "language": "full", "combine": {name: how}}
        config["systems"][name.replace("_", "-")] = system
    config["systems"]["from-the-base"] = {"task": "lt-sft", "task_start": "base"}
    several = json.loads(json.dumps(config["tasks"]["sentiment"]))
    several["more_sources"] = [{"language": "qta", "dataset": "sentiment", "split": "train"}]
    config["tasks"]["several"] = {**several, "systems": ["lt-sft", "deft-x"]}
    config["systems"]["mixed"] = {"task": "lt-sft", "language": "full", "language_scale": 0.5}
    workspace.write_config()
    workspace.run()
    assert workspace.planned() == {}
    for seed in (0, 1):
        observed, plain = (
            (workspace.results / f"mask/{m}/task-sentiment/lt-sft/seed{seed}.safetensors.json")
            for m in ("observed", "lt-sft")
        )
        contents = [json.loads(path.read_text())["tensors"] for path in (observed, plain)]
        assert contents[0] == contents[1]
    the_estimate_is_what_was_made(workspace)


def the_estimate_is_what_was_made(workspace):
    """Bytes of the large vectors without header and head, and steps of every training, are what the
    estimate says before they exist. It runs in the tests' folder, where there are no results."""
    plan = Plan(read_config(workspace.folder / "tiny.yaml"))
    sizes = Sizes(plan, AutoConfig.from_pretrained(workspace.results / "base"))
    works, stages = Works(plan), set()
    for artefact in plan.artefacts:
        work = works.of(artefact)
        if artefact.stage in ("base", "evaluate") or not path_of(artefact).endswith(".safetensors"):
            continue
        with safe_open(workspace.results / artefact.path, framework="pt") as file:
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
    assert stages == {"full", "denoise", "mask", "sparse", "compose"}


def test_ctrl_c_and_the_same_command_again_give_the_same_bytes(tmp_path):
    """As in a terminal: the signal goes to Snakemake and to its jobs."""
    runs = []
    for name in ("interrupted", "whole"):
        (tmp_path / name).mkdir()
        made = Workspace(tmp_path / name)
        made.config["language_training"] |= {"min_steps": 200, "max_steps": 200}
        made.config["systems"] = {"lt-sft": {"task": "lt-sft"}}
        made.write_config()
        runs.append(made)
    interrupted, whole = runs
    command = [sys.executable, "-m", "snakemake", "--configfile", "tiny.yaml", "--cores", "2"]
    process = subprocess.Popen(
        command,
        cwd=interrupted.folder,
        env={**interrupted.environment, "DEFTX_CHECKPOINT_MINUTES": "0.001"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        # Whoever runs the tests in the background may have them ignore it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    states = "full/lang-qta/seed0/.checkpoints/*/step-*.safetensors.json"
    while not list(interrupted.results.glob(states)):
        assert process.poll() is None
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait() != 0
    assert not (interrupted.results / "full/lang-qta/seed0/model.safetensors").exists()
    assert list(interrupted.results.glob(states))
    ran = interrupted.run()
    assert (
        "base" not in ran
        and "going on from step"
        in (interrupted.results / "logs/full/lang-qta/seed0/model.log").read_text()
    )
    whole.run()
    assert interrupted.artefacts() == whole.artefacts
