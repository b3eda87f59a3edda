"""Models and vectors come from the hub by id and commit, as safetensors alone: tested with the
hub's own client against a stand-in on this machine."""

import json
import shutil

import pytest
from huggingface_hub import constants
from loopback_hub import COMMIT, loopback_hub
from lt_sft_files import CLASSES, LM_HEAD, call, differences, fails, head_of, write_public

from deftx.core.sparse_delta import SparseDelta
from deftx.models.base import Base
from deftx.models.folder import HUB_FILES


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
    for name in HUB_FILES:
        if (folder / name).is_file():
            shutil.copyfile(folder / name, repository / name)


@pytest.fixture(autouse=True)
def client(monkeypatch, hub, tmp_path):
    """The hub's client with the stand-in as its hub, online, and an empty cache."""
    changes = {
        "ENDPOINT": hub.endpoint,
        "HUGGINGFACE_CO_URL_TEMPLATE": hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_CACHE": str(tmp_path / "cache"),
        "HF_HUB_OFFLINE": False,
        "HF_HUB_DISABLE_XET": True,
    }
    for name, value in changes.items():
        monkeypatch.setattr(constants, name, value)


def base_of(id, folder, revision=COMMIT):
    """The arguments that make a base of a repository, in `base/` of the folder."""
    out = folder / "base/model.safetensors"
    return "base", "--id", id, "--revision", revision, "--out", out


def test_a_base_comes_by_id_and_commit_and_records_both(hub, base, tmp_path):
    (hub.root / "some/encoder/pytorch_model.bin").write_bytes(b"a pickle")
    (hub.root / "some/encoder/modeling_own.py").write_text("raise SystemExit")
    call(*base_of("some/encoder", tmp_path))
    identity = {**base.identity, "id": "some/encoder", "revision": COMMIT}
    assert Base.load(tmp_path / "base").identity == identity
    assert not [*tmp_path.glob("base/*.bin"), *tmp_path.glob("base/*.py")]
    assert not [path for path in hub.asked if path.endswith((".bin", ".py"))]


def test_a_model_without_safetensors_is_refused(hub, tmp_path, capsys):
    folder = hub.root / "some/pickled"
    folder.mkdir()
    shutil.copyfile(hub.root / "some/encoder/config.json", folder / "config.json")
    (folder / "pytorch_model.bin").write_bytes(b"a pickle")
    error = fails(capsys, *base_of("some/pickled", tmp_path))
    assert "some/pickled" in error and "no model.safetensors" in error
    assert not [path for path in hub.asked if "pickled" in path and path.endswith(".bin")]


def test_a_model_that_needs_code_of_its_own_is_refused(hub, tmp_path, capsys):
    folder, mark = hub.root / "some/remote", tmp_path / "it-ran"
    publish(hub.root / "some/encoder", folder)
    config = json.loads((folder / "config.json").read_text())
    own = {"AutoConfig": "own.C", "AutoModelForMaskedLM": "own.M"}
    config |= {"model_type": "own", "auto_map": own}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "own.py").write_text(f"open({str(mark)!r}, 'w')")
    assert "some/remote" in fails(capsys, *base_of("some/remote", tmp_path))
    assert not mark.exists()


@pytest.mark.parametrize(
    ("id", "revision", "message"),
    [("some/absent", COMMIT, "some/absent"), ("some/encoder", "f" * 40, "f" * 40)],
)
def test_what_the_hub_does_not_have_is_an_error(tmp_path, capsys, id, revision, message):
    error = fails(capsys, *base_of(id, tmp_path, revision))
    assert message in error and "cannot download it from the Hub" in error


def test_a_hub_that_cannot_be_reached_is_an_error(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    for arguments in (("inspect", "me/nowhere"), base_of("me/nowhere", tmp_path)):
        assert "cannot download it from the Hub" in fails(capsys, *arguments)


def test_a_vector_comes_by_id_and_commit_and_is_found_again_offline(
    monkeypatch, base, tmp_path, capsys
):
    def convert(out):
        return ("convert", "--method", "m", "--target", "lang-qaa", "--id", "some/lang-sft-qa",
                "--revision", COMMIT, "--base", base.folder,
                "--out", tmp_path / out / "sft_model.safetensors")  # fmt: skip

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    error = fails(capsys, *convert("a"))
    assert f"some/lang-sft-qa@{COMMIT}" in error and "give a folder" in error
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    call(*convert("a"))
    source = SparseDelta.load(tmp_path / "a").provenance["source"]
    assert (source["id"], source["revision"]) == ("some/lang-sft-qa", COMMIT)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    call(*convert("b"))
    for name in ("sft_model.safetensors", "sft_config.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_predictions_by_ids_alone(capsys):
    call("predict", "some/task-sft", f"some/lang-sft-qa@{COMMIT}", "--base", "some/encoder",
         "--classes", ",".join(CLASSES), "--text", "ba be")  # fmt: skip
    head, row = capsys.readouterr().out.splitlines()
    assert head == "id,text,label,p_negative,p_neutral,p_positive"
    assert row.split(",")[2] in CLASSES
    call("inspect", "some/lang-sft-qa")
    assert f"some/lang-sft-qa@{COMMIT}" in capsys.readouterr().out
