"""A job that is a fork of the server is what a new process would be, and nothing depends on it.

Most tests use a copy of the package whose verbs are those of VERBS: they report what a job finds,
and start in a moment.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import PATIENCE, PROJECT, sentences
from processes import runs, until

from deftx.run.warm import QUIET, start
from deftx.store.items import write_items

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the server needs Linux")

VERBS = """
import json, os, signal, sys, time
from pathlib import Path
def prepare():
    import sklearn.metrics, torch
def main():
    kind = "fork" if "deftx.run.warm" in sys.modules else "new"
    verb, *rest = sys.argv[1:]
    if verb == "--serve-jobs":
        from deftx.run.warm import serve
        serve(main, prepare, rest)
    if verb == "report":
        print(json.dumps({"argv": sys.argv, "folder": os.getcwd(), "own": os.environ.get("OWN"),
                          "input": sys.stdin.read(), "kind": kind,
                          "signals": [str(signal.getsignal(n)) for n in (2, 13, 15, 17)]}))
        print("error", file=sys.stderr)
        return int(rest[0])
    if verb == "raise":
        raise KeyError("raised")
    if verb == "threads":
        import numpy, sklearn.metrics, threadpoolctl, torch
        pools = threadpoolctl.threadpool_info()
        print(kind, sorted((p["internal_api"], p["num_threads"]) for p in pools),
              torch.__config__.parallel_info())
        return 0
    if verb == "launch":
        from deftx.run.launcher import launch
        return launch(2, ["-m", "deftx", "worker"])
    if verb == "worker":
        Path("worker" + os.environ["RANK"]).write_text(kind)
        return 0
    if verb == "wait":
        def stop(number, frame):
            print("received", number, flush=True)
            sys.exit(7)
        signal.signal(signal.SIGUSR1, stop)
        signal.signal(signal.SIGTERM, stop)
        print(os.getpid(), os.getppid(), kind, flush=True)
        time.sleep(float(rest[0]))
        print("slept", flush=True)
        return 0
"""


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    folder = tmp_path_factory.mktemp("python path")
    (folder / "deftx/run").mkdir(parents=True)
    run = ("run/handover.py", "run/launcher.py", "run/warm.py", "run/workflow.py")
    for name in ("__init__.py", "__init__.pyi", "__main__.py", *run):
        shutil.copyfile(PROJECT / "deftx" / name, folder / "deftx" / name)
    (folder / "deftx/cli").mkdir()
    (folder / "deftx/cli/main.py").write_text(VERBS)
    return folder


@contextmanager
def edited(package, old, new):
    """The verbs of the package, edited for the time of a block."""
    verbs = package / "deftx/cli/main.py"
    verbs.write_text(VERBS.replace(old, new))
    yield
    verbs.write_text(VERBS)


@contextmanager
def server(package):
    process, path = start(environment(package, None))
    try:
        yield process, path
    finally:
        process.terminate()
        process.wait()


@pytest.fixture(scope="module")
def socket(package):
    with server(package) as (process, path):
        yield path
    assert process.returncode == 0 and not Path(path).parent.exists()


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


def kind_of(done):
    return json.loads(done.stdout)["kind"]


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
    job, guard, kind = client.stdout.readline().split()
    assert kind == "fork"
    return client, int(job), int(guard)


def test_a_job_has_its_clients_arguments_folder_environment_and_streams(package, socket, tmp_path):
    arguments = ("report", "3", "two words", "", "ä'\"\n")
    given = {"cwd": tmp_path, "stdin": "in\nput", "DEFTX_OWN": "x", "PWD": "elsewhere"}
    plain, warm = (run(package, path, *arguments, **given) for path in ("off", socket))
    assert (warm.returncode, warm.stderr) == (plain.returncode, plain.stderr) == (3, "error\n")
    found = [json.loads(done.stdout) for done in (plain, warm)]
    assert [report.pop("kind") for report in found] == ["new", "fork"]
    assert found[0] == found[1]
    assert found[0]["argv"][1:] == list(arguments) and found[0]["folder"] == str(tmp_path)


def test_an_exception_ends_a_job_as_it_ends_a_process(package, socket):
    done = run(package, socket, "raise")
    assert done.returncode == 1 and done.stderr.endswith("KeyError: 'raised'\n")


@pytest.mark.parametrize(
    ("whom", "number", "status", "output", "message"),
    [
        ("client", signal.SIGTERM, 7, "received 15\n", ""),
        ("client", signal.SIGUSR1, 7, "received 10\n", ""),
        ("client", signal.SIGINT, 130, "", "deftx wait: ended by SIGINT\n"),
        ("client", signal.SIGKILL, -9, "", ""),
        ("job", signal.SIGKILL, 137, "", "deftx wait: ended by SIGKILL\n"),
        ("guard", signal.SIGKILL, 1, "", "deftx wait: ended without a status: "),
    ],
)
def test_a_signal_to_the_client_reaches_the_job_and_a_killed_job_is_reported(
    package, socket, whom, number, status, output, message
):
    client, job, guard = waiting(package, socket)
    os.kill({"client": client.pid, "job": job, "guard": guard}[whom], number)
    found, errors = client.communicate(timeout=PATIENCE)
    assert (found, client.returncode) == (output, status)
    assert message in errors if message else errors == ""
    until(lambda: not runs(job) and not runs(guard))


def test_without_a_server_a_job_starts_plainly(package, tmp_path):
    for path in ("off", str(tmp_path / "none"), None):
        done = run(package, path, "report", "4")
        assert kind_of(done) == "new"
        assert (done.returncode, done.stderr) == (4, "error\n")


def test_a_killed_server_ends_no_job_and_later_ones_start_plainly(package):
    with server(package) as (process, path):
        client, _, _ = waiting(package, path, seconds=1.5)
        process.kill()
        process.wait()
        assert kind_of(run(package, path, "report", "0")) == "new"
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
    pid, path = parent.stdout.readline().split()
    assert Path(path).parent.stat().st_mode & 0o777 == 0o700
    if ready:
        assert run(package, path, "report", "0").returncode == 0
    parent.kill()
    parent.communicate()
    until(lambda: not runs(pid) and not Path(path).parent.exists())


def test_code_edited_after_the_start_of_the_server_runs_in_a_new_process(package):
    with server(package) as (_, path):
        assert kind_of(run(package, path, "report", "0")) == "fork"
        with edited(package, '"error"', '"edited"'):
            done = run(package, path, "report", "0")
        reason = "a new process for this job: the code was edited after the server started\n"
        assert done.stderr == f"{reason}edited\n"
        assert kind_of(run(package, path, "report", "0")) == "fork"


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"HF_HOME": "/other"}, "the server has another environment: HF_HOME"),
        ({"OMP_NUM_THREADS": None}, "OMP_NUM_THREADS is not a number, or another library"),
        ({"MKL_NUM_THREADS": "2"}, "OMP_NUM_THREADS is not a number, or another library"),
        # What a shell or a step of SLURM sets is not another environment.
        ({"SLURM_STEP_ID": "3", "SRUN_DEBUG": "3", "PMI_RANK": "0", "PS1": "(venv)"}, None),
    ],
)
def test_an_environment_that_libraries_read_at_import_needs_a_new_process(
    package, socket, given, reason
):
    done = run(package, socket, "report", "0", **given)
    assert kind_of(done) == ("fork" if reason is None else "new")
    assert reason is None or done.stderr.startswith(f"a new process for this job: {reason}")


def test_where_a_fork_could_use_no_gpu_a_job_is_a_new_process(package):
    """PyTorch knows as soon as something has counted GPUs, which no build for CPUs does."""
    counted = "    import torch\n    torch.cuda._is_in_bad_fork = lambda: True\n"
    prepare = "def prepare():\n"
    with edited(package, prepare, prepare + counted), server(package) as (_, path):
        done = run(package, path, "report", "0")
    assert kind_of(done) == "new"
    assert "a new process for this job: a library looked for GPUs" in done.stderr


@pytest.mark.parametrize("threads", ["1", "2"])
def test_libraries_have_the_threads_of_a_new_process(package, socket, threads):
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    given = dict.fromkeys(names, threads)
    plain, warm = (run(package, path, "threads", **given).stdout for path in ("off", socket))
    assert plain.startswith("new ") and warm.startswith("fork ")
    assert plain.partition(" ")[2] == warm.partition(" ")[2] and "OpenMP" in plain


def test_workers_of_a_job_are_new_processes(package, socket, tmp_path):
    done = run(package, socket, "launch", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for rank in (0, 1):
        assert (tmp_path / f"worker{rank}").read_text() == "new"


def test_importing_everything_asks_for_no_device_and_starts_no_thread():
    """What a fork could not undo: CUDA initialised, or a number of devices remembered from before
    a job's claim; threads; what was read of the code."""
    code = """
import os, torch
from deftx.cli.main import import_everything
from deftx.run import fingerprint
def asked(*_, **__): raise SystemExit("asked for devices")
for name in ("is_available", "device_count", "init", "_lazy_init"):
    setattr(torch.cuda, name, asked)
if hasattr(torch._C, "_cuda_getDeviceCount"):  # not in a PyTorch for CPUs
    torch._C._cuda_getDeviceCount = asked
import_everything()
assert not torch.cuda.is_initialized()
assert len(os.listdir("/proc/self/task")) == 1, os.listdir("/proc/self/task")
assert fingerprint._digest.cache_info().currsize == 0
"""
    settings = {**environment(PROJECT, None), **QUIET}
    subprocess.run([sys.executable, "-c", code], env=settings, check=True)


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
    with server(PROJECT) as (_, path):
        run(PROJECT, path, "--help")  # until it has imported everything
        for name, socket in (("plain", "off"), ("warm", path)):
            out = tmp_path / name
            out.mkdir()

            def job(verb, file, *arguments, socket=socket, out=out):
                done = run(PROJECT, socket, verb, *arguments, "--base", str(base_folder),
                           "--out", str(out / file), OMP_NUM_THREADS="2")  # fmt: skip
                assert done.returncode == 0 and "a new process" not in done.stderr, done.stderr

            began = time.monotonic()
            training = ("--params", json.dumps(params), "--train", str(train))
            job("full", "model.safetensors", *training, "--record", str(out / "cost.json"))
            cost = json.loads((out / "cost.json").read_text())
            assert 0 < cost["seconds"] < time.monotonic() - began
            job("mask", "mask.safetensors", "--target", "lang-qaa", "--method", "m",
                "--selection", selection)  # fmt: skip
            job("sparse", "sft_model.safetensors", *training, "--method", "m",
                "--mask", str(out / "mask.safetensors"))  # fmt: skip
    for name in ("model.safetensors", "sft_model.safetensors"):
        plain, warm = ((tmp_path / kind / name).read_bytes() for kind in ("plain", "warm"))
        assert plain == warm, name
