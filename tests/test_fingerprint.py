"""The fingerprint of a stage's code: blind to prose, and to code that the stage cannot reach."""

import ast
import shutil
import subprocess
import sys

import pytest
from conftest import PROJECT
from imports import imports, modules, reached

import deftx.run.fingerprint as module
from deftx.stages.table import STAGES

TRAINING = ("full", "sparse", "adapter", "gate", "gated", "lora")
COMPARING = ("tables", "claims", "figures", "costs", "cards", "summary")


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A copy of the package that may be edited."""
    copy = tmp_path / "deftx"
    shutil.copytree(PROJECT / "deftx", copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(module, "PACKAGE", copy)
    return copy


def fingerprints():
    module._digest.cache_clear()
    return {stage: module.fingerprint(stage) for stage in STAGES}


def changed_by(package, file, old, new):
    before = fingerprints()
    path = package / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    after = fingerprints()
    return {stage for stage in STAGES if before[stage] != after[stage]}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"""Denoising:', '"""Other words:'),
        ("    # Projecting onto", "    # Some other reason for projecting onto"),
        ("    rows, columns = matrix.shape\n", "\n    rows, columns = (matrix.shape)\n"),
        ('"""The (m, n) matrix with', '"""A matrix (m, n) with'),
    ],
)
def test_comments_docstrings_and_layout_change_nothing(package, old, new):
    assert changed_by(package, "stages/denoise/math.py", old, new) == set()


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        (
            "stages/denoise/math.py",
            "the difference is not finite",
            "it has an entry that is not finite",
        ),
        ("stages/mask/settings.py", "K must be at least 1", "K must be 1 at least"),
        ("engine/checkpoint.py", "a checkpoint cannot be used", "this checkpoint is not usable"),
        ("engine/checkpoint.py", "going on from step", "resuming at step"),
    ],
)
def test_error_and_log_messages_change_nothing(package, file, old, new):
    assert changed_by(package, file, old, new) == set()


def test_the_class_of_an_error_is_code(package):
    old = 'raise InputError(f"{name}: the difference'
    assert changed_by(package, "stages/denoise/math.py", old, old.replace("Input", "Key")) == {
        "denoise"
    }


def test_a_moved_and_renamed_module_changes_nothing(package):
    before = fingerprints()
    (package / "elsewhere").mkdir()
    (package / "elsewhere/__init__.py").write_text("")
    (package / "stages/denoise/math.py").rename(package / "elsewhere/another_name.py")
    (package / "engine/steps.py").rename(package / "elsewhere/a_schedule.py")
    for path in package.rglob("*.py"):
        text = path.read_text().replace(
            "deftx.stages.denoise.math import", "deftx.elsewhere.another_name import"
        )
        path.write_text(text.replace("deftx.engine.steps", "deftx.elsewhere.a_schedule"))
    subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--select", "I", "--fix", "-q", package], check=True
    )
    assert fingerprints() == before


def test_what_only_type_checkers_read_changes_nothing(package):
    old, new = "import PreTrainedTokenizerBase", "import Tokenizer"
    assert changed_by(package, "report/coverage.py", old, new) == set()


def test_a_description_of_a_setting_is_prose(package):
    assert (
        changed_by(package, "stages/denoise/settings.py", "denoise the embedding", "reduce the emb")
        == set()
    )


def test_editing_the_denoiser_reaches_denoise_and_neither_mask_nor_training(package):
    changed = changed_by(
        package, "stages/denoise/math.py", "truncated = matrices = 0", "truncated = matrices = 1"
    )
    assert changed == {"denoise"}


def test_editing_a_figure_reaches_figures_alone(package):
    text = (package / "report/figures/transfer.py").read_text()
    (package / "report/figures/transfer.py").write_text(text + "\nUNUSED = 1\n")
    (package / "report/figures/transfer.py").write_text(text)
    before = fingerprints()
    (package / "report/figures/transfer.py").write_text(text + "\nUNUSED = 1\n")
    after = fingerprints()
    assert {stage for stage in STAGES if before[stage] != after[stage]} == {"figures"}


def test_editing_the_sparse_phase_leaves_the_full_phase_alone(package):
    assert changed_by(package, "engine/sparse.py", "weight.grad = None", "weight.grad = 0") == {
        "sparse"
    }


def test_editing_the_trainer_reaches_what_trains(package):
    changed = changed_by(package, "engine/trainer.py", "max(1, labels)", "max(2, labels)")
    assert changed == {"base", *TRAINING}


def test_editing_what_is_shown_of_training_reaches_nothing(package):
    assert changed_by(package, "run/progress.py", "SECONDS = 60.0", "SECONDS = 30.0") == set()


def test_editing_a_metric_reaches_no_base(package):
    changed = changed_by(package, "models/predict.py", "zero_division=0", "zero_division=1")
    assert changed == {*TRAINING, "evaluate"}


def test_editing_what_is_only_reported_reaches_no_training(package):
    changed = changed_by(package, "report/metrics.py", "BINS = 15", "BINS = 16")
    assert changed <= {*COMPARING}


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("core/shares.py", "parts[group] += 1", "parts[group] += int(1)"),
        ("stages/mask/settings.py", "value < 1", "value <= 0"),
        ("plan/feasible.py", "lower it, or say", "say"),
        ("plan/checks.py", "did you mean", "is it"),
    ],
)
def test_editing_what_chooses_or_checks_never_reaches_training(package, file, old, new):
    changed = changed_by(package, file, old, new)
    assert changed <= {"mask", "lora", "config", "costs", "cards", "summary"}


def test_editing_the_world_reaches_no_users_data(package):
    changed = changed_by(package, "stages/world/math.py", "def text(", "def text_of(")
    assert changed == {"world"}


@pytest.mark.parametrize(
    ("file", "old", "new", "stages"),
    [
        ("data/read.py", "min(limit, 10_000)", "min(limit, 9_999)", {"data"}),
        ("data/download.py", "total=6", "total=7", {"download"}),
        ("stages/trim/math.py", 'kind="stable"', 'kind="mergesort"', {"trim"}),
        ("stages/clean/math.py", '"NFKC"', '"NFKD"', {"clean", "summary"}),
    ],
)
def test_editing_what_makes_data_reaches_its_own_stage(package, file, old, new, stages):
    assert changed_by(package, file, old, new) == stages


def test_a_template_belongs_to_the_code_that_names_it(package):
    def edited(name):
        before = fingerprints()
        with open(package / "report/templates" / name, "a", encoding="utf-8") as file:
            file.write(" ")
        return {stage for stage, found in fingerprints().items() if found != before[stage]}

    assert edited("summary.html.j2") == edited("summary.css") == {"summary"}
    assert edited("card.md.j2") == edited("cards.md.j2") == {"cards"}


def test_what_a_job_cost_reaches_nothing(package):
    assert changed_by(package, "run/cost.py", "else 1024", "else 1000") == set()


def test_the_package_is_never_imported_by_its_name_and_no_module_by_reflection():
    """`from deftx import name` would lead the fingerprint to everything, reflection to nothing."""
    for path in (PROJECT / "deftx").rglob("*.py"):
        text = path.read_text()
        if (
            path.parent.name != "cli"
            and path.name != "warm.py"
            and path != PROJECT / "deftx/__init__.py"
        ):
            assert "import_module" not in text, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom):
                assert node.module != "deftx", path
            if isinstance(node, ast.Import):
                assert all(not alias.name.startswith("deftx") for alias in node.names), path


def test_no_modules_import_each_other_in_a_circle():
    for name in modules():
        assert all(name not in reached(other) for other in imports(name)), name
