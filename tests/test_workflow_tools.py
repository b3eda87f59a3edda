"""What tools report on a finished run, and what is refused before or at the start of a run."""

import copy
import json
import re

import pytest
from conftest import PROJECT
from workspace import LATE, plan_of, stale

from deftx.plan.config import read_config
from deftx.plan.plan import Plan
from deftx.store.errors import ConfigError

pytestmark = pytest.mark.workflow


def tool(workspace, *arguments):
    """What `deftx` prints in a workspace."""
    done = workspace.deftx(*arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_plan_counts_what_snakemake_would_run(workspace):
    before = plan_of(workspace.config)
    with workspace.edited() as config:
        config["budget"]["task"] = 0.085
        workspace.write_config()
        all_of_them = stale(before, plan_of(config))
        chosen = ("--language", "qta", "--system", "deft-x")
        targets = tool(workspace, "targets", "tiny.yaml", *chosen).split()
        some = workspace.planned(*targets)
        whole, part = (tool(workspace, "plan", "tiny.yaml", *options) for options in ((), chosen))
    assert f"results/tiny: {all_of_them.total()} of " in whole
    assert f"results/tiny: {sum(some.values())} of " in part
    assert "finished jobs: their mean in this run" in whole


def test_the_report_opens_offline_and_shows_tables_and_figures(workspace):
    done = workspace.snakemake("--report", "report.html")
    assert done.returncode == 0, done.stdout[-3000:]
    page = (workspace.folder / "report.html").read_text()
    assert 'src="http' not in page
    for name in ("index.html", "transfer.html", "transfer.svg", "mask.svg", "spectrum.svg"):
        assert name in page


def test_a_reporter_plugin_describes_the_run_as_an_ro_crate(workspace):
    pytest.importorskip("snakemake_report_plugin_fairscape")
    path = workspace.results / "ro-crate-metadata.json"
    options = ("--report-fairscape-path", str(path), "--report-fairscape-author", "A. Author")
    done = workspace.snakemake("--reporter", "fairscape", *options)
    assert done.returncode == 0, done.stdout[-3000:]
    graph = json.loads(path.read_text())["@graph"]
    files = (part for part in graph if any("Dataset" in kind for kind in part["@type"]))
    described = {part["contentUrl"] for part in files if "contentUrl" in part}
    assert described >= {"tables/transfer.csv", "summary/index.html", "base/model.safetensors"}
    assert all((workspace.results / name).exists() for name in described)
    path.unlink()


def test_two_configfiles_are_refused(workspace):
    output = workspace.fails("-n", "--configfile", "tiny.yaml", "config.yaml")
    assert "give one --configfile" in output


def test_a_config_replaces_the_default_one(workspace):
    """A run of the tiny config does not include the languages of config.yaml."""
    assert not any("grn" in path for path in workspace.artefacts())


def test_the_default_config_can_be_planned_without_data(workspace):
    stages = [a.stage for a in Plan(read_config(PROJECT / "config.yaml")).artefacts]
    assert [stages.count(name) for name in ("evaluate", "download", "clean")] == [3080, 46, 19]
    targets = tool(workspace, "targets", "config.yaml", "--language", "ace", "--seed", "0").split()
    planned = workspace.planned(*targets, "--configfile", "config.yaml")
    assert planned["evaluate"] > 20 and planned["download"] > 4 and planned["clean"] > 1


def test_a_config_that_is_edited_during_a_run_stops_later_jobs(workspace):
    output = workspace.fails("--mode", "subprocess", DEFTX_CONFIG_SHA256="another")
    assert "the config was edited while this run was in progress" in output


def test_bad_data_and_a_method_that_cannot_work_stop_a_run_before_training(workspace):
    """Even with --keep-going: where the base is not there yet, the job that is to make it checks
    the methods first. tests/test_data.py has all faults that data can have."""
    (workspace.folder / "text.txt").write_bytes(b"\xff\xfe")
    for language in ("qta", "qtb"):
        (workspace.folder / f"{language}.csv").write_text("text,label\nx,strange\n")
    with workspace.edited() as config:
        config["run"], config["data_dir"] = "new", str(workspace.folder)
        method, message = CANNOT_WORK[0]
        config["methods"]["deft-x"] = method
        config["languages"]["qtb"]["text"] = "./text.txt"
        config["datasets"]["own"] = {
            "files": "{language}.csv", "columns": {"label": "label"}, "labels": {"good": "positive"}
        }  # fmt: skip
        config["tasks"]["sentiment"]["test"]["dataset"] = "own"
        workspace.write_config()
        output = workspace.fails("--keep-going")
        logs = "".join(path.read_text() for path in workspace.results.rglob("data/**/*.log"))
        about_the_base = workspace.log("base/model")
    assert "not UTF-8" in logs
    assert "the label 'strange': `labels` does not map it" in logs
    assert f"methods.deft-x (for a task): {message}" in about_the_base
    assert "loss" not in about_the_base
    assert {"base", "data"} <= set(re.findall(r"Error in rule (\w+)", output))
    assert "rule full:" not in output and "rule sparse:" not in output


CANNOT_WORK = [
    ({"denoise": {"rank": 64}}, "denoise: rank-64 truncates none of the base's"),
    ({"budget": 10**9}, "budget: K is 1000000000"),
    ({"shares": {r"^embeddings\.position": 0.9, "": 0.1}}, "is to have"),
    ({"shares": {r"^embeddings\.": 1.0}}, "belongs to no group"),
    ({"choose_from": "nothing"}, "choose_from: 'nothing' is found in no maskable"),
]


@pytest.mark.parametrize(("method", "message"), CANNOT_WORK)
def test_a_plan_refuses_a_method_that_cannot_work_on_the_base(
    workspace, method, message, monkeypatch
):
    monkeypatch.chdir(workspace.folder)
    config = copy.deepcopy(workspace.config)
    config["methods"]["bad"] = method
    config["systems"]["bad"] = {"task": "bad"}
    with pytest.raises(ConfigError) as error:
        plan_of(config).check_base()
    assert "methods.bad (for a task): " in str(error.value) and message in str(error.value)


def test_a_method_that_cannot_work_on_the_base_is_refused_when_planning(workspace):
    method, message = CANNOT_WORK[0]
    with workspace.edited() as config:
        config["methods"]["deft-x"] = method
        workspace.write_config()
        output = workspace.fails("-n")
    assert f"methods.deft-x (for a task): {message}" in output and "Job stats" not in output


def test_prune_lists_what_no_config_asks_for_and_removes_it(workspace):
    old = workspace.results / "mask/lt-sft/lang-qta/seed0.safetensors"
    with workspace.edited() as config:
        del config["systems"]["lt-sft"], config["methods"]["lt-sft"]
        workspace.write_config()
        listed = tool(workspace, "prune", "tiny.yaml")
        assert str(old.relative_to(workspace.folder)) in listed and old.is_file()
        tool(workspace, "prune", "tiny.yaml", "--yes")
        assert not (workspace.results / "mask/lt-sft").exists()
        assert workspace.planned() == LATE
        assert tool(workspace, "prune", "tiny.yaml").startswith("0 files")
