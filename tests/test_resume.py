"""Interrupted training goes on with the same bits, and resumes from nothing else."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest
import torch
from conftest import PROJECT, KillError, kill_before, sentences
from safetensors.torch import load_file
from training import differing, killed_and_resumed, language, save_mask, snapshot, task

from deftx.cli.main import main
from deftx.engine.checkpoint import Checkpoint
from deftx.engine.fit import fit
from deftx.engine.resume import StopRequest
from deftx.engine.session import Session
from deftx.models.base import Base
from deftx.stages.mask.math import uniform
from deftx.store.errors import CheckpointError
from deftx.store.items import write_items
from deftx.store.tensors import TensorFile, save_tensors


@pytest.fixture(autouse=True)
def _every_step(monkeypatch):
    monkeypatch.setenv("DEFTX_CHECKPOINT_MINUTES", "0")


def trained(base, kind=task, sparse=False, **given):
    changes = {"accumulation": 2, "evaluate_every": 2} if kind is task else {}
    model, *objective_and_settings = kind(base, epochs=2.5, **changes)
    mask = uniform(base.maskable, 900, 0) if sparse else None
    session = Session(order_seed=1, draw_seed=2, dropout_seed=3, **given)
    outcome = fit(model, *objective_and_settings, mask=mask, session=session)
    return outcome, snapshot(model)


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("kind", [language, task])
def test_resumed_training_has_the_bits_of_uninterrupted_training(base, tmp_path, kind, sparse):
    """Stopped several times: mid-epoch, where an evaluation is due, and before the last step;
    with dropout, order of examples, masked tokens, moments, schedule and best checkpoint."""
    outcome, weights = trained(base, kind, sparse)
    assert any(p.p > 0 for p in kind(base)[0].modules() if isinstance(p, torch.nn.Dropout))
    again, resumed = killed_and_resumed(
        lambda **given: trained(base, kind, sparse, **given),
        tmp_path / "model.safetensors",
        (1, 4, 5, outcome["steps"] - 1),
    )
    assert again == outcome and differing(resumed, weights) == set()


def test_a_checkpoint_after_the_last_step_is_enough(base, tmp_path):
    with Checkpoint(tmp_path / "m.safetensors", {}) as checkpoint:
        outcome, weights = trained(base, language, True, checkpoint=checkpoint)
        assert checkpoint.load()[1]["step"] == outcome["steps"] - 1
        again, resumed = trained(base, language, True, checkpoint=checkpoint)
    assert again == outcome and differing(resumed, weights) == set()


def test_a_checkpoint_of_other_parameters_is_never_used(base, tmp_path):
    out = tmp_path / "m.safetensors"
    with Checkpoint(out, {"learning_rate": 1}) as checkpoint, pytest.raises(KillError):
        trained(base, checkpoint=checkpoint, before_step=kill_before(3))
    with Checkpoint(out, {"learning_rate": 2}) as other:
        assert other.load() is None
        other.save(1, {"a": torch.zeros(1)}, {})
    with Checkpoint(out, {"learning_rate": 1}) as checkpoint:
        assert checkpoint.load()[1]["step"] == 2


def test_checkpoints_of_other_parameters_are_few_and_go_when_the_artefact_is_made(tmp_path):
    out = tmp_path / "m.safetensors"
    for value in range(6):
        with Checkpoint(out, {"value": value}) as checkpoint:
            checkpoint.save(1, {"a": torch.zeros(1)}, {})
        assert len(list((tmp_path / ".checkpoints").iterdir())) <= 3
    with Checkpoint(tmp_path / "other.safetensors", {}) as other:
        other.save(1, {"a": torch.zeros(1)}, {})
    with Checkpoint(out, {"value": 9}) as checkpoint:
        checkpoint.remove()
    assert [path.name for path in (tmp_path / ".checkpoints").iterdir()] == [other.folder.name]


def test_a_second_process_is_refused_and_the_error_names_the_first(tmp_path):
    script = (
        "import sys, pathlib\n"
        "from deftx.engine.checkpoint import Checkpoint\n"
        "with Checkpoint(pathlib.Path(sys.argv[1]), {}):\n"
        "    print('held', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    out = tmp_path / "m.safetensors"
    holder = subprocess.Popen(
        [sys.executable, "-c", script, str(out)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=PROJECT,
    )  # fmt: skip
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(CheckpointError, match=f"process {holder.pid} on .*, since 20"):
        Checkpoint(out, {}).__enter__()
    with Checkpoint(out, {"other": 1}):
        pass
    holder.kill()
    holder.communicate()
    with Checkpoint(out, {}) as checkpoint:  # the lock dies with its process
        assert checkpoint.load() is None


def test_a_truncated_checkpoint_is_set_aside_and_logged(base, tmp_path, caplog):
    out = tmp_path / "m.safetensors"
    with Checkpoint(out, {}) as checkpoint, pytest.raises(KillError):
        trained(base, task, True, checkpoint=checkpoint, before_step=kill_before(3))
    (state,) = checkpoint.folder.glob("*.safetensors")
    state.write_bytes(state.read_bytes()[:-100])
    with Checkpoint(out, {}) as checkpoint:
        assert checkpoint.load() is None
    assert "a checkpoint cannot be used" in caplog.text and "corrupt" in caplog.text


def test_a_checkpoint_of_another_layout_is_set_aside_and_training_starts_again(
    base, tmp_path, caplog
):
    """As one that an earlier version wrote: without a layout, and with other tensors."""
    outcome, weights = trained(base)
    with Checkpoint(tmp_path / "m.safetensors", {}) as checkpoint:
        old = checkpoint.folder / "step-000000004.safetensors"
        save_tensors(old, {"a": torch.zeros(1)}, stage="checkpoint", state={"step": 4})
        again, found = trained(base, checkpoint=checkpoint)
    assert again == outcome and not differing(found, weights)
    assert old.with_suffix(".other").exists() and "layout None, expected 2" in caplog.text


def test_a_kill_between_two_checkpoints_leaves_one(tmp_path, monkeypatch):
    """At any moment: after the new file and before its manifest; before the old one is deleted."""
    with Checkpoint(tmp_path / "m.safetensors", {}) as checkpoint:
        checkpoint.save(1, {"a": torch.ones(1)}, {"step": 1})
        monkeypatch.setattr("deftx.store.tensors.write_manifest", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            checkpoint.save(2, {"a": torch.zeros(1)}, {"step": 2})
        assert checkpoint.load()[1] == {"step": 1}
        monkeypatch.undo()
        monkeypatch.setattr("deftx.engine.checkpoint._unlink", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            checkpoint.save(3, {"a": torch.zeros(1)}, {"step": 3})
        assert checkpoint.load()[1] == {"step": 3}


def test_a_loss_that_explodes_stops_and_leaves_the_last_good_checkpoint(base, tmp_path):
    model, *given = task(base)

    def spoil(done):
        if done == 3:
            for parameter in model.parameters():
                parameter.data.mul_(float("nan"))

    with (
        Checkpoint(tmp_path / "m.safetensors", {}) as checkpoint,
        pytest.raises(
            FloatingPointError,
            match=r"step 3: not all .* are finite .*; the state after step 2 is kept",
        ),
    ):
        fit(model, *given, session=Session(checkpoint=checkpoint, before_step=spoil))
    with Checkpoint(tmp_path / "m.safetensors", {}) as checkpoint:
        tensors, state = checkpoint.load()
    assert state["step"] == 2 and all(torch.isfinite(t).all() for t in tensors.values())


@pytest.fixture(scope="module")
def stages(base_folder, tmp_path_factory):
    """Command lines of both phases, long enough to be interrupted, and what they make."""
    folder, base = tmp_path_factory.mktemp("stages"), Base.load(base_folder)
    text = [{"id": str(i), "text": line} for i, line in enumerate(sentences(300))]
    write_items(folder / "text.parquet", text)
    save_mask(folder / "mask.safetensors", uniform(base.maskable, 900, 0), base)
    settings = (
        "{learning_rate: 0.005, batch_size: 4, epochs: 1, min_steps: 300, max_length: 16, "
        "evaluate_every: 50}"
    )
    common = ["--base", str(base_folder), "--target", "lang-qaa", "--language", settings,
              "--train", str(folder / "text.parquet")]  # fmt: skip
    commands = {
        "full": ["full", *common],
        "sparse": ["sparse", *common, "--method", "m", "--mask", str(folder / "mask.safetensors")],
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEFTX_CHECKPOINT_MINUTES", "1000")
        for name, command in commands.items():
            assert main([*command, "--out", str(folder / name / "expected.safetensors")]) == 0
    return folder, commands


def start(command, out):
    environment = {
        **os.environ, "DEFTX_CHECKPOINT_MINUTES": "0.001", "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(PROJECT), "HF_HUB_OFFLINE": "1",
    }  # fmt: skip
    return subprocess.Popen(
        [sys.executable, "-m", "deftx", *command, "--out", str(out)],
        env=environment, cwd=out.parent, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def wait_for_checkpoint(process, out):
    for _ in range(6000):
        if list(out.parent.glob(".checkpoints/*/step-*.safetensors.json")):
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    raise AssertionError("no checkpoint within a minute")


@pytest.mark.parametrize("phase", ["full", "sparse"])
def test_killed_at_any_moment_the_same_command_ends_with_the_same_bytes(phase, stages, tmp_path):
    folder, commands = stages
    for longest in (0.5, 0.1, 0.02, 0):  # on a fast machine the training may end before the kill
        out = tmp_path / f"{phase}-{longest}" / "made.safetensors"
        out.parent.mkdir()
        process = start(commands[phase], out)
        wait_for_checkpoint(process, out)
        time.sleep(random.uniform(0, longest))  # any moment will do
        process.kill()
        process.communicate()
        if not out.exists():
            break
    assert not out.exists()
    process = start(commands[phase], out)
    log = process.communicate()[1]
    assert process.returncode == 0, log
    assert "going on from step" in log
    assert out.read_bytes() == (folder / phase / "expected.safetensors").read_bytes()
    assert not (out.parent / ".checkpoints").exists()


def test_sigterm_saves_and_exits_non_zero(stages, tmp_path):
    _, commands = stages
    out = tmp_path / "made.safetensors"
    process = start(commands["full"], out)
    wait_for_checkpoint(process, out)
    process.send_signal(signal.SIGTERM)
    log = process.communicate()[1]
    assert process.returncode == 128 + signal.SIGTERM, log
    step = int(log.split("stopped by SIGTERM after step ")[1].split()[0])
    (state,) = out.parent.glob(".checkpoints/*/step-*.safetensors")
    assert TensorFile(state).provenance["state"]["step"] == step
    assert "the same command goes on from there" in log and "Traceback" not in log
    assert json.loads((state.parent / "holder.json").read_text())["pid"] == process.pid
    assert set(load_file(state)) >= {"trained.head.lm_head.bias", "exp_avg.head.lm_head.bias"}


def test_only_a_second_ctrl_c_interrupts_the_saving():
    """A cluster's signal comes twice: to each process of a job, and from what started it."""
    with StopRequest() as stop:
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGUSR1):
            signal.raise_signal(number)
        assert stop.received == signal.SIGTERM
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    with StopRequest() as stop:
        signal.raise_signal(signal.SIGINT)
        assert stop.received == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
