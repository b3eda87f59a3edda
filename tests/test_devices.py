"""GPUs: jobs that share one never declare more memory than it has, all others have theirs whole.
One job may use several. No hardware is needed."""

import errno
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yte
from conftest import PATIENCE, PROJECT
from imports import reached
from processes import runs, until
from tiny_config import TINY, with_key
from transformers import AutoModel, XLMRobertaConfig

from deftx.cli.main import main
from deftx.models.device import CONTEXT, available_device
from deftx.models.make import architecture_of
from deftx.plan.config import check_config
from deftx.plan.device_memory import CUDA, Shape, device_memory
from deftx.plan.plan import Plan
from deftx.run import devices
from deftx.run.devices import SHARES, VISIBLE, claimed, visible_devices
from deftx.stages.base.settings import Pretrain
from deftx.stages.table import STAGES
from deftx.store.errors import DeviceError, InputError


@pytest.fixture(autouse=True)
def _impatient():
    """A claim that is never granted fails its test instead of waiting for ever."""

    def fail(number, frame):
        raise TimeoutError("waited in vain")

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(2 * PATIENCE)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(autouse=True)
def locks(tmp_path, monkeypatch):
    """A folder of locks that no real job uses, and two simulated devices."""
    folder = tmp_path / "locks"
    folder.mkdir()
    monkeypatch.setenv("DEFTX_LOCK_DIR", str(folder))
    monkeypatch.setenv(VISIBLE, "0,1")
    for name in ("SLURM_JOB_ID", "SLURM_STEP_ID", "LOCAL_RANK", "DEFTX_SHARE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(devices, "DEV", tmp_path / "dev")
    monkeypatch.setattr(devices, "SECONDS_BETWEEN_LOOKS", 0.02)
    cards(monkeypatch, tmp_path, "")
    return folder


def cards(monkeypatch, folder, text):
    """Let nvidia-smi print this in every process; "" is an error of its."""
    (folder / "smi").mkdir(exist_ok=True)
    script = folder / "smi/nvidia-smi"
    script.write_text(f"#!/bin/sh\necho '{text}'\n" if text else "#!/bin/sh\nexit 9\n")
    script.chmod(0o755)
    if str(folder) not in os.environ["PATH"]:
        monkeypatch.setenv("PATH", f"{folder / 'smi'}:{os.environ['PATH']}")
    devices._memory_of_smallest.cache_clear()


GIB = 2**30
CARD = "40960, Disabled, Default"


@pytest.fixture
def two_gpus(monkeypatch, tmp_path):
    """Two GPUs of 40 GiB, which a job shares that declares at most 8."""
    cards(monkeypatch, tmp_path, f"{CARD}\n{CARD}")


def is_free(*names):
    """Whether another job could take all of these devices now."""
    return not devices._held([file for n in names for file in (_whole(n), *devices._shares(n))])


def _whole(name):
    return devices._lock_file(name)


HOLD = """
import sys, time
from deftx.run.devices import claimed
with claimed(1, "deftx full first.safetensors", int(sys.argv[1]) or None):
    print("has it", flush=True)
    time.sleep(1000)
"""


@contextmanager
def held(memory=0):
    """Another process that has a device, and declares so many bytes."""
    command = [sys.executable, "-c", HOLD, str(memory)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "has it\n"
        yield process
        process.kill()


@pytest.fixture
def holder():
    """Another process that holds a device whole."""
    with held() as process:
        yield process


# The claim


DIARY = """
import os, sys, time
from deftx.run.devices import claimed
count, memory, diary = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
def write(what):
    line = f"{what} {os.environ['CUDA_VISIBLE_DEVICES']} {memory if share else 0}\\n"
    os.write(os.open(diary, os.O_WRONLY | os.O_APPEND | os.O_CREAT), line.encode())
with claimed(count, "a test", memory or None) as share:
    write("begin")
    time.sleep(0.1)
    write("end")
"""


@pytest.mark.parametrize(
    "jobs",
    [
        [(1, 0)] * 8,
        [(2, 0), (1, 0), (1, 0), (2, 0), (1, 0), (2, 0)],
        [(1, 8)] * 7 + [(1, 9), (2, 1)] + [(1, 5)] * 3 + [(1, 0), (2, 0)],
    ],
)
@pytest.mark.usefixtures("two_gpus")
def test_many_processes_on_two_devices_never_declare_more_than_there_is(tmp_path, jobs):
    """Those that declare too much or nothing have theirs whole; and all get what they need, in
    whatever order they come."""
    diary = tmp_path / "diary"
    started = [
        subprocess.Popen([sys.executable, "-c", DIARY, str(n), str(memory * GIB), str(diary)])
        for n, memory in jobs
    ]
    assert [job.wait(PATIENCE) for job in started] == [0] * len(jobs)
    users, sizes = {"0": [], "1": []}, []
    for line in diary.read_text().splitlines():
        what, mine, memory = line.split()
        for name in mine.split(","):
            (users[name].append if what == "begin" else users[name].remove)(int(memory))
            assert users[name] == [0] or 0 not in users[name], diary.read_text()
            assert len(users[name]) <= 4 and sum(users[name]) <= 40 * GIB
        if what == "begin":
            sizes.append((mine.count(",") + 1, int(memory) // GIB))
    may = [(n, memory if n == 1 and memory <= 8 else 0) for n, memory in jobs]
    assert sorted(sizes) == sorted(may) and users == {"0": [], "1": []}


def test_the_claimed_device_is_the_only_visible_one_for_the_time_of_the_block():
    with claimed(1, "first"):
        assert os.environ[VISIBLE] == "0"
        os.environ[VISIBLE] = "0,1"  # as another process sees it
        with claimed(1, "second"):
            assert os.environ[VISIBLE] == "1" and not is_free("0") and not is_free("1")
    assert os.environ[VISIBLE] == "0,1" and is_free("0", "1")


def test_a_killed_holder_frees_its_device(holder):
    assert not is_free("0")
    holder.kill()
    holder.wait()
    with claimed(2, "next"):
        assert os.environ[VISIBLE] == "0,1"


def test_a_job_that_waits_logs_who_holds_what_again_and_again(holder, monkeypatch, caplog):
    monkeypatch.setattr(devices, "SECONDS_BETWEEN_MESSAGES", 0)
    caplog.set_level("INFO")
    monkeypatch.setattr(time, "sleep", lambda _: len(caplog.messages) < 2 or holder.kill())
    with claimed(2, "second"):
        assert len(caplog.messages) >= 2
    who = f"pid {holder.pid} on {socket.gethostname()}, deftx full first.safetensors, since 2"
    assert all(f"2 of 2 GPUs: 0 is held by {who}" in message for message in caplog.messages)
    assert all(message.endswith("; 1 is free") for message in caplog.messages)


@pytest.mark.usefixtures("holder", "two_gpus")
def test_the_variable_switches_sharing_off_or_claiming(monkeypatch):
    monkeypatch.setenv("DEFTX_SHARE_DEVICES", "1")
    with claimed(1, "second", GIB) as share:
        assert os.environ[VISIBLE] == "0" and share is None
    monkeypatch.setenv("DEFTX_SHARE_DEVICES", "0")
    with claimed(1, "second", GIB) as share:
        assert os.environ[VISIBLE] == "1" and share is None and devices._held([_whole("1")])
    for given in ("yes", ""):
        monkeypatch.setenv("DEFTX_SHARE_DEVICES", given)
        message = f"DEFTX_SHARE_DEVICES is '{given}', expected 0 or 1"
        with pytest.raises(InputError, match=message), claimed(1, "second", GIB):
            pass


# Sharing


@pytest.mark.usefixtures("two_gpus")
def test_small_jobs_are_spread_and_a_device_has_room_for_four(monkeypatch):
    with ExitStack() as stack:
        for device in "01010101":
            monkeypatch.setenv(VISIBLE, "0,1")
            assert stack.enter_context(claimed(1, "small", GIB)) == 8 * GIB
            assert os.environ[VISIBLE] == device
        monkeypatch.setenv(VISIBLE, "0,1")
        monkeypatch.setattr(time, "sleep", lambda _: stack.close())
        with claimed(1, "ninth", GIB):
            pass
    assert is_free("0", "1")


@pytest.mark.usefixtures("two_gpus")
def test_a_whole_claim_takes_a_device_that_nobody_shares(monkeypatch):
    with claimed(1, "small", GIB):
        assert os.environ[VISIBLE] == "0"
        monkeypatch.setenv(VISIBLE, "0,1")
        with claimed(1, "large"):
            assert os.environ[VISIBLE] == "1"


@pytest.mark.usefixtures("two_gpus")
def test_a_whole_claim_waits_for_those_that_share_and_no_other_joins_them(monkeypatch, caplog):
    monkeypatch.setenv(VISIBLE, "0")
    caplog.set_level("INFO")
    with held(GIB) as small:

        def look_on(_):
            # The large job has the device already, so a small one that comes finds no room.
            assert devices._take(["0"], 1, "another small job", shares=True) == {}
            small.kill()
            small.wait()

        monkeypatch.setattr(time, "sleep", look_on)
        with claimed(1, "large") as share:
            assert share is None
    (message,) = caplog.messages
    assert message.startswith("waiting for 1 of 1 GPUs: 0 is shared by pid ")


@pytest.mark.usefixtures("two_gpus")
def test_a_killed_job_frees_its_share(monkeypatch):
    monkeypatch.setenv(VISIBLE, "0")
    with held(GIB) as first, held(GIB), held(GIB), held(GIB):
        assert devices._take(["0"], 1, "fifth", shares=True) == {}
        first.kill()
        first.wait()
        assert [*devices._take(["0"], 1, "fifth", shares=True)] == ["0"]


@pytest.mark.parametrize(
    ("printed", "visible", "share"),
    [
        (CARD, "0", 8 * GIB),
        (f"{CARD}\n16384, [N/A], Default", "0,1", int(0.95 * 16 * GIB) // 4),  # the smallest
        (CARD, "GPU-8932f937", 8 * GIB),
        ("", "0", None),  # no nvidia-smi, or no driver
        ("No devices were found", "0", None),
        ("[N/A], [N/A], Default", "0", None),  # memory that is the processor's, too
        ("40960, Enabled, Default", "0", None),
        (CARD, "MIG-4", None),
        ("40960, Disabled, Exclusive_Process", "0", None),
        ("4096, Disabled, Default", "0", None),  # no room for 1 GiB in a quarter
    ],
)
def test_a_device_of_unknown_memory_or_that_admits_one_process_is_claimed_whole(
    printed, visible, share, monkeypatch, tmp_path
):
    cards(monkeypatch, tmp_path, printed)
    monkeypatch.setenv(VISIBLE, visible)
    with claimed(1, "a job", GIB) as found:
        assert found == share
        whole = devices._held([_whole(visible.split(",")[0])])
        assert bool(whole) == (share is None)


def test_slurm_is_trusted_between_allocations_and_not_within_one(holder, monkeypatch):
    for job in ("7", "8"):
        monkeypatch.setenv("SLURM_JOB_ID", job)
        with claimed(1, "first"):
            assert os.environ[VISIBLE] == "0"
            os.environ[VISIBLE] = "0,1"
            with claimed(1, "second"):
                assert os.environ[VISIBLE] == "1"


@pytest.mark.parametrize("name", ["GPU-8932f937-d72c-4106-c12f-20bd9faed9f6", "MIG-GPU-8932/1/0"])
def test_a_uuid_works(name, monkeypatch, locks):
    monkeypatch.setenv(VISIBLE, f"{name}, MIG-4")
    with claimed(1, "first"):
        assert os.environ[VISIBLE] == name and not is_free(name)


def test_an_index_is_that_of_the_device_file(monkeypatch, tmp_path, locks):
    """A container that has only /dev/nvidia3 calls it 0."""
    (tmp_path / "dev").mkdir()
    for name in ("nvidia3", "nvidiactl"):
        (tmp_path / "dev" / name).touch()
    monkeypatch.delenv(VISIBLE)
    assert visible_devices() == ["0"]
    with claimed(1, "first"):
        assert devices._held(locks.iterdir()) == [locks / "deftx-gpu-3.lock"]
    assert VISIBLE not in os.environ


@pytest.mark.parametrize(
    ("given", "rank"), [("", None), ("-1", None), ("NoDevFiles", None), (None, None), ("0,1", "1")]
)
def test_without_a_gpu_and_in_a_worker_nothing_is_claimed(given, rank, monkeypatch, locks):
    monkeypatch.delenv(VISIBLE) if given is None else monkeypatch.setenv(VISIBLE, given)
    if rank is not None:
        monkeypatch.setenv("LOCAL_RANK", rank)
    with claimed(2, "a job"):
        assert os.environ.get(VISIBLE) == given
    assert not list(locks.iterdir())


def test_any_user_of_the_machine_can_take_the_device_next(locks):
    before = os.umask(0o077)
    try:
        with claimed(1, "first"):
            pass
    finally:
        os.umask(before)
    assert {file.stat().st_mode & 0o777 for file in locks.iterdir()} == {0o666}


def test_a_folder_that_cannot_hold_locks_is_one_message(monkeypatch, locks):
    def flock(*_):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", flock)
    message = r"deftx-gpu-all.lock: cannot be locked .*not implemented.*set DEFTX_LOCK_DIR"
    with pytest.raises(DeviceError, match=message), claimed(1, "first"):
        pass


@pytest.mark.parametrize(
    ("given", "names"),
    [("3,-1,1", ["3"]), ("", []), ("cuda:0", None), ("0,,1", None), ("0,0", None)],
)
def test_devices_are_read_as_cuda_reads_them(given, names, monkeypatch):
    monkeypatch.setenv(VISIBLE, given)
    if names is not None:
        assert visible_devices() == names
        return
    with pytest.raises(ValueError, match=f"{VISIBLE} is '{given}', expected"):
        visible_devices()


# Several processes, one job

WORKER = """
import os, signal, sys, time
from pathlib import Path
from deftx.run.launcher import end_with_parent

end_with_parent(signal.SIGKILL)
rank = os.environ["LOCAL_RANK"]
def stop(number, frame):
    Path(f"stopped-{rank}").write_text(str(number))
    sys.exit(3)
signal.signal(signal.SIGTERM, stop)
signal.signal(signal.SIGUSR1, stop)
Path(f"pid-{rank}.tmp").write_text(str(os.getpid()))
Path(f"pid-{rank}.tmp").rename(f"pid-{rank}")
time.sleep(1000)
"""


@pytest.fixture
def running(tmp_path, monkeypatch):
    """A process that has launched two workers, and their ids."""
    monkeypatch.chdir(tmp_path)
    Path("worker.py").write_text(WORKER)
    code = (
        "import sys\nfrom deftx.run.devices import claimed\nfrom deftx.run.launcher import launch\n"
        "with claimed(2, 'a test'): sys.exit(launch(2, ['worker.py']))"
    )
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL) as process:
        files = [Path("pid-0"), Path("pid-1")]
        until(lambda: all(file.exists() for file in files) or process.poll() is not None)
        yield process, [int(file.read_text()) for file in files]
        process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_reaches_every_worker(running, number):
    process, workers = running
    process.send_signal(number)
    assert process.wait(PATIENCE) != 0
    assert [Path(f"stopped-{rank}").read_text() for rank in (0, 1)] == [str(int(number))] * 2
    assert not any(map(runs, workers))


@pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux signals a child when its parent ends"
)
@pytest.mark.parametrize("whom", ["job", "launcher"])
def test_when_job_or_launcher_is_killed_no_worker_goes_on(running, whom):
    process, workers = running
    stat = Path(f"/proc/{workers[0]}/stat").read_text()
    launcher = int(stat.rsplit(")", 1)[1].split()[1])
    os.kill(launcher if whom == "launcher" else process.pid, signal.SIGKILL)
    assert process.wait(PATIENCE) == (128 + signal.SIGKILL if whom == "launcher" else -9)
    until(lambda: not any(map(runs, [*workers, launcher])))
    assert is_free("0", "1")


FULL = ["--target", "lang-qaa", "--language", "{}", "--base", "b", "--train", "t", "--out", "x"]
FAKE = """
import json, os, sys
from pathlib import Path
rank = os.environ["LOCAL_RANK"]
found = {"arguments": sys.argv[1:], "devices": os.environ.get("CUDA_VISIBLE_DEVICES")}
Path(f"rank-{rank}.json").write_text(json.dumps(found))
sys.exit(rank == "1" and "--seed" in sys.argv)
"""


@pytest.mark.parametrize(
    ("visible", "option", "status"),
    [
        ("0,1,2", ["--params", '{"engine": {"devices": 2}}'], 0),
        ("", ["--engine", "{devices: 2}", "--seed", "7"], 1),  # on the CPU, without a claim
    ],
)
def test_a_job_on_two_devices_is_the_same_command_twice(
    visible, option, status, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)  # where `python -m` looks first, and a script does not
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/deftx").write_text(
        "import sys, deftx.cli.main\nsys.exit(deftx.cli.main.main())"
    )
    (tmp_path / "deftx").mkdir()
    (tmp_path / "deftx/__init__.py").touch()
    (tmp_path / "deftx/__main__.py").write_text(FAKE)
    monkeypatch.setenv(VISIBLE, visible)
    command = ["full", *option, *FULL]
    done = subprocess.run([sys.executable, "bin/deftx", *command], check=False)
    assert done.returncode == status
    for rank in (0, 1):
        found = json.loads(Path(f"rank-{rank}.json").read_text())
        assert found == {"arguments": command, "devices": "0,1" if visible else ""}


def test_more_devices_than_there_are_is_one_message(capsys):
    assert main(["full", "--params", '{"engine": {"devices": 3}}', *FULL]) == 1
    assert "deftx full: engine.devices is 3, expected at most 2" in capsys.readouterr().err


# The workflow


def test_the_stages_that_claim_a_gpu_are_those_that_may_use_one():
    reach = {
        stage for stage in STAGES if "deftx.models.device" in reached(f"deftx.stages.{stage}.run")
    }
    assert reach == {name for name, stage in STAGES.items() if stage.gpus != "none"}


def test_rules_that_ask_for_a_gpu_are_the_stages_that_claim_one():
    asked, shares = {}, {}
    for path in (PROJECT / "workflow/rules").glob("*.smk"):
        for name, body in re.findall(
            r"^rule (\w+):\n(.*?)(?=^rule|\Z)", path.read_text(), re.M | re.S
        ):
            if found := re.search(r"^ +gpu=(.*),$", body, re.M):
                asked[name] = found[1]
            if found := re.search(r"^ +gpu_shares=(.*),$", body, re.M):
                shares[name] = found[1]
    claiming = [name for name, stage in STAGES.items() if stage.gpus != "none"]
    assert asked == {stage: f'PLAN.gpus("{stage}")' for stage in claiming}
    assert shares == {stage: f'gpu_shares("{stage}")' for stage in claiming}


@pytest.mark.parametrize(
    ("given", "jobs"), [("0", 1), ("2,3", 2), ("GPU-a,GPU-b,GPU-c", 3), ("", 1000), ("-1", 1000)]
)
def test_the_profile_counts_the_visible_gpus(given, jobs, monkeypatch):
    monkeypatch.setenv(VISIBLE, given)
    profile = yte.process_yaml((PROJECT / "profiles/default/profile.yaml").read_text())
    assert profile["resources"] == {"gpu_shares": SHARES * jobs}
    assert jobs == (len(visible_devices()) or 1000)


# PyTorch


@pytest.mark.parametrize(
    ("built", "visible", "fails"), [("12.8", "1", True), ("12.8", "", False), (None, "1", False)]
)
def test_a_gpu_that_pytorch_cannot_use_is_an_error(monkeypatch, built, visible, fails):
    monkeypatch.setattr(torch.version, "cuda", built)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv(VISIBLE, visible)
    if fails:
        with pytest.raises(DeviceError, match=r"cannot use GPU 1 .*CUDA_VISIBLE_DEVICES="):
            available_device()
    else:
        assert available_device().type == "cpu"


# The memory that a job declares


def declared(config, stage="full", **params):
    """GiB that a job on a base of this architecture declares."""
    return device_memory(stage, params, architecture_of(config, Path(), {}, {})) / GIB


XLM_R = XLMRobertaConfig(
    vocab_size=250_002,
    hidden_size=768,
    num_hidden_layers=12,
    intermediate_size=3_072,
    max_position_embeddings=514,
)
SMALL = XLMRobertaConfig(
    vocab_size=32_000,
    hidden_size=384,
    num_hidden_layers=8,
    num_attention_heads=6,
    intermediate_size=1_536,
    max_position_embeddings=258,
)


def test_small_models_share_and_a_base_has_its_device_whole_but_for_predictions():
    """XLM-R base, 8 x 256 tokens, uses 6.7 GiB in full and 2.9 in sparse training, measured on an
    H200; the settings by default are these."""
    largest = devices.LARGEST_SHARE / GIB
    text, task = {"language": {}}, {"classes": ["a", "b"], "task": {}}
    assert declared(XLM_R, **text) > largest > declared(XLM_R, "evaluate", max_length=128) > 2
    assert declared(XLM_R, **text) > 6.7
    assert declared(XLM_R, "denoise") > largest > declared(SMALL, "denoise")
    assert largest > declared(SMALL, **text) > declared(SMALL, **task) > 2
    for more in ({"batch_size": 64}, {"max_length": 2_048}):
        assert declared(SMALL, language=more) > largest
    assert declared(SMALL, **text, engine={"attention": "eager"}) > declared(SMALL, **text)
    assert declared(SMALL, **task, with_vectors=["ind"] * 9) > declared(SMALL, **task) + 2


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("length", [16, 256])
def test_activations_are_not_more_than_declared(attention, precision, length):
    """What a forward pass keeps for the gradient, counted tensor by tensor."""
    heads_of_32 = {"hidden_size": 64, "num_attention_heads": 2, "intermediate_size": 256}
    config = XLMRobertaConfig(vocab_size=64, num_hidden_layers=2, **heads_of_32)
    if attention == "sdpa":  # with dropout a CPU keeps the scores all the same, a GPU does not
        config.attention_probs_dropout_prob = 0.0
    model = AutoModel.from_config(config, attn_implementation=attention).train()
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept = {}  # place in memory → the tensor, so that the place stays its own

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    autocast = torch.autocast("cpu", precision, enabled=precision != torch.float32)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), autocast:
        model(input_ids=torch.randint(5, 64, (8, length)))
    found = sum(t.untyped_storage().nbytes() for place, t in kept.items() if place not in weights)
    shape = Shape.of(architecture_of(config, Path(), {}, {}))
    declared = shape.activations(8 * length, length if attention == "eager" else 0)
    assert declared / 3 < found < declared, found / declared


def test_a_base_that_is_to_be_made_is_known_as_well_as_one_that_exists(base):
    expected = Shape.to_make(Pretrain(**base.source["pretrain"]))
    found = Shape.of(base)
    assert found.depth == expected.depth and found.width <= expected.width
    assert found.weights <= expected.weights < 1.2 * found.weights
    assert found.vocabulary <= expected.vocabulary


@pytest.fixture
def plan(base_folder, monkeypatch, tmp_path):
    """A plan whose base exists."""
    monkeypatch.chdir(tmp_path)
    plan = Plan(check_config(TINY))
    shutil.copytree(base_folder, Path(plan.root) / "base")
    return plan


def test_every_stage_on_a_gpu_declares_its_memory_as_planned_and_as_run(plan, base):
    using = {a for a in plan.artefacts if STAGES[a.stage].gpus != "none"}
    assert {a.stage for a in using} >= {"base", "full", "denoise", "sparse", "evaluate"}
    for artefact in using:
        assert CUDA < device_memory(artefact.stage, plan.params(artefact), base) < 2 * GIB
    assert device_memory("base", {"id": "xlm-roberta-base"}, None) is None


def test_the_workflow_counts_jobs_as_they_claim(plan, two_gpus, monkeypatch):
    full = next(a for a in plan.artefacts if a.stage == "full")
    assert plan.gpu_shares(full) == 1
    assert plan.gpu_shares(next(a for a in plan.artefacts if a.stage == "mask")) == 0
    monkeypatch.setenv("DEFTX_SHARE_DEVICES", "0")
    assert plan.gpu_shares(full) == SHARES
    monkeypatch.delenv("DEFTX_SHARE_DEVICES")
    two = Plan(check_config(with_key("engine", {"devices": 2})))
    assert two.gpu_shares(full) == 2 * SHARES
    shutil.rmtree(Path(plan.root) / "base")
    assert Plan(check_config(TINY)).gpu_shares(full) == SHARES  # not known yet


@pytest.mark.parametrize("printed", ["", CARD])
def test_a_job_that_shares_is_limited_to_its_share(printed, base_folder, monkeypatch, tmp_path):
    limits, total = [], 40 * GIB
    cards(monkeypatch, tmp_path, printed)
    for name, function in {
        "is_available": lambda: True,
        "get_device_properties": lambda device: SimpleNamespace(total_memory=total),
        "set_per_process_memory_fraction": lambda part, device: limits.append(part * total),
    }.items():
        monkeypatch.setattr(torch.cuda, name, function)
    monkeypatch.chdir(tmp_path)
    assert main(["full", *[str(base_folder) if each == "b" else each for each in FULL]]) == 1
    assert limits == ([8 * GIB - CONTEXT] if printed else [])
