"""What reruns, what does not, and what fails how: by running a miniature of the whole workflow.

The tests of the workspace follow each other: each starts from a finished run and ends with one.
"""

import os
import shutil
import subprocess
import sys

import pytest
import yaml
from conftest import PROJECT
from workspace import LATE, PAGES, Workspace

pytestmark = pytest.mark.workflow

OF_ONE_LANGUAGE = dict.fromkeys(("mask", "sparse", "compose", "evaluate", "diagnostics"), 1) | PAGES
"""What depends on the mask of one method for one language."""


def test_a_finished_run_has_nothing_to_do_and_an_artefact_above_1_mb(workspace):
    assert workspace.planned() == {}
    model = workspace.results / "full/lang-qta/seed0/model.safetensors"
    assert model.stat().st_size > 1_000_000


def test_same_config_twice_gives_the_same_bytes(workspace, tmp_path):
    other = Workspace(tmp_path)
    other.run("--cores", "1")
    first, second = workspace.artefacts(), other.artefacts()
    assert first.keys() == second.keys()
    assert [path for path in first if first[path] != second[path]] == []


def test_touching_every_file_reruns_nothing(workspace):
    for path in [*workspace.results.rglob("*"), *(workspace.folder / "deftx").rglob("*.py")]:
        os.utime(path)
    assert workspace.planned() == {}


def test_a_copy_of_the_tree_without_times_reruns_nothing(workspace, tmp_path):
    for name in ("results", ".snakemake"):
        shutil.copytree(workspace.folder / name, tmp_path / name, copy_function=shutil.copyfile)
        shutil.rmtree(workspace.folder / name)
        shutil.copytree(tmp_path / name, workspace.folder / name, copy_function=shutil.copyfile)
    assert workspace.planned() == {}


def test_cosmetic_edits_of_config_and_code_rerun_nothing(workspace):
    text = yaml.safe_dump(dict(reversed(workspace.config.items())), sort_keys=False)
    workspace.write_config(
        "# a comment\n" + text.replace("learning_rate: 0.001", "learning_rate: 1.0e-3")
    )
    workspace.replace("deftx/engine/trainer.py", '"""One phase of', '"""About one phase of')
    workspace.replace(
        "deftx/stages/denoise/math.py", "    # Projecting onto", "    # Why: projecting onto"
    )
    workspace.replace("workflow/rules/vectors.smk", '"""Choose exactly', '"""Always choose exactly')
    assert workspace.planned() == {}
    workspace.write_config()


def test_a_late_value_reruns_late_stages(workspace):
    workspace.config["languages"]["qta"]["name"] = "Nearby"
    workspace.write_config()
    assert workspace.run() == {"coverage": 1, **LATE}
    assert "Nearby" in (workspace.results / "tables/transfer.md").read_text()


def test_a_middle_value_reruns_its_stage_and_what_follows(workspace):
    workspace.config["budget"]["task"] = 0.09
    workspace.write_config()
    expected = {"mask": 2, "sparse": 2, "compose": 4, "evaluate": 4, "diagnostics": 2, **LATE}
    assert workspace.planned() == expected
    assert workspace.run() == expected
    assert workspace.planned() == {}


def test_an_early_value_reruns_its_target_and_no_other(workspace):
    workspace.config["language_training"]["learning_rate"] = 2e-3
    workspace.write_config()
    ran = workspace.run()
    assert ran == {
        "full": 1,
        "denoise": 1,
        "mask": 2,
        "sparse": 2,
        "compose": 2,
        "evaluate": 2,
        "diagnostics": 2,
        **LATE,
    }


def test_a_code_edit_reruns_the_stages_that_reach_it(workspace):
    workspace.replace(
        "deftx/stages/denoise/math.py", "truncated = matrices = 0", "truncated = matrices = int(0)"
    )
    ran = workspace.run()
    of_deft_x = dict.fromkeys(("denoise", "mask", "sparse", "compose", "evaluate"), 2)
    assert ran == {**of_deft_x, "diagnostics": 1, **PAGES}
    workspace.replace("deftx/report/figures/transfer.py", "import ", "UNUSED = 1\nimport ")
    assert workspace.run() == {"figures": 1, "summary": 1}


def test_a_job_refuses_code_other_than_the_one_recorded(workspace):
    command = [
        sys.executable,
        "-m",
        "deftx",
        "compose",
        "--params",
        '{"code": "0123456789ab"}',
        "--base",
        "x",
        "--task-vector",
        "y",
        "--out",
        "z",
    ]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "recorded the code of `compose` as 0123456789ab, but this is" in done.stderr


def test_a_deleted_artefact_is_made_again_with_what_depends_on_it(workspace):
    before = workspace.artefacts()
    (workspace.results / "mask/lt-sft/lang-qta/seed0.safetensors").unlink()
    assert workspace.run() == OF_ONE_LANGUAGE
    assert workspace.artefacts() == before


def flip_a_byte(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def test_a_corrupt_artefact_fails_its_reader_and_is_rebuilt_by_the_next_run(workspace):
    before = workspace.artefacts()
    mask = workspace.results / "mask/lt-sft/lang-qta/seed0.safetensors"
    flip_a_byte(mask)
    (workspace.results / "sparse/lt-sft/lang-qta/seed0/sft_model.safetensors").unlink()
    workspace.fails()
    log = workspace.results / "logs/sparse/lt-sft/lang-qta/seed0/sft_model.log"
    assert "mask/lt-sft/lang-qta/seed0.safetensors: corrupt: its sha256 is" in log.read_text()
    assert mask.with_name("seed0.safetensors.corrupt").is_file()
    assert workspace.run() == OF_ONE_LANGUAGE
    mask.with_name("seed0.safetensors.corrupt").unlink()
    assert workspace.artefacts() == before


def test_verify_finds_what_nobody_read_and_the_next_run_rebuilds_it(workspace):
    flip_a_byte(workspace.results / "full/lang-qta/seed0/model.safetensors")
    assert workspace.planned() == {}
    command = [sys.executable, "-m", "deftx", "verify", "results"]
    done = subprocess.run(
        command,
        cwd=workspace.folder,
        capture_output=True,
        text=True,
        check=False,
        env=workspace.environment,
    )
    assert done.returncode == 1
    assert "full/lang-qta/seed0/model.safetensors: corrupt" in done.stderr
    assert workspace.run()["full"] == 1
    next(workspace.results.rglob("*.corrupt")).unlink()


def test_a_stage_that_failed_once_is_not_forgotten(workspace):
    workspace.config["budget"]["task"] = 0.08
    workspace.write_config()
    main, told = "deftx/__main__.py", 'sys.exit("told to fail")\n\nstatus ='
    workspace.replace(main, "status =", told)
    workspace.fails(DEFTX_WARM="off")
    workspace.replace(main, told, "status =")
    missing = workspace.planned()
    assert missing["mask"] == 2 and missing["tables"] == 1
    workspace.run()
    assert workspace.planned() == {}
