"""Models and vectors come from the hub by id and commit, as safetensors alone, and go there only
when told to: against a stand-in on this machine."""

import json
import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import PROJECT
from loopback_hub import COMMIT, loopback_hub
from lt_sft_files import write_public
from test_foreign import BERT, CLASSES, LM_HEAD, differences, head_of, made_base
from transformers import BertForMaskedLM

from deftx.core.sparse_delta import SparseDelta
from deftx.models.base import Base

MODEL = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")


@pytest.fixture(scope="module")
def hub(base_folder, tmp_path_factory):
    """A hub with a base and two vectors of the public code."""
    root = tmp_path_factory.mktemp("hub")
    for name in MODEL:
        if (base_folder / name).is_file():
            (root / "some/encoder").mkdir(parents=True, exist_ok=True)
            (root / "some/encoder" / name).write_bytes((base_folder / name).read_bytes())
    base = Base.load(base_folder)
    write_public(root / "some/lang-sft-qa/pytorch_diff.bin", differences(base, 2), LM_HEAD)
    write_public(root / "some/task-sft/pytorch_diff.bin", differences(base, 1), head_of(base))
    with loopback_hub(root) as stand_in:
        yield stand_in


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """The cache of the hub's client."""
    return tmp_path_factory.mktemp("home")


LOOP = """
import contextlib, io, json, os, sys
from deftx.cli.main import main
answers = os.fdopen(os.dup(1), "w")
for line in sys.stdin:
    arguments, os.environ["HF_TOKEN"] = json.loads(line)
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(arguments)
    print(json.dumps([status, out.getvalue(), err.getvalue()]), file=answers, flush=True)
"""
"""Verbs one after the other in one process, since imports take seconds."""


class Process:
    """Runs verbs with the stand-in as their hub, with or without a network."""

    def __init__(self, hub, home, offline):
        self.process = subprocess.Popen(
            [sys.executable, "-c", LOOP],
            env={
                **os.environ,
                "PYTHONPATH": str(PROJECT),
                "HF_HOME": str(home),
                **hub.environment,
                "HF_HUB_OFFLINE": "1" if offline else "0",
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __call__(self, *arguments, token="hf_stand_in"):
        print(json.dumps([[*map(str, arguments)], token]), file=self.process.stdin, flush=True)
        status, out, err = json.loads(self.process.stdout.readline())
        assert "Traceback" not in err
        return SimpleNamespace(returncode=status, stdout=out, stderr=err)

    def close(self):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


@pytest.fixture(scope="module")
def deftx(hub, home):
    process = Process(hub, home, offline=False)
    yield process
    process.close()


@pytest.fixture(scope="module")
def deftx_offline(hub, home):
    process = Process(hub, home, offline=True)
    yield process
    process.close()


def done(found):
    assert found.returncode == 0, found.stderr
    return found.stdout


def test_a_base_comes_by_id_and_commit_and_says_so(deftx, hub, base, tmp_path):
    out = tmp_path / "base/model.safetensors"
    hub.folder("some/encoder").joinpath("pytorch_model.bin").write_bytes(b"a pickle")
    hub.folder("some/encoder").joinpath("modeling_own.py").write_text("raise SystemExit")
    done(deftx("base", "--id", "some/encoder", "--revision", COMMIT, "--out", out))
    made = Base.load(out)
    assert made.identity == {
        "id": "some/encoder",
        "revision": COMMIT,
        "hash": base.identity["hash"],
    }
    assert not [*out.parent.glob("*.bin"), *out.parent.glob("*.py")]
    assert not [line for line in hub.asked if line.endswith((".bin", ".py"))]


def test_a_model_without_safetensors_is_refused(deftx, hub, tmp_path):
    folder = hub.folder("some/pickled")
    folder.mkdir()
    (folder / "config.json").write_bytes((hub.folder("some/encoder") / "config.json").read_bytes())
    (folder / "pytorch_model.bin").write_bytes(b"a pickle")
    found = deftx("base", "--id", "some/pickled", "--revision", COMMIT, "--out",
                  tmp_path / "base/model.safetensors")  # fmt: skip
    assert found.returncode == 1
    assert "some/pickled" in found.stderr and "no model.safetensors" in found.stderr
    assert not [line for line in hub.asked if "pickled" in line and line.endswith(".bin")]


def test_a_model_that_needs_code_of_its_own_is_refused(deftx, hub, tmp_path):
    folder = hub.folder("some/remote")
    folder.mkdir()
    for name in MODEL:
        source = hub.folder("some/encoder") / name
        if source.is_file():
            (folder / name).write_bytes(source.read_bytes())
    mark = tmp_path / "it-ran"
    config = json.loads((folder / "config.json").read_text())
    config |= {
        "model_type": "own",
        "auto_map": {"AutoConfig": "own.C", "AutoModelForMaskedLM": "own.M"},
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "own.py").write_text(f"open({str(mark)!r}, 'w')")
    found = deftx("base", "--id", "some/remote", "--revision", COMMIT, "--out",
                  tmp_path / "base/model.safetensors")  # fmt: skip
    assert found.returncode == 1
    assert not mark.exists()


@pytest.mark.parametrize(
    ("id", "revision", "message"),
    [("some/absent", COMMIT, "some/absent"), ("some/encoder", "f" * 40, "f" * 40)],
)
def test_what_the_hub_does_not_have_is_told(deftx, hub, tmp_path, id, revision, message):
    found = deftx("base", "--id", id, "--revision", revision, "--out",
                  tmp_path / "base/model.safetensors")  # fmt: skip
    assert found.returncode == 1
    assert message in found.stderr and "not to be had from the hub" in found.stderr


def test_a_vector_comes_by_id_and_commit_and_is_found_again_offline(
    deftx, deftx_offline, base, tmp_path
):
    def convert(process, out):
        return process("convert", "--method", "m", "--target", "lang-qaa", "--id",
                       "some/lang-sft-qa", "--revision", COMMIT, "--base", base.folder,
                       "--out", out / "sft_model.safetensors")  # fmt: skip

    found = convert(deftx_offline, tmp_path / "a")
    assert found.returncode == 1
    assert f"some/lang-sft-qa@{COMMIT}" in found.stderr and "give a folder" in found.stderr
    done(convert(deftx, tmp_path / "a"))
    source = SparseDelta.load(tmp_path / "a").provenance["source"]
    assert (source["id"], source["revision"]) == ("some/lang-sft-qa", COMMIT)
    done(convert(deftx_offline, tmp_path / "b"))
    for name in ("sft_model.safetensors", "sft_config.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_predictions_by_ids_alone(deftx, hub):
    output = done(deftx("predict", "some/task-sft", f"some/lang-sft-qa@{COMMIT}",
                        "--base", "some/encoder", "--classes", ",".join(CLASSES),
                        "--text", "ba be"))  # fmt: skip
    head, row = output.splitlines()
    assert head == "id,text,label,p_negative,p_neutral,p_positive"
    assert row.split(",")[2] in CLASSES
    output = done(deftx("inspect", "some/lang-sft-qa"))
    assert f"some/lang-sft-qa@{COMMIT}" in output


def test_what_is_pushed_is_private_has_its_card_and_comes_back(deftx, hub, base, tmp_path):
    done(deftx("convert", "--method", "m", "--target", "lang-qaa", "--id", "x",
               "--vector", hub.folder("some/lang-sft-qa"), "--base", base.folder,
               "--out", tmp_path / "v/sft_model.safetensors"))  # fmt: skip
    asked = len(hub.asked)
    found = deftx("push", tmp_path / "v", "me/mine")
    assert found.returncode == 1 and "no README.md" in found.stderr
    assert len(hub.asked) == asked
    (tmp_path / "v/README.md").write_text("---\nlibrary_name: deftx\n---\n# Mine\n")
    (tmp_path / "v/pytorch_diff.bin").write_bytes(b"a pickle")
    output = done(deftx("push", tmp_path / "v", "me/mine"))
    assert f"/me/mine/commit/{COMMIT}" in output
    assert hub.private["me/mine"] is True
    pushed = {path.name for path in hub.folder("me/mine").iterdir()}
    assert pushed == {"README.md", "sft_model.safetensors", "sft_model.safetensors.json",
                      "sft_config.json"}  # fmt: skip
    output = done(deftx("pull", "me/mine", "--out", tmp_path / "back"))
    assert COMMIT in output
    for name in pushed:
        assert (tmp_path / "back" / name).read_bytes() == (tmp_path / "v" / name).read_bytes()
    hub.private["me/mine"] = False
    found = deftx("push", tmp_path / "v", "me/mine")
    assert found.returncode == 1 and "say --public" in found.stderr
    done(deftx("push", tmp_path / "v", "me/mine", "--public"))


def test_without_a_right_to_write_it_is_told(deftx, hub, tmp_path):
    folder = Path(tmp_path / "v")
    folder.mkdir()
    (folder / "README.md").write_text("# Mine\n")
    (folder / "model.safetensors").write_bytes(b"")
    found = deftx("push", folder, "me/other", token="hf_wrong")
    assert found.returncode == 1
    assert "hf auth login" in found.stderr


def test_a_hub_that_is_not_reached_is_told(home, tmp_path):
    nowhere = SimpleNamespace(environment={"HF_ENDPOINT": "http://127.0.0.1:9"})
    (tmp_path / "README.md").write_text("# Mine\n")
    (tmp_path / "model.safetensors").write_bytes(b"")
    out = ("--out", tmp_path / "base/model.safetensors")
    with closing(Process(nowhere, home, offline=False)) as process:
        for verb, message in (
            (("push", tmp_path, "mine"), "mine: expected owner/name"),
            (("push", tmp_path, "me/nowhere"), "me/nowhere: not pushed"),
            (("pull", "me/nowhere", "--out", tmp_path / "back"), "me/nowhere@main: not to be had"),
            (
                ("base", "--id", "me/nowhere", "--revision", COMMIT, *out),
                "not to be had from",
            ),
        ):
            found = process(*verb)
            assert found.returncode == 1 and message in found.stderr


def test_another_architecture_by_id(deftx, hub, tmp_path):
    base = made_base(tmp_path, BertForMaskedLM(BERT))
    hub.folder("some/bert").mkdir()
    for name in MODEL:
        if (base.folder / name).is_file():
            data = (base.folder / name).read_bytes()
            (hub.folder("some/bert") / name).write_bytes(data)
    out = tmp_path / "again/model.safetensors"
    done(deftx("base", "--id", "some/bert", "--revision", COMMIT, "--out", out))
    assert Base.load(out).identity["hash"] == base.identity["hash"]
    assert Base.load(out).maskable == base.maskable
