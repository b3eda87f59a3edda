"""Models and vectors come from the hub by id and commit, as safetensors alone: tested against a
stand-in on this machine."""

import json
import os
import shutil
import subprocess
import sys
from contextlib import closing

import pytest
from conftest import PROJECT
from loopback_hub import COMMIT, loopback_hub
from lt_sft_files import write_public
from test_foreign import BERT, CLASSES, LM_HEAD, differences, head_of, made_base
from transformers import BertForMaskedLM

from deftx.core.sparse_delta import SparseDelta
from deftx.models.base import Base
from deftx.models.folder import MODEL_FILES


@pytest.fixture(scope="module")
def hub(base_folder, tmp_path_factory):
    """A hub with a base and two vectors of the public code."""
    root = tmp_path_factory.mktemp("hub")
    publish(base_folder, root / "some/encoder")
    base = Base.load(base_folder)
    write_public(root / "some/lang-sft-qa/pytorch_diff.bin", differences(base, 2), LM_HEAD)
    write_public(root / "some/task-sft/pytorch_diff.bin", differences(base, 1), head_of(base))
    with loopback_hub(root) as stand_in:
        yield stand_in


def publish(folder, repository):
    repository.mkdir(parents=True)
    for name in MODEL_FILES:
        if (folder / name).is_file():
            shutil.copyfile(folder / name, repository / name)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """The cache of the hub's client."""
    return tmp_path_factory.mktemp("home")


LOOP = """
import contextlib, io, json, os, sys
from deftx.cli.main import main
answers = os.fdopen(os.dup(1), "w")
for line in sys.stdin:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(json.loads(line))
    print(json.dumps([status, out.getvalue(), err.getvalue()]), file=answers, flush=True)
"""
"""Verbs one after the other in one process, since imports take seconds."""


class Process:
    """Runs verbs with the stand-in as their hub, with or without a network."""

    def __init__(self, environment, home, offline):
        self.process = subprocess.Popen(
            [sys.executable, "-c", LOOP],
            env={
                **os.environ,
                "PYTHONPATH": str(PROJECT),
                "HF_HOME": str(home),
                **environment,
                "HF_HUB_OFFLINE": "1" if offline else "0",
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __call__(self, *arguments):
        """The output of a verb."""
        status, out, err = self.run(*arguments)
        assert status == 0, err
        return out

    def fails(self, *arguments):
        """The error message of a verb."""
        status, _, err = self.run(*arguments)
        assert status == 1 and "Traceback" not in err
        return err

    def run(self, *arguments):
        print(json.dumps([*map(str, arguments)]), file=self.process.stdin, flush=True)
        return json.loads(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


@pytest.fixture(scope="module")
def deftx(hub, home):
    with closing(Process(hub.environment, home, offline=False)) as process:
        yield process


@pytest.fixture(scope="module")
def deftx_offline(hub, home):
    with closing(Process(hub.environment, home, offline=True)) as process:
        yield process


def base_of(id, folder, revision=COMMIT):
    """The arguments that make a base of a repository, in `base/` of the folder."""
    out = folder / "base/model.safetensors"
    return "base", "--id", id, "--revision", revision, "--out", out


def test_a_base_comes_by_id_and_commit_and_records_both(deftx, hub, base, tmp_path):
    hub.folder("some/encoder").joinpath("pytorch_model.bin").write_bytes(b"a pickle")
    hub.folder("some/encoder").joinpath("modeling_own.py").write_text("raise SystemExit")
    deftx(*base_of("some/encoder", tmp_path))
    assert Base.load(tmp_path / "base").identity == {
        "id": "some/encoder",
        "revision": COMMIT,
        "hash": base.identity["hash"],
    }
    assert not [*tmp_path.glob("base/*.bin"), *tmp_path.glob("base/*.py")]
    assert not [line for line in hub.asked if line.endswith((".bin", ".py"))]


def test_a_model_without_safetensors_is_refused(deftx, hub, tmp_path):
    folder = hub.folder("some/pickled")
    folder.mkdir()
    shutil.copyfile(hub.folder("some/encoder") / "config.json", folder / "config.json")
    (folder / "pytorch_model.bin").write_bytes(b"a pickle")
    error = deftx.fails(*base_of("some/pickled", tmp_path))
    assert "some/pickled" in error and "no model.safetensors" in error
    assert not [line for line in hub.asked if "pickled" in line and line.endswith(".bin")]


def test_a_model_that_needs_code_of_its_own_is_refused(deftx, hub, tmp_path):
    folder = hub.folder("some/remote")
    publish(hub.folder("some/encoder"), folder)
    mark = tmp_path / "it-ran"
    config = json.loads((folder / "config.json").read_text())
    config |= {
        "model_type": "own",
        "auto_map": {"AutoConfig": "own.C", "AutoModelForMaskedLM": "own.M"},
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "own.py").write_text(f"open({str(mark)!r}, 'w')")
    assert "some/remote" in deftx.fails(*base_of("some/remote", tmp_path))
    assert not mark.exists()


@pytest.mark.parametrize(
    ("id", "revision", "message"),
    [("some/absent", COMMIT, "some/absent"), ("some/encoder", "f" * 40, "f" * 40)],
)
def test_what_the_hub_does_not_have_is_an_error(deftx, tmp_path, id, revision, message):
    error = deftx.fails(*base_of(id, tmp_path, revision))
    assert message in error and "cannot download it from the Hub" in error


def test_a_vector_comes_by_id_and_commit_and_is_found_again_offline(
    deftx, deftx_offline, base, tmp_path
):
    def convert(out):
        return ("convert", "--method", "m", "--target", "lang-qaa", "--id", "some/lang-sft-qa",
                "--revision", COMMIT, "--base", base.folder,
                "--out", tmp_path / out / "sft_model.safetensors")  # fmt: skip

    error = deftx_offline.fails(*convert("a"))
    assert f"some/lang-sft-qa@{COMMIT}" in error and "give a folder" in error
    deftx(*convert("a"))
    source = SparseDelta.load(tmp_path / "a").provenance["source"]
    assert (source["id"], source["revision"]) == ("some/lang-sft-qa", COMMIT)
    deftx_offline(*convert("b"))
    for name in ("sft_model.safetensors", "sft_config.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_predictions_by_ids_alone(deftx):
    output = deftx("predict", "some/task-sft", f"some/lang-sft-qa@{COMMIT}", "--base",
                   "some/encoder", "--classes", ",".join(CLASSES), "--text", "ba be")  # fmt: skip
    head, row = output.splitlines()
    assert head == "id,text,label,p_negative,p_neutral,p_positive"
    assert row.split(",")[2] in CLASSES
    assert f"some/lang-sft-qa@{COMMIT}" in deftx("inspect", "some/lang-sft-qa")


def test_a_hub_that_cannot_be_reached_is_an_error(home, tmp_path):
    nowhere = {"HF_ENDPOINT": "http://127.0.0.1:9"}
    with closing(Process(nowhere, home, offline=False)) as process:
        for arguments in (("inspect", "me/nowhere"), base_of("me/nowhere", tmp_path)):
            assert "cannot download it from the Hub" in process.fails(*arguments)


def test_another_architecture_by_id(deftx, hub, tmp_path):
    base = made_base(tmp_path / "own", BertForMaskedLM(BERT))
    publish(base.folder, hub.folder("some/bert"))
    deftx(*base_of("some/bert", tmp_path))
    again = Base.load(tmp_path / "base")
    assert again.identity["hash"] == base.identity["hash"]
    assert again.maskable == base.maskable
