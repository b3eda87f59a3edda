"""Laws of artefacts on disk."""

import json

import pytest
import torch

from deftx.store.artefact import atomic, file_sha256, manifest_path, write_json
from deftx.store.errors import ArtefactError
from deftx.store.tensors import TensorFile, save_tensors, tensors_sha256

TENSORS = {"b": torch.randn(3, 4), "a": torch.arange(5), "empty": torch.empty(0, 2)}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "x.safetensors"
    save_tensors(path, TENSORS, stage="test", seed=1)
    return path


def test_save_load_round_trip_is_bitwise(path):
    file = TensorFile(path)
    assert sorted(file) == sorted(TENSORS)
    assert all(torch.equal(file[name], TENSORS[name]) for name in TENSORS)
    assert file.provenance["stage"] == "test"


def test_an_artefact_may_be_read_by_whom_the_umask_lets(path):
    plain = path.with_name("plain")
    plain.touch()
    assert path.stat().st_mode == plain.stat().st_mode


def test_same_content_same_bytes(path, tmp_path):
    again = tmp_path / "again.safetensors"
    save_tensors(again, dict(reversed(TENSORS.items())), seed=1, stage="test")
    assert again.read_bytes() == path.read_bytes()
    assert manifest_path(again).read_bytes() == manifest_path(path).read_bytes()


def test_the_content_hash_sees_tensors_and_not_metadata(path, tmp_path):
    other = tmp_path / "other.safetensors"
    save_tensors(other, TENSORS, stage="another")
    assert TensorFile(other).content == TensorFile(path).content == tensors_sha256(TENSORS)
    assert tensors_sha256({**TENSORS, "a": torch.arange(5).int()}) != tensors_sha256(TENSORS)
    assert tensors_sha256({"b": TENSORS["b"].reshape(4, 3)}) != tensors_sha256({"b": TENSORS["b"]})


def test_the_manifest_holds_the_sha256_of_the_file(path):
    assert json.loads(manifest_path(path).read_text())["sha256"] == file_sha256(path)


@pytest.mark.parametrize("damage", [lambda d: d[:-7], lambda d: d[:-1] + bytes([d[-1] ^ 1])])
def test_a_corrupt_file_is_set_aside_and_named(path, damage):
    damaged = damage(path.read_bytes())
    path.write_bytes(damaged)
    with pytest.raises(ArtefactError, match="corrupt: its sha256 is"):
        TensorFile(path)
    assert not path.exists()
    assert path.with_name("x.safetensors.corrupt").read_bytes() == damaged


def test_missing_files_and_manifests_are_named(path):
    with pytest.raises(ArtefactError, match="nothing: no such file"):
        TensorFile(path.with_name("nothing"))
    manifest_path(path).unlink()
    with pytest.raises(ArtefactError, match="no such manifest"):
        TensorFile(path)


def test_a_newer_format_is_refused(path, monkeypatch):
    monkeypatch.setattr("deftx.store.tensors.FORMAT", 99)
    save_tensors(path, TENSORS)
    monkeypatch.undo()
    with pytest.raises(ArtefactError, match="format 99, this version of deftx reads up to 1"):
        TensorFile(path)


def test_an_interrupted_write_leaves_the_old_file(path):
    before = path.read_bytes()

    with pytest.raises(KeyboardInterrupt), atomic(path) as temporary:
        temporary.write_bytes(b"half")
        raise KeyboardInterrupt
    assert path.read_bytes() == before
    assert {file.name for file in path.parent.iterdir()} == {path.name, manifest_path(path).name}


def test_a_file_that_cannot_be_written_is_one_message_and_leaves_nothing(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(ArtefactError, match=r"file/x.safetensors: cannot be written"):
        save_tensors(tmp_path / "file/x.safetensors", {"a": torch.ones(1)})
    (tmp_path / "x.json").mkdir()
    with pytest.raises(ArtefactError, match=r"x.json: cannot be written: .*directory"):
        write_json(tmp_path / "x.json", {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "x.json"]
