"""Which jobs rerun, which do not, and how jobs fail: runs of a miniature of the whole workflow.

The tests of the workspace follow each other: each starts from complete results and leaves some.
"""

import copy
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import yaml
from conftest import PROJECT
from workspace import LATE, PAGES, Workspace, jobs, plan_of, stale

pytestmark = pytest.mark.workflow


def test_a_copied_and_touched_project_and_cosmetic_edits_rerun_nothing(workspace):
    """The workspace is a copy of the finished run in another folder, without times. Neither these
    nor comments, docstrings, the order of keys or the spelling of numbers count."""
    for path in workspace.results.rglob("*"):
        os.utime(path)
    for path in (workspace.folder / "deftx").rglob("*.py"):
        workspace.append(str(path.relative_to(workspace.folder)), "\n# a comment\n")
    text = yaml.safe_dump(dict(reversed(workspace.config.items())), sort_keys=False)
    workspace.write_config(
        "# a comment\n" + text.replace("learning_rate: 0.001", "learning_rate: 1.0e-3")
    )
    workspace.replace("deftx/stages/denoise/math.py", '"""', '"""Other words. ')
    workspace.replace("workflow/rules/vectors.smk", '"""', '"""Other words. ')
    assert workspace.planned() == {}
    workspace.write_config()


def test_same_config_twice_gives_the_same_bytes(workspace, tmp_path):
    other = Workspace(tmp_path)
    other.config = workspace.config
    other.write_config()
    other.run("--cores", "1")
    first, second = workspace.artefacts(), other.artefacts()
    assert first.keys() == second.keys()
    assert [path for path in first if first[path] != second[path]] == []


def test_ctrl_c_and_the_same_command_again_give_the_same_bytes(workspace):
    """As in a terminal, Snakemake and its jobs receive the signal. The vector that this leaves is
    of another config, and the next runs make it again."""
    with workspace.edited() as config:
        config["language_training"] |= {"min_steps": 200, "max_steps": 200}
        workspace.write_config()
        artefact = "full/lang-qta/seed0/model"
        model = workspace.results / f"{artefact}.safetensors"
        target = str(model.relative_to(workspace.folder))
        command = [sys.executable, "-m", "snakemake", target, "--configfile", "tiny.yaml"]
        process = subprocess.Popen(
            [*command, "--cores", "2"],
            cwd=workspace.folder,
            env={**workspace.environment, "DEFTX_CHECKPOINT_MINUTES": "0.001"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            # A shell may have its background jobs ignore the signal.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        states = ".checkpoints/*/step-*.safetensors.json"
        while not list(model.parent.glob(states)):
            assert process.poll() is None
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait() != 0
        assert not model.exists() and list(model.parent.glob(states))
        assert workspace.run(target) == {"full": 1}
        assert "going on from step" in workspace.log(artefact)
        interrupted = model.read_bytes()
        model.unlink()
        assert workspace.run(target) == {"full": 1}
        assert "going on from step" not in workspace.log(artefact)
        assert model.read_bytes() == interrupted


def rename_language(config):
    config["languages"]["qta"]["name"] = "Nearby"


def change_budget(config):
    config["budget"]["task"] = 0.09


def change_learning_rate(config):
    config["language_training"]["learning_rate"] = 2e-3


def add_language(config):
    config["world"]["languages"]["qtc"] = 0.5
    config["languages"]["qtc"] = {"name": "Middle", "text": "text"}


def add_rank(config):
    config["methods"]["deft-x-2"] = {"denoise": {"rank": 2}}
    config["systems"]["deft-x-2"] = {"task": "deft-x-2"}


def add_system(config):
    config["systems"]["crossed"] = {"task": "deft-x", "language": "lt-sft"}


EDITS = {
    rename_language: "coverage=1",
    change_budget: "mask=2 sparse=2 compose=4 evaluate=4 diagnostics=2",
    change_learning_rate: "full=1 denoise=1 mask=2 sparse=2 compose=3 evaluate=3 diagnostics=3",
    add_language: "world=2 tokens=2 full=1 denoise=1 mask=2 sparse=2 compose=4 evaluate=4 "
    "diagnostics=4 coverage=1",
    add_rank: "denoise=2 mask=2 sparse=2 compose=2 evaluate=2 diagnostics=1",
    add_system: "compose=2 evaluate=2 diagnostics=1",
}
"""Edit of the config → the jobs that it makes necessary, beside those of the pages."""


@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.__name__)
def test_an_edit_of_the_config_reruns_its_stage_and_what_follows(workspace, edit):
    """According to the plan; the next test compares the plan with Snakemake."""
    before, after = plan_of(workspace.config), copy.deepcopy(workspace.config)
    edit(after)
    expected = {rule: int(count) for rule, count in (x.split("=") for x in EDITS[edit].split())}
    found = stale(before, plan_of(after))
    assert found == {**expected, **LATE}


def test_snakemake_reruns_what_the_plan_says_has_changed_even_after_a_failure(workspace):
    """All edits at once, in jobs that fail at first, and then in groups of jobs, which must read
    the same config."""
    before = plan_of(workspace.config)
    for edit in EDITS:
        edit(workspace.config)
    workspace.write_config()
    main, failing = "deftx/__main__.py", 'sys.exit("made to fail")\n\nstatus ='
    workspace.replace(main, "status =", failing)
    workspace.fails(DEFTX_WARM="off")
    workspace.replace(main, failing, "status =")
    expected = stale(before, plan_of(workspace.config))
    assert expected.keys().isdisjoint({"base", "data"}) and expected["full"] == 2
    groups = ("--groups", "compose=transfer", "evaluate=transfer")
    assert workspace.run(*groups, "--group-components", "transfer=30") == expected
    assert "Nearby" in (workspace.results / "tables/transfer.md").read_text()


def test_a_code_edit_reruns_the_stages_that_reach_it_unless_their_results_are_taken_over(workspace):
    """docs/config.md, Results from elsewhere: after an edit that changes no result, and without
    what Snakemake recorded. A later edit of the config then reruns what follows from it, and
    nothing else."""
    before = workspace.artefacts()
    workspace.replace("deftx/stages/denoise/math.py", "matrices = 0", "matrices = int(0)")
    denoised = dict.fromkeys(("denoise", "mask", "sparse"), 6)  # three targets, two ranks
    # Three systems in three languages use a denoised vector.
    expected = {**denoised, "compose": 9, "evaluate": 9, "diagnostics": 3, **PAGES}
    assert workspace.planned() == expected
    shutil.rmtree(workspace.folder / ".snakemake")
    refused = workspace.deftx("adopt", "tiny.yaml")
    assert refused.stdout.count("made with other `code`") == 6  # and what follows from these
    taken = workspace.deftx("adopt", "tiny.yaml", "--any-code")
    count = len(plan_of(workspace.config).artefacts)
    assert f"{count} of {count} artefacts are up to date" in taken.stdout, taken.stdout
    assert workspace.artefacts() == before
    plan = plan_of(workspace.config)
    with workspace.edited() as config:
        config["budget"]["task"] = 0.085
        workspace.write_config()
        assert workspace.planned() == stale(plan, plan_of(config))


def test_a_job_refuses_code_other_than_the_one_recorded():
    arguments = "--base x --task-vector y --out z".split()
    command = [sys.executable, "-m", "deftx", "compose", "--params", '{"code": "0123456789ab"}']
    done = subprocess.run([*command, *arguments], cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 1
    assert "recorded the code of `compose` as 0123456789ab, but this is" in done.stderr


def flip_a_byte(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def test_damage_is_found_and_the_next_run_repairs_it(workspace):
    before = workspace.artefacts()
    full = workspace.results / "full/lang-qtc/seed0/model.safetensors"
    flip_a_byte(full)
    # A corrupt file fails the job that reads it.
    mask = workspace.results / "mask/lt-sft/lang-qta/seed0.safetensors"
    vector = workspace.results / "sparse/lt-sft/lang-qta/seed0/sft_model.safetensors"
    flip_a_byte(mask)
    vector.unlink()
    assert not {"full", "mask"} & jobs(workspace.fails()).keys()
    log = workspace.log("sparse/lt-sft/lang-qta/seed0/sft_model")
    assert "mask/lt-sft/lang-qta/seed0.safetensors: corrupt: its sha256 is" in log
    # One that no job reads is noticed by `deftx verify` only.
    done = workspace.deftx("verify", "results")
    assert done.returncode == 1
    assert "full/lang-qtc/seed0/model.safetensors: corrupt" in done.stderr
    assert {path.name for path in workspace.results.rglob("*.corrupt")} == {
        "model.safetensors.corrupt", "seed0.safetensors.corrupt"
    }  # fmt: skip
    # Both, and a deleted file, are made again with what depends on them.
    (workspace.results / "mask/deft-x/lang-qtc/seed0.safetensors").unlink()
    ran = workspace.run()
    assert ran["full"] == 1 and ran["mask"] == 4
    for path in workspace.results.rglob("*.corrupt"):
        path.unlink()
    assert workspace.artefacts() == before
