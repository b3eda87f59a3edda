"""The fingerprint of a stage's code: blind to prose, and to code that the stage cannot reach."""

import shutil
import subprocess
import sys

import pytest
from conftest import PROJECT
from imports import imports, modules, reached

import deftx.run.fingerprint as module
from deftx.stages.table import PAGES, STAGES

TRAINING = {"full", "sparse", "adapter", "gate", "gated", "lora"}
DENOISER = "stages/denoise/math.py"
CHECKPOINT = "engine/checkpoint.py"
TEMPLATES = "report/templates"


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """A copy of the package that may be edited."""
    copy = tmp_path_factory.mktemp("copy") / "deftx"
    shutil.copytree(PROJECT / "deftx", copy, ignore=shutil.ignore_patterns("__pycache__"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "PACKAGE", copy)
        yield copy
    module._digest.cache_clear()


def fingerprints():
    module._digest.cache_clear()
    return {stage: module.fingerprint(stage) for stage in STAGES}


@pytest.fixture(scope="module")
def unedited(package):
    return fingerprints()


@pytest.fixture
def changed_by(package, unedited):
    """The stages whose fingerprint an edit changes; the edit is undone."""

    def edit(file, old, new):
        path = package / file
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))
        found = fingerprints()
        path.write_text(text)
        return {stage for stage in STAGES if found[stage] != unedited[stage]}

    return edit


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        (DENOISER, '"""Denoising:', '"""Other words:'),
        (DENOISER, "    # Projecting onto", "    # Some other reason for projecting onto"),
        (DENOISER, "    rows, columns = matrix.shape\n", "\n    rows, columns = (matrix.shape)\n"),
        (DENOISER, '"""The (m, n) matrix with', '"""A matrix (m, n) with'),
        (DENOISER, "the difference is not finite", "it has an entry that is not finite"),
        ("stages/mask/settings.py", "K must be at least 1", "K must be 1 at least"),
        (CHECKPOINT, "a checkpoint cannot be used", "this checkpoint is not usable"),
        ("engine/resume.py", "going on from step", "resuming at step"),
        ("stages/denoise/settings.py", "denoise the embedding", "reduce the embedding"),
        ("report/coverage.py", "import PreTrainedTokenizerBase", "import Tokenizer"),
    ],
)
def test_what_only_people_and_type_checkers_read_changes_nothing(changed_by, file, old, new):
    assert changed_by(file, old, new) == set()


def test_a_moved_and_renamed_module_changes_nothing(package, unedited, tmp_path, monkeypatch):
    moved = shutil.copytree(package, tmp_path / "deftx")
    monkeypatch.setattr(module, "PACKAGE", moved)
    (moved / "elsewhere").mkdir()
    (moved / "elsewhere/__init__.py").write_text("")
    (moved / DENOISER).rename(moved / "elsewhere/another_name.py")
    (moved / "engine/steps.py").rename(moved / "elsewhere/a_schedule.py")
    for path in moved.rglob("*.py"):
        text = path.read_text().replace(
            "deftx.stages.denoise.math import", "deftx.elsewhere.another_name import"
        )
        path.write_text(text.replace("deftx.engine.steps", "deftx.elsewhere.a_schedule"))
    subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--select", "I", "--fix", "-q", moved], check=True
    )
    assert fingerprints() == unedited


@pytest.mark.parametrize(
    ("file", "old", "new", "stages"),
    [
        # The class of an error is code.
        (DENOISER, 'raise InputError(f"{name}: the', 'raise KeyError(f"{name}: the', {"denoise"}),
        (DENOISER, "truncated = matrices = 0", "truncated = matrices = 1", {"denoise"}),
        (
            "engine/sparse.py",
            "requires_grad_(len(parameter) > 0)",
            "requires_grad_(len(parameter) > 1)",
            {"sparse"},
        ),
        ("engine/passes.py", "max(1, step.labels)", "max(2, step.labels)", {"base", *TRAINING}),
        (
            "models/predict.py",
            "maximum(either, 1)",
            "maximum(either, 2)",
            {*TRAINING, "evaluate", "prior"},
        ),
        ("report/figures/transfer.py", "\n\n\ndef ", "\n\nUNUSED = 1\n\n\ndef ", {"figures"}),
        ("stages/world/math.py", "def text(", "def text_of(", {"world"}),
        ("data/rows.py", "batch_size=1000", "batch_size=2000", {"data"}),
        ("data/download.py", "total=6", "total=7", {"download"}),
        ("stages/trim/run.py", "text.lower()", "text.casefold()", {"trim"}),
        ("stages/clean/math.py", '"NFKC"', '"NFKD"', {"clean", "summary"}),
        # A template belongs to the code that names it, and a style to its page.
        (f"{TEMPLATES}/summary.html.j2", "<", " <", {"summary"}),
        (f"{TEMPLATES}/summary.css", "{", " {", {"summary"}),
        (f"{TEMPLATES}/card.md.j2", "#", " #", {"cards"}),
        (f"{TEMPLATES}/cards.md.j2", "#", " #", {"cards"}),
        # What a job costs, and what is shown of it, cannot change its result.
        ("run/progress.py", "REPORTS = 20", "REPORTS = 30", set()),
        ("run/cost.py", "else 1024", "else 1000", set()),
        ("data/contradictions.py", "differ[0]", "differ[-1]", set()),
        ("plan/feasible.py", "known.validate_python", "known.validate_json", set()),
    ],
)
def test_an_edit_reaches_the_stages_that_run_the_code(changed_by, file, old, new, stages):
    assert changed_by(file, old, new) == stages


CHOOSING = {"mask", "lora", "config", "costs", "cards", "summary"}


@pytest.mark.parametrize(
    ("file", "old", "new", "stages"),
    [
        ("core/shares.py", "parts[group] += 1", "parts[group] += int(1)", CHOOSING),
        ("stages/mask/settings.py", "value < 1", "value <= 0", CHOOSING),
        ("plan/checks.py", "has no effect", "changes nothing", set()),
        ("report/metrics.py", "BINS = 15", "BINS = 16", {*PAGES}),
    ],
)
def test_an_edit_of_what_chooses_checks_or_reports_reaches_no_training(
    changed_by, file, old, new, stages
):
    assert changed_by(file, old, new) <= stages


def test_no_stage_that_makes_a_result_reaches_a_report():
    for stage in {*TRAINING, "base", "denoise", "mask", "compose", "evaluate"}:
        found = reached(f"deftx.stages.{stage}.run")
        assert not [name for name in found if name.startswith("deftx.report")], stage


def test_no_modules_import_each_other_in_a_circle():
    for name in modules():
        assert all(name not in reached(other) for other in imports(name)), name
