"""What a config that grows makes, what tools say of a finished run, and what is refused.

The tests of the workspace follow each other, as in test_workflow.py.
"""

import re
import subprocess
import sys

import pytest
import yaml
from workspace import LATE, Workspace
from workspace import jobs as count

pytestmark = pytest.mark.workflow


def test_an_added_language_runs_its_own_chain(workspace):
    workspace.config["world"]["languages"]["qtc"] = 0.5
    workspace.config["languages"]["qtc"] = {"name": "Middle", "text": "text"}
    workspace.write_config()
    assert workspace.run() == {
        "world": 2,
        "full": 1,
        "denoise": 1,
        "mask": 2,
        "sparse": 2,
        "compose": 3,
        "evaluate": 3,
        "diagnostics": 3,
        "coverage": 1,
        **LATE,
    }


def test_an_added_rank_reuses_every_full_and_no_denoise(workspace):
    workspace.config["methods"]["deft-x-2"] = {"denoise": {"rank": 2}}
    workspace.config["systems"]["deft-x-2"] = {"task": "deft-x-2"}
    workspace.write_config()
    assert workspace.run() == {
        "denoise": 3,
        "mask": 3,
        "sparse": 3,
        "compose": 3,
        "evaluate": 3,
        "diagnostics": 1,
        **LATE,
    }


def test_an_added_system_of_known_methods_only_composes(workspace):
    workspace.config["systems"]["crossed"] = {"task": "deft-x", "language": "lt-sft"}
    workspace.config["systems"]["dense"] = {"task": "full", "language": "full"}
    workspace.write_config()
    assert workspace.run() == {"compose": 6, "evaluate": 6, "diagnostics": 2, **LATE}


def test_grouped_jobs_read_the_same_config_and_leave_nothing_to_do(workspace):
    workspace.config["systems"]["crossed"]["task_scale"] = 0.5
    workspace.write_config()
    ran = workspace.run(
        "--groups", "compose=transfer", "evaluate=transfer", "--group-components", "transfer=3"
    )
    assert ran == {"compose": 3, "evaluate": 3, "diagnostics": 1, **LATE}
    assert workspace.planned() == {}


def test_prune_lists_what_no_config_asks_for_and_removes_it(workspace):
    del workspace.config["systems"]["deft-x-2"], workspace.config["methods"]["deft-x-2"]
    workspace.write_config()
    workspace.run()
    prune = [sys.executable, "-m", "deftx", "prune", "tiny.yaml"]

    def call(*options):
        return subprocess.run(
            [*prune, *options],
            cwd=workspace.folder,
            capture_output=True,
            text=True,
            check=True,
            env=workspace.environment,
        ).stdout

    old = workspace.results / "denoise/rank-2/lang-qta/seed0.safetensors"
    assert old.is_file()
    assert str(old.relative_to(workspace.folder)) in call() and old.is_file()
    call("--yes")
    assert not (workspace.results / "denoise/rank-2").exists()
    assert workspace.planned() == {}
    assert call().startswith("0 files")


def tool(workspace, *arguments):
    """What `deftx` prints in a workspace."""
    done = subprocess.run(
        [sys.executable, "-m", "deftx", *arguments],
        cwd=workspace.folder,
        capture_output=True,
        text=True,
        check=False,
        env=workspace.environment,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_plan_counts_what_snakemake_would_run(workspace):
    assert "results/tiny: 0 of " in tool(workspace, "plan", "tiny.yaml")
    workspace.config["budget"]["task"] = 0.085
    workspace.write_config()
    jobs = workspace.planned()
    chosen = ("--language", "qta", "--system", "deft-x")
    targets = tool(workspace, "targets", "tiny.yaml", *chosen).split()
    some = workspace.snakemake("-n", *targets, "--configfile", "tiny.yaml")
    assert some.returncode == 0, some.stdout[-3000:]
    whole, part = (tool(workspace, "plan", "tiny.yaml", *options) for options in ((), chosen))
    assert f"results/tiny: {sum(jobs.values())} of " in whole
    assert f"results/tiny: {sum(count(some.stdout).values())} of " in part
    assert "jobs of this run that have ended" in whole
    workspace.run()


def test_the_report_opens_offline_and_shows_tables_and_figures(workspace):
    done = workspace.snakemake("--report", "report.html")
    assert done.returncode == 0, done.stdout[-3000:]
    page = (workspace.folder / "report.html").read_text()
    assert 'src="http' not in page
    for name in ("index.html", "transfer.html", "transfer.svg", "mask.svg", "spectrum.svg"):
        assert name in page


def test_lint_finds_nothing(workspace):
    assert "Congratulations" in workspace.snakemake("--lint").stdout


def test_two_configfiles_are_refused(workspace):
    output = workspace.fails("-n", "--configfile", "tiny.yaml", "config.yaml")
    assert "give one --configfile" in output


def test_a_config_replaces_the_default_one_wholly(workspace):
    """A run of the tiny config knows nothing of the languages of config.yaml."""
    assert not any("grn" in path for path in workspace.artefacts())


def test_the_default_config_plans_without_data(workspace):
    output = workspace.snakemake("-n", "--configfile", "config.yaml").stdout
    assert (
        re.search(r"^evaluate +3080$", output, re.M)
        and re.search(r"^download +46$", output, re.M)
        and re.search(r"^clean +19$", output, re.M)
    )


def test_a_wrong_key_stops_before_anything_runs(workspace):
    workspace.write_config(yaml.safe_dump({**workspace.config, "sedes": [1]}))
    output = workspace.fails()
    assert "sedes: unknown key; did you mean seeds?" in output
    assert "Job stats" not in output
    workspace.write_config()


def test_a_config_edited_during_a_run_stops_later_jobs(workspace):
    output = workspace.fails("--mode", "subprocess", DEFTX_CONFIG_SHA256="another")
    assert "the config was edited while this run was in progress" in output


BAD_FILES = [
    ("text.txt", b"", "the file is empty"),
    ("text.txt", b"\xff\xfe", "not UTF-8"),
    (
        "test.csv",
        b"text,label\nx,strange\n",
        "has the label 'strange', which `labels` does not map",
    ),
]


@pytest.mark.parametrize(("name", "content", "message"), BAD_FILES)
def test_bad_data_stops_before_training(tmp_path, name, content, message):
    made = Workspace(tmp_path)
    good = {"text.txt": b"ba be\nbi bo\nbu da\n" * 9, "test.csv": b"text,label\nba be,good\n"}
    for file, bytes_ in {**good, name: content}.items():
        (tmp_path / file).write_bytes(bytes_)
    made.config["data_dir"] = str(tmp_path)
    made.config["languages"] = {"qta": {"text": "./text.txt"}}
    labels = {"good": "positive"}
    made.config["datasets"]["own"] = {
        "files": "test.csv",
        "columns": {"label": "label"},
        "labels": labels,
    }
    made.config["tasks"]["sentiment"]["test"]["dataset"] = "own"
    made.write_config()
    output = made.fails("--cores", "1")
    logs = "".join(path.read_text() for path in made.results.rglob("data/**/*.log"))
    assert message in logs
    assert not (made.results / "full").exists()
    assert "Error in rule data" in output or "RuleException" in output


CANNOT_WORK = [
    ({"denoise": {"rank": 64}}, "denoise: rank-64 truncates none of the base's"),
    ({"budget": 10**9}, "budget: K is 1000000000"),
    ({"shares": {r"^embeddings\.position": 0.9, "": 0.1}}, "is to have"),
    ({"shares": {r"^embeddings\.": 1.0}}, "belongs to no group"),
    ({"choose_from": "nothing"}, "choose_from: 'nothing' is found in no maskable"),
]


@pytest.mark.parametrize(("method", "message"), CANNOT_WORK)
def test_a_method_that_cannot_work_on_the_base_is_told_when_planning(workspace, method, message):
    workspace.config["methods"]["bad"] = method
    workspace.config["systems"]["bad"] = {"task": "bad"}
    workspace.write_config()
    output = workspace.fails("-n")
    del workspace.config["methods"]["bad"], workspace.config["systems"]["bad"]
    workspace.write_config()
    assert "methods.bad (for a task): " in output and message in output


def test_without_a_base_it_is_told_before_anything_is_trained(tmp_path):
    made = Workspace(tmp_path)
    made.config["methods"]["deft-x"] = CANNOT_WORK[0][0]
    made.write_config()
    made.fails()
    log = (made.results / "logs/base/model.log").read_text()
    assert f"methods.deft-x (for a task): {CANNOT_WORK[0][1]}" in log
    assert "loss" not in log and not (made.results / "full").exists()
