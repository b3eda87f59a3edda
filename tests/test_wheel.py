"""An installed wheel runs the workflow, in any folder and as a clone does."""

import os
import shutil
import subprocess
import sys
import zipfile

import pytest
from conftest import PROJECT
from workspace import jobs

from deftx.data.lock import read_lock
from deftx.estimate.table import load_speeds
from deftx.run.fingerprint import fingerprint
from deftx.run.workflow import ours
from deftx.stages.table import STAGES

pytest.importorskip("hatchling")

INSIDE = "deftx/workflow"
CARRIED = ("Snakefile", "config.yaml", "data.lock", "environment.yml", "workflow", "profiles",
           "docs/results/published")  # fmt: skip


def build(target, folder):
    """Build a wheel of the project; its path."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", folder]
    subprocess.run(command, cwd=PROJECT, check=True, capture_output=True)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The folder into which the wheel is unpacked."""
    folder = tmp_path_factory.mktemp("site packages")
    with zipfile.ZipFile(build("wheel", folder)) as wheel:
        wheel.extractall(folder)
    return folder


def files(folder):
    """Path → time of each file, without compiled code."""
    paths = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc")
    return {path: path.stat().st_mtime_ns for path in paths}


@pytest.fixture
def python(installed, tmp_path):
    """Run Python in an empty folder with the installed package; standard output."""

    def run(*arguments):
        environment = {k: v for k, v in os.environ.items() if k != "DEFTX_WARM"}
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=tmp_path,
            env={**environment, "PYTHONPATH": str(installed), "HF_HUB_OFFLINE": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-6000:]
        return done.stdout

    return run


def test_a_wheel_has_the_workflow_as_it_is_here(installed):
    here = [path for name in CARRIED for path in (PROJECT / name, *(PROJECT / name).rglob("*"))]
    expected = {path.relative_to(PROJECT): path.read_bytes() for path in here if path.is_file()}
    inside = installed / INSIDE
    assert {p.relative_to(inside): p.read_bytes() for p in files(inside)} == expected


def test_an_editable_install_has_no_copy_of_the_workflow(tmp_path):
    pytest.importorskip("editables", reason="hatchling needs it for this")
    with zipfile.ZipFile(build("wheel:editable", tmp_path)) as wheel:
        assert not [name for name in wheel.namelist() if name.startswith("deftx/")]


def test_the_workflow_in_a_wheel_changes_no_fingerprint(python):
    code = "import sys; from deftx.run.fingerprint import fingerprint\n"
    code += "print(*map(fingerprint, sys.argv[1:]))"
    assert python("-c", code, *STAGES).split() == [fingerprint(stage) for stage in STAGES]


@pytest.mark.workflow
def test_deftx_run_plans_and_makes_results_in_the_working_folder(python, tmp_path, installed):
    """With a config of the user, and with one of the wheel, its datasets included."""
    shutil.copyfile(PROJECT / "tests/config/tiny.yaml", tmp_path / "tiny.yaml")
    before = files(installed)
    wanted = "results/tiny/data/text/qta/train.parquet"
    assert jobs(python("-m", "deftx", "run", "tiny.yaml", wanted)) == {"world": 1}
    assert (tmp_path / wanted).is_file()
    planned = python("-m", "deftx", "run", "config.yaml", "-n", "-p", "downloads")
    assert jobs(planned).keys() == {"downloads", "download", "base"}
    assert f"--lock {tmp_path}/data.lock" in planned and f"--lock {installed}" not in planned
    assert files(installed) == before


def test_downloads_are_checked_against_the_lock_of_the_wheel_too(python, tmp_path):
    (tmp_path / "data.lock").write_text('{"u": {"sha256": "%s", "bytes": 1}}' % ("0" * 64))
    code = "from pathlib import Path; from deftx.data.lock import read_lock\n"
    code += "print(*read_lock(Path('data.lock')))"
    assert {*python("-c", code).split()} == {"u", *read_lock(PROJECT / "data.lock")}


def test_the_measured_speeds_come_with_a_wheel(python):
    code = "from deftx.estimate.table import load_speeds; print(len(load_speeds().measured))"
    assert int(python("-c", code)) == len(load_speeds().measured)


def test_a_config_is_the_users_or_else_the_workflows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert ours("config.yaml") == PROJECT / "config.yaml"
    assert str(ours("no.yaml")) == "no.yaml"
    (tmp_path / "config.yaml").touch()
    assert str(ours("config.yaml")) == "config.yaml"
