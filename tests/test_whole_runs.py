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

from deftx.estimate.items import Items
from deftx.estimate.shape import shape_of
from deftx.estimate.sizes import Sizes
from deftx.estimate.work import Works
from deftx.plan.checks import read_config
from deftx.plan.plan import Plan

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
    """Bytes of every artefact without its header, and steps of every training, lie within what the
    estimate says before anything is there."""
    plan = Plan(read_config(workspace.folder / "tiny.yaml"))
    shape = shape_of(AutoConfig.from_pretrained(workspace.results / "base"), "")
    items = Items(plan)  # of the folder that tests run in, where there are no results
    sizes, works = Sizes(plan, shape, items), Works(plan, shape, items)
    stages = set()
    for artefact in plan.artefacts():
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
    assert interrupted.artefacts() == whole.artefacts()
