"""GPUs: no two jobs share one unless asked, and one job may use several. No hardware is needed."""

import errno
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yte
from conftest import PATIENCE, PROJECT
from imports import reached
from processes import runs, until

from deftx.cli.main import main
from deftx.models.device import available_device
from deftx.run import devices
from deftx.run.devices import VISIBLE, claimed, visible_devices
from deftx.stages.table import STAGES
from deftx.store.errors import DeviceError


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
    return folder


def is_free(*names):
    """Whether another job could take all of these devices now."""
    locks = devices._free(list(names), len(names))
    for lock in locks.values():
        lock.release()
    return len(locks) == len(names)


HOLD = """
import sys, time
from deftx.run.devices import claimed
with claimed(int(sys.argv[1]), "deftx full first.safetensors"):
    print("has it", flush=True)
    time.sleep(1000)
"""


@pytest.fixture
def holder():
    """Another process that holds a device."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, "1"], stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout.readline() == "has it\n"
        yield process
        process.kill()


# The claim


@pytest.mark.parametrize("counts", [[1] * 8, [2, 1, 1, 2, 1, 2]])
def test_many_processes_on_two_devices_never_overlap(tmp_path, counts):
    diary = tmp_path / "diary"
    code = (
        "import os, sys, time\nfrom deftx.run.devices import claimed\n"
        "def write(what):\n"
        "    file = os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT)\n"
        "    os.write(file, f'{what} {mine}\\n'.encode())\n"
        "with claimed(int(sys.argv[1]), 'a test'):\n"
        "    mine = os.environ['CUDA_VISIBLE_DEVICES']\n"
        "    write('begin')\n    time.sleep(0.05)\n    write('end')\n"
    )
    jobs = [subprocess.Popen([sys.executable, "-c", code, str(n), str(diary)]) for n in counts]
    assert [job.wait(PATIENCE) for job in jobs] == [0] * len(jobs)
    busy, sizes = set(), []
    for line in diary.read_text().splitlines():
        what, mine = line.split()
        names = set(mine.split(","))
        if what == "begin":
            assert not busy & names, diary.read_text()
            busy |= names
            sizes.append(len(names))
        else:
            busy -= names
    assert sorted(sizes) == sorted(counts) and not busy


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


def test_sharing_when_asked(holder, monkeypatch):
    monkeypatch.setenv("DEFTX_SHARE_DEVICES", "1")
    with claimed(1, "second"):
        assert os.environ[VISIBLE] == "0"
    monkeypatch.setenv("DEFTX_SHARE_DEVICES", "yes")
    with pytest.raises(ValueError, match="is 'yes', expected 0 or 1"), claimed(1, "second"):
        pass


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
    assert len(list(locks.iterdir())) == 1


def test_an_index_is_that_of_the_device_file(monkeypatch, tmp_path, locks):
    """A container that has only /dev/nvidia3 calls it 0."""
    (tmp_path / "dev").mkdir()
    for name in ("nvidia3", "nvidiactl"):
        (tmp_path / "dev" / name).touch()
    monkeypatch.delenv(VISIBLE)
    assert visible_devices() == ["0"]
    with claimed(1, "first"):
        assert [path.name for path in locks.iterdir()] == ["deftx-gpu-3.lock"]
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
            (file,) = locks.iterdir()
    finally:
        os.umask(before)
    assert file.stat().st_mode & 0o777 == 0o666


def test_a_folder_that_cannot_hold_locks_is_one_message(monkeypatch, locks):
    def flock(*_):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", flock)
    message = r"deftx-gpu-0.lock: cannot be locked .*not implemented.*set DEFTX_LOCK_DIR"
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
    asked = {}
    for path in (PROJECT / "workflow/rules").glob("*.smk"):
        for name, body in re.findall(
            r"^rule (\w+):\n(.*?)(?=^rule|\Z)", path.read_text(), re.M | re.S
        ):
            if found := re.search(r"^ +gpu=(.*),$", body, re.M):
                asked[name] = found[1]
    claiming = [name for name, stage in STAGES.items() if stage.gpus != "none"]
    assert asked == {stage: f'PLAN.gpus("{stage}")' for stage in claiming}


@pytest.mark.parametrize(
    ("given", "jobs"), [("0", 1), ("2,3", 2), ("GPU-a,GPU-b,GPU-c", 3), ("", 1000), ("-1", 1000)]
)
def test_the_profile_counts_the_visible_gpus(given, jobs, monkeypatch):
    monkeypatch.setenv(VISIBLE, given)
    profile = yte.process_yaml((PROJECT / "profiles/default/profile.yaml").read_text())
    assert profile["resources"]["gpu"] == jobs == (len(visible_devices()) or 1000)


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
