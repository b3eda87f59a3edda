"""A job that forks from the server is what a new process would be, and nothing depends on it.

Most tests give the server a copy of the package whose verbs are those of VERBS: they tell what a
job finds, so that it starts in a moment.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import PATIENCE, PROJECT, sentences

from deftx.run.warm import QUIET, start
from deftx.store.items import write_items

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the server needs Linux")

VERBS = """
import json, os, signal, sys, time
from pathlib import Path
STAGES = ()
def main():
    verb, *rest = sys.argv[1:]
    started = sys.modules["__main__"].__spec__.name
    if verb == "tell":
        print(json.dumps({"argv": sys.argv, "folder": os.getcwd(), "own": os.environ.get("OWN"),
                          "input": sys.stdin.read(), "started": started,
                          "signals": [str(signal.getsignal(n)) for n in (2, 13, 15, 17)]}))
        print("error", file=sys.stderr)
        return int(rest[0])
    if verb == "raise":
        raise KeyError("raised")
    if verb == "threads":
        import numpy, sklearn.metrics, threadpoolctl, torch
        pools = threadpoolctl.threadpool_info()
        print(started, sorted((p["internal_api"], p["num_threads"]) for p in pools),
              torch.__config__.parallel_info())
        return 0
    if verb == "launch":
        from deftx.run.launcher import launch
        return launch(2, ["-m", "deftx", "worker"], [])
    if verb == "worker":
        Path("worker" + os.environ["RANK"]).write_text(started)
        return 0
    if verb == "wait":
        def told(number, frame):
            print("told", number, flush=True)
            sys.exit(7)
        signal.signal(signal.SIGUSR1, told)
        signal.signal(signal.SIGTERM, told)
        print(os.getpid(), os.getppid(), started, flush=True)
        time.sleep(float(rest[0]))
        print("slept", flush=True)
        return 0
"""


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    folder = tmp_path_factory.mktemp("python path")
    (folder / "deftx/run").mkdir(parents=True)
    (folder / "deftx/cli").mkdir()
    (folder / "deftx/run/__init__.py").touch()
    (folder / "deftx/cli/__init__.py").touch()
    for name in ("__init__", "__main__", "run/handover", "run/launcher", "run/warm"):
        text = (PROJECT / f"deftx/{name}.py").read_text()
        text = text.replace("for name in LATE", 'for name in ("sklearn.metrics", "torch")')
        (folder / f"deftx/{name}.py").write_text(text)
    (folder / "deftx/cli/main.py").write_text(VERBS)
    return folder


@pytest.fixture(scope="module")
def socket(package):
    process, path = start(environment(package, None))
    yield path
    process.terminate()
    assert process.wait() == 0
    assert not Path(path).parent.exists()


@pytest.fixture
def own_server(package):
    process, path = start(environment(package, None))
    yield process, path
    process.terminate()
    process.wait()


def environment(package, socket, **others):
    own = {"PYTHONPATH": str(package), "DEFTX_WARM": socket, "PYTEST_CURRENT_TEST": None}
    given = {**os.environ, "OMP_NUM_THREADS": "1", **own, **others}
    return {name: value for name, value in given.items() if value is not None}


def run(package, socket, *arguments, cwd=None, stdin="", **others):
    return subprocess.run(
        [sys.executable, "-m", "deftx", *arguments],
        env=environment(package, socket, **others),
        cwd=cwd or package,  # not the project: Python looks there first
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
    )


def waiting(package, socket, seconds=60):
    """A client whose job waits; its process, and the ids of job and guard."""
    client = subprocess.Popen(
        [sys.executable, "-m", "deftx", "wait", str(seconds)],
        env=environment(package, socket),
        cwd=package,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    job, guard, started = client.stdout.readline().split()
    assert started == "deftx.run.warm"
    return client, int(job), int(guard)


def runs(process):
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def soon(law):
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if law():
            return True
        time.sleep(0.05)
    return False


def test_a_job_has_its_clients_arguments_folder_environment_and_streams(package, socket, tmp_path):
    arguments = ("tell", "3", "two words", "", "ä'\"\n")
    given = {"cwd": tmp_path, "stdin": "in\nput", "DEFTX_OWN": "x", "PWD": "elsewhere"}
    plain, warm = (run(package, path, *arguments, **given) for path in ("off", socket))
    assert (warm.returncode, warm.stderr) == (plain.returncode, plain.stderr) == (3, "error\n")
    found = [json.loads(done.stdout) for done in (plain, warm)]
    assert [told.pop("started") for told in found] == ["deftx.__main__", "deftx.run.warm"]
    assert found[0] == found[1]
    assert found[0]["argv"][1:] == list(arguments) and found[0]["folder"] == str(tmp_path)


def test_an_exception_ends_a_job_as_it_ends_a_process(package, socket):
    done = run(package, socket, "raise")
    assert done.returncode == 1 and done.stderr.endswith("KeyError: 'raised'\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_to_the_client_reaches_the_job(package, socket, number):
    client, job, _ = waiting(package, socket)
    client.send_signal(number)
    output, errors = client.communicate(timeout=PATIENCE)
    assert (output, errors, client.returncode) == (f"told {number}\n", "", 7)
    assert not runs(job)


def test_ctrl_c_ends_the_job_by_sigint(package, socket):
    client, job, _ = waiting(package, socket)
    client.send_signal(signal.SIGINT)
    _, errors = client.communicate(timeout=PATIENCE)
    assert client.returncode == 128 + signal.SIGINT and not runs(job)
    assert "KeyboardInterrupt" in errors and "deftx wait: was ended by SIGINT" in errors


def test_a_killed_client_leaves_no_job(package, socket):
    client, job, guard = waiting(package, socket)
    client.kill()
    client.communicate(timeout=PATIENCE)
    assert soon(lambda: not runs(job) and not runs(guard))


def test_a_killed_job_is_told(package, socket):
    client, job, _ = waiting(package, socket)
    os.kill(job, signal.SIGKILL)
    _, errors = client.communicate(timeout=PATIENCE)
    assert client.returncode == 137 and errors == "deftx wait: was ended by SIGKILL\n"


def test_a_killed_guard_takes_its_job_along_and_is_told(package, socket):
    client, job, guard = waiting(package, socket)
    os.kill(guard, signal.SIGKILL)
    _, errors = client.communicate(timeout=PATIENCE)
    assert client.returncode == 1 and "deftx wait: ended without a status" in errors
    assert soon(lambda: not runs(job))


def test_without_a_server_a_job_starts_plainly(package, tmp_path):
    for path in ("off", str(tmp_path / "none"), None):
        done = run(package, path, "tell", "4")
        assert json.loads(done.stdout)["started"] == "deftx.__main__"
        assert (done.returncode, done.stderr) == (4, "error\n")


def test_a_killed_server_ends_no_job_and_later_ones_start_plainly(package, own_server):
    server, path = own_server
    client, _, _ = waiting(package, path, seconds=1.5)
    server.kill()
    server.wait()
    assert json.loads(run(package, path, "tell", "0").stdout)["started"] == "deftx.__main__"
    output, _ = client.communicate(timeout=PATIENCE)
    assert (output, client.returncode) == ("slept\n", 0)
    Path(path).unlink()
    Path(path).parent.rmdir()


@pytest.mark.parametrize("ready", [True, False])
def test_the_server_ends_with_its_parent_and_leaves_no_file(package, ready):
    code = (
        "import os, time; from deftx.run.warm import start\n"
        "process, path = start(dict(os.environ)); print(process.pid, path, flush=True)\n"
        "time.sleep(60)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code],
        env=environment(package, None),
        cwd=package,
        stdout=subprocess.PIPE,
        text=True,
    )
    server, path = parent.stdout.readline().split()
    assert Path(path).parent.stat().st_mode & 0o777 == 0o700
    if ready:
        assert run(package, path, "tell", "0").returncode == 0
    parent.kill()
    parent.communicate()
    assert soon(lambda: not runs(server) and not Path(path).parent.exists())


def test_code_edited_after_the_start_of_the_server_runs_in_a_new_process(package, own_server):
    _, path = own_server
    cli = package / "deftx/cli/main.py"
    assert json.loads(run(package, path, "tell", "0").stdout)["started"] == "deftx.run.warm"
    cli.write_text(VERBS.replace('"error"', '"edited"'))
    try:
        done = run(package, path, "tell", "0")
    finally:
        cli.write_text(VERBS)
    reason = "a new process for this job: the code was edited after the server started\n"
    assert done.stderr == f"{reason}edited\n"
    assert json.loads(run(package, path, "tell", "0").stdout)["started"] == "deftx.run.warm"


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"HF_HOME": "/other"}, "the server has another environment: HF_HOME"),
        ({"OMP_NUM_THREADS": None}, "OMP_NUM_THREADS is no number for all libraries"),
        ({"MKL_NUM_THREADS": "2"}, "OMP_NUM_THREADS is no number for all libraries"),
    ],
)
def test_an_environment_that_libraries_read_at_import_needs_a_new_process(
    package, socket, given, reason
):
    done = run(package, socket, "tell", "0", **given)
    assert json.loads(done.stdout)["started"] == "deftx.__main__"
    assert done.stderr == f"a new process for this job: {reason}\nerror\n"


def test_where_a_fork_could_use_no_gpu_a_job_is_a_new_process(package):
    """PyTorch knows of it as soon as something has counted GPUs, which no CPU's build does."""
    cli = package / "deftx/cli/main.py"
    cli.write_text(f"{VERBS}\nimport torch\ntorch.cuda._is_in_bad_fork = lambda: True\n")
    process, path = start(environment(package, None))
    try:
        done = run(package, path, "tell", "0")
    finally:
        process.terminate()
        process.wait()
        cli.write_text(VERBS)
    assert json.loads(done.stdout)["started"] == "deftx.__main__"
    assert "a new process for this job: a library looked for GPUs" in done.stderr


@pytest.mark.parametrize(
    "given",
    [
        {"SLURM_STEP_ID": "3", "SLURMD_NODENAME": "other", "SRUN_DEBUG": "3", "PMI_RANK": "0"},
        {"PS1": "(venv)"},  # `activate` exports it, and a shell that is no terminal's unsets it
    ],
)
def test_what_a_shell_or_a_step_of_slurm_sets_is_no_other_environment(package, socket, given):
    done = run(package, socket, "tell", "0", **given)
    assert json.loads(done.stdout)["started"] == "deftx.run.warm"


@pytest.mark.parametrize("threads", ["1", "2"])
def test_libraries_have_the_threads_of_a_new_process(package, socket, threads):
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    given = dict.fromkeys(names, threads)
    plain, warm = (run(package, path, "threads", **given).stdout for path in ("off", socket))
    assert (
        plain.partition(" ")[0] == "deftx.__main__" and warm.partition(" ")[0] == "deftx.run.warm"
    )
    assert plain.partition(" ")[2] == warm.partition(" ")[2] and "OpenMP" in plain


def test_workers_of_a_job_are_new_processes(package, socket, tmp_path):
    done = run(package, socket, "launch", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for rank in (0, 1):
        assert (tmp_path / f"worker{rank}").read_text() == "deftx.__main__"


def test_importing_everything_asks_for_no_device_and_starts_no_thread():
    """What a fork could not undo: CUDA initialised, or a number of devices remembered from before
    a job's claim; threads; and what was read of the code."""
    code = """
import os, torch
from deftx.run import fingerprint
from deftx.run import warm
def asked(*_, **__): raise SystemExit("asked for devices")
for name in ("is_available", "device_count", "init", "_lazy_init"):
    setattr(torch.cuda, name, asked)
if hasattr(torch._C, "_cuda_getDeviceCount"):  # not in a PyTorch for CPUs
    torch._C._cuda_getDeviceCount = asked
warm.import_everything()
assert not torch.cuda.is_initialized()
assert len(os.listdir("/proc/self/task")) == 1, os.listdir("/proc/self/task")
assert fingerprint._digest.cache_info().currsize == 0
"""
    settings = {**environment(PROJECT, None), **QUIET}
    done = subprocess.run(
        [sys.executable, "-c", code], env=settings, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_warm_job_writes_the_bytes_of_a_plain_one_and_what_it_cost_itself(base_folder, tmp_path):
    train = tmp_path / "train.parquet"
    write_items(train, [{"id": str(i), "text": line} for i, line in enumerate(sentences(60))])
    params = {
        "target": "lang-qaa",
        "seed": 0,
        "language": {"learning_rate": 0.01, "batch_size": 8, "min_steps": 3, "max_steps": 3,
                     "max_length": 16, "evaluate_every": 3},
    }  # fmt: skip
    selection = '{"score": "random", "budget": 200}'
    process, path = start(environment(PROJECT, None))
    try:
        run(PROJECT, path, "--help")  # until it has imported everything
        for name, socket in (("plain", "off"), ("warm", path)):
            out = tmp_path / name
            out.mkdir()
            began = time.monotonic()
            full = run(PROJECT, socket, "full", "--params", json.dumps(params), "--base",
                       str(base_folder), "--train", str(train), "--cost", str(out / "cost.json"),
                       "--out", str(out / "model.safetensors"), OMP_NUM_THREADS="2")  # fmt: skip
            seconds = time.monotonic() - began
            assert full.returncode == 0, full.stderr
            mask = run(PROJECT, path, "mask", "--target", "lang-qaa", "--method", "m",
                       "--selection", selection, "--base", str(base_folder),
                       "--out", str(out / "mask.safetensors"))  # fmt: skip
            assert mask.returncode == 0, mask.stderr
            sparse = run(PROJECT, socket, "sparse", "--params", json.dumps(params), "--method", "m",
                         "--base", str(base_folder), "--train", str(train), "--mask",
                         str(out / "mask.safetensors"), "--out",
                         str(out / "sft_model.safetensors"))  # fmt: skip
            assert sparse.returncode == 0, sparse.stderr
            cost = json.loads((out / "cost.json").read_text())
            assert 0 < cost["seconds"] < seconds
            assert "a new process" not in full.stderr + sparse.stderr
    finally:
        process.terminate()
        process.wait()
    for name in ("model.safetensors", "sft_model.safetensors"):
        plain, warm = ((tmp_path / kind / name).read_bytes() for kind in ("plain", "warm"))
        assert plain == warm, name
