"""The workflow on a real SLURM of one machine. `make test-slurm` runs it."""

import os
import re
import subprocess
import sys
from importlib.util import find_spec

import pytest
from cluster import LIMIT, Cluster, missing
from conftest import sentences
from workspace import PAGES, Workspace

from deftx.run.partitions import minutes

pytestmark = [
    pytest.mark.workflow,
    pytest.mark.skipif(
        os.environ.get("DEFTX_TEST_SLURM") != "1", reason="it takes minutes: make test-slurm"
    ),
    pytest.mark.skipif(missing() is not None, reason=missing() or ""),
    pytest.mark.skipif(
        find_spec("snakemake_executor_plugin_slurm") is None,
        reason="not installed: snakemake-executor-plugin-slurm",
    ),
]

KILLED_AT = 5
"""The step at which the training of one language waits until SLURM stops it."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with Cluster(tmp_path_factory.mktemp("slurm")) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """A miniature in which SLURM's time limit stops the full phase of one language until it has
    saved its state, and in which the text of another language is too short to train on."""
    made = Workspace(tmp_path_factory.mktemp("project"))
    (made.folder / "short.txt").write_text("one line\n")
    made.config["languages"]["qtb"]["text"] = "./short.txt"
    made.config["language_training"] |= {"min_steps": 8, "max_steps": 8, "evaluate_every": 8}
    made.config["systems"] |= {
        "lt-sft": {"task": "lt-sft", "language": "none"},
        "deft-x": {"task": "deft-x", "language": "none"},
        "task-arithmetic": {"task": "full"},
    }
    made.write_config()
    waits = (
        f'step == {KILLED_AT} and "full/lang-qta" in str(session.checkpoint.folder) '
        "and not saver._saved_step and saver.received is None"
    )
    sleep = '__import__("time").sleep'
    before(made, "deftx/engine/loop.py", "saver.save_if_due(", f"while {waits}: {sleep}(0.1)")
    # Writing the state of a large model takes time.
    before(made, "deftx/engine/resume.py", "checkpoint.save(", "time.sleep(3)")
    shows = 'print("a fork of the server", file=sys.stderr)'
    before(made, "deftx/run/handover.py", "connection.settimeout(None)", shows)
    profile = "profiles/slurm/profile.yaml"
    limits = '?"2 ** (attempt - 1)" if rule == "full" else 30'
    made.replace(profile, '?f"min(attempt * 240, {longest})"', limits)
    made.replace(profile, "      slurm_extra", "      # slurm_extra")
    return made


def before(workspace, file, found, line):
    """Insert a line of code above the only line that begins with `found`."""
    text = (workspace.folder / file).read_text()
    (place,) = re.finditer(rf"^( +){re.escape(found)}", text, re.M)
    workspace.replace(file, place[0], f"{place[1]}{line}\n{place[0]}")


@pytest.fixture(scope="module")
def finished(cluster, workspace):
    """The finished Snakemake process, and SLURM's description of its jobs."""
    command = [sys.executable, "-m", "snakemake", "--workflow-profile", "profiles/slurm"]
    command += ["--configfile", "tiny.yaml", "--quiet", "host", "reason"]
    command += ["--slurm-status-command", "squeue"]
    command += ["--slurm-init-seconds-before-status-checks", "1"]
    done = subprocess.run(
        command,
        cwd=workspace.folder,
        env={**workspace.environment, **cluster.environment},
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    lines = cluster.command("scontrol -o show jobs")
    return done, [dict(re.findall(r"(\w+)=(\S*)", line)) for line in lines]


def of(jobs, name):
    """The jobs of a rule or a group."""
    return [job for job in jobs if job["Comment"].startswith(f"rule_{name}")]


def log(workspace, artefact):
    return (workspace.results / f"logs/{artefact}.log").read_text()


def test_a_job_that_fails_leaves_the_others_running(workspace, finished):
    done, _ = finished
    assert done.returncode == 1, done.stdout[-6000:]
    why = "the text has 1 lines: at least 2 are needed"
    assert why in log(workspace, "full/lang-qtb/seed0/model")
    assert why in done.stdout
    evaluated = workspace.results.glob("evaluate/*/sentiment/*/seed0.safetensors")
    systems = ("deft-x", "lt-sft", "task-arithmetic", "zero-shot")
    assert sorted(path.parts[-4:-1] for path in evaluated) == [
        (system, "sentiment", "qta") for system in systems
    ]


def test_a_job_that_is_killed_by_its_time_limit_resumes_in_its_retry(workspace, finished):
    assert "TIMEOUT" in [job["JobState"] for job in of(finished[1], "full")]
    resumed = re.search("going on from step ([0-9]+)", log(workspace, "full/lang-qta/seed0/model"))
    assert resumed is not None
    assert int(resumed[1]) == KILLED_AT


def test_only_jobs_that_train_or_predict_run_on_a_gpu(finished):
    _, jobs = finished
    asked = {
        (job["Comment"].split("_")[1], job["Partition"], job.get("TresPerJob")) for job in jobs
    }
    on_gpu = {"base", "full", "sparse", "transfer-qta-seed0"}
    on_cpu = {"world", "data", "tokens", "denoise", "mask", "coverage"}
    assert asked == {
        *((name, "gpu", "gres:gpu:1") for name in on_gpu),
        *((name, "cpu", None) for name in on_cpu),
    }


def test_no_job_asks_for_more_time_than_its_partition_allows(finished):
    asked = {job["TimeLimit"] for job in finished[1]}
    assert asked and all(minutes(limit) <= LIMIT for limit in asked), asked


def test_evaluations_of_a_language_share_one_job_and_one_warm_start(workspace, finished):
    (job,) = of(finished[1], "transfer-qta-seed0")
    assert job["JobState"] == "COMPLETED"
    for system in workspace.config["systems"]:
        assert "a fork of the server" in log(workspace, f"evaluate/{system}/sentiment/qta/seed0")


def test_a_later_local_run_makes_only_the_artefacts_that_failed(workspace, finished):
    (workspace.folder / "short.txt").write_text("\n".join(sentences(100)))
    ran = workspace.run()
    assert ran == {
        **dict.fromkeys(("data", "tokens", "full", "coverage", *PAGES), 1),
        **dict.fromkeys(("compose", "evaluate", "diagnostics"), 4),
    }
    assert workspace.planned() == {}
