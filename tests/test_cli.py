"""The command line: every verb works alone, helps, and says what is wrong."""

import gc
import json
import shutil
import subprocess
import sys

import pytest
import torch
from conftest import sentences
from safetensors.torch import load_file, save_file

from deftx.cli.main import TOOLS, VECTOR_TOOLS, imported, main
from deftx.core.sparse_delta import SparseDelta
from deftx.stages.table import STAGES
from deftx.store.items import write_items
from deftx.store.tensors import TensorFile

CLASSES = ["low", "high"]


def items(count, seed):
    lines = sentences(count, seed)
    return [{"id": str(i), "text": s, "label": CLASSES["la" in s]} for i, s in enumerate(lines)]


@pytest.fixture
def files(tmp_path):
    for split, count in (("train", 40), ("valid", 16), ("test", 20)):
        write_items(tmp_path / f"{split}.parquet", items(count, count))
    return tmp_path


TRAINING = "{learning_rate: 0.01, batch_size: 8, epochs: 1, max_length: 32}"


def call(*arguments):
    assert main([str(a) for a in arguments]) == 0


def test_the_stages_follow_each_other_by_hand(base_folder, files):
    task = ("--target", "task-x", "--classes", "[low, high]", "--task", TRAINING)
    data = ("--train", files / "train.parquet", "--valid", files / "valid.parquet")
    base = ("--base", base_folder)
    full, denoised, mask = (files / f"{n}.safetensors" for n in ("full", "denoised", "mask"))
    vector, composed = files / "v/sft_model.safetensors", files / "composed.safetensors"
    call("full", *task, *data, *base, "--out", full)
    call("denoise", "--target", "task-x", "--rule", "{rank: 4}", *base, "--full", full,
         "--out", denoised)  # fmt: skip
    call("mask", "--target", "task-x", "--method", "deft-x", "--selection", "{budget: 500}", *base,
         "--delta", denoised, "--out", mask)  # fmt: skip
    call("sparse", *task, "--method", "deft-x", *data, *base, "--mask", mask, "--out", vector)
    call("compose", "--system", "s", "--task", "x", "--language", "qaa", *base,
         "--task-vector", vector, "--out", composed)  # fmt: skip
    call("evaluate", "--system", "s", "--task", "x", "--language", "qaa", "--classes",
         "[low, high]", *base, "--composed", composed, "--test", files / "test.parquet",
         "--max-length", "32", "--out", files / "e.safetensors")  # fmt: skip
    assert load_file(files / "e.safetensors")["logits"].shape == (20, 2)
    config = json.loads((vector.parent / "sft_config.json").read_text())
    assert config["k"] == len(SparseDelta.load(vector.parent)) == 500


@pytest.fixture
def fails(base_folder, files, capsys):
    """Trains with one thing wrong; the error message."""

    def run(verb, *arguments, base=base_folder, task=TRAINING):
        given = [
            "--target", "task-x", "--classes", "[low, high]", "--task", task, "--train",
            files / "train.parquet", "--valid", files / "valid.parquet", "--base", base,
            "--out", files / "out.safetensors",
        ]  # fmt: skip
        assert main([verb, *map(str, [*given, *arguments])]) == 1
        return capsys.readouterr().err

    return run


def test_a_vector_made_for_another_base_is_refused(base_folder, tmp_path, fails):
    other, mask = tmp_path / "other", tmp_path / "mask.safetensors"
    shutil.copytree(base_folder, other)
    weights = load_file(base_folder / "model.safetensors")
    save_file({n: w + 1e-3 for n, w in weights.items()}, other / "model.safetensors")
    call("base", "--id", "other", "--model", other, "--out", tmp_path / "b/model.safetensors")
    call("mask", "--target", "task-x", "--method", "r", "--selection",
         "{score: random, budget: 9}", "--base", base_folder, "--out", mask)  # fmt: skip
    message = fails("sparse", "--method", "r", "--mask", mask, base=tmp_path / "b")
    assert "mask.safetensors: made for base tiny@None" in message
    assert "but this base is other@None" in message


def test_a_local_folder_becomes_a_base_byte_for_byte(base_folder, tmp_path):
    out = tmp_path / "copy/model.safetensors"
    call("base", "--id", "copied", "--model", base_folder, "--out", out)
    assert out.read_bytes() == (base_folder / "model.safetensors").read_bytes()
    facts, original = (
        json.loads((folder / "backbone.json").read_text()) for folder in (out.parent, base_folder)
    )
    assert facts["identity"]["hash"] == original["identity"]["hash"]
    assert facts["parameters"] == original["parameters"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["mask", "--base", "nowhere", "--out", "x"], "Field required"),
        (["compose", "--system", "s", "--task", "t", "--language", "qaa", "--base", "nowhere",
          "--task-vector", "x", "--out", "y"], "nowhere: not a base made by `deftx base`"),
        (["data", "--dataset", "d", "--language", "qaa", "--split", "train", "--file", "no.csv",
          "--out", "y"], "no.csv: no such file"),
        (["verify", "nothing-here"], "no artefacts below it"),
        (["show", "nothing-here"], "has the run finished?"),
        (["prune", "no.yaml"], "no.yaml: no such file"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_message_and_a_status(arguments, message, capsys):
    assert main(arguments) == 1
    output = capsys.readouterr().err
    assert message in output and "Traceback" not in output


def test_text_longer_than_the_bases_positions_is_refused(fails):
    message = fails("full", task="{max_length: 64}")
    assert "max_length is 64, the base has room for 32 positions" in message


def test_a_truncated_model_is_refused(base_folder, tmp_path, fails):
    broken = tmp_path / "broken"
    shutil.copytree(base_folder, broken)
    data = (broken / "model.safetensors").read_bytes()
    (broken / "model.safetensors").write_bytes(data[:-100])
    message = fails("full", base=broken)
    assert "broken/model.safetensors: corrupt: its sha256 is" in message


@pytest.mark.parametrize("verb", [*STAGES, *TOOLS, *VECTOR_TOOLS])
def test_every_verb_helps(verb, capsys):
    with pytest.raises(SystemExit) as stop:
        main([verb, "--help"])
    assert stop.value.code == 0
    output = capsys.readouterr().out
    assert f"usage: deftx {verb}" in output


def test_the_overview_names_every_verb_and_imports_no_torch():
    code = (
        "import sys\nfrom deftx.cli.main import main\nmain(['--help'])\n"
        "assert not {'torch', 'transformers', 'snakemake'} & set(sys.modules)"
    )
    output = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    assert all(f"  {verb}" in output.stdout for verb in [*STAGES, *TOOLS, *VECTOR_TOOLS])
    assert main(["no-such-verb"]) == 2


def test_the_garbage_collector_pauses_for_imports_and_works_again_whatever_they_raise(
    tmp_path, monkeypatch
):
    (tmp_path / "paused.py").write_text("import gc\nwas = gc.isenabled()\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert not imported("paused").was and gc.isenabled()
    with pytest.raises(ModuleNotFoundError):
        imported("no_such_module")
    assert gc.isenabled()


def test_threads_are_those_of_the_parameters(base_folder, tmp_path):
    before = torch.get_num_threads()
    out = tmp_path / "m.safetensors"
    try:
        call("mask", "--params",
             json.dumps({"target": "lang-qaa", "method": "r", "threads": 3,
                         "selection": {"score": "random", "budget": 7}}),
             "--base", base_folder, "--out", out)  # fmt: skip
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert TensorFile(out).provenance["k"] == 7


def test_training_and_evaluation_need_neither_snakemake_nor_datasets():
    code = (
        "import sys\nsys.modules['snakemake'] = sys.modules['datasets'] = None\n"
        "import deftx.stages.full.run, deftx.stages.sparse.run, deftx.stages.evaluate.run"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
