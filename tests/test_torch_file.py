"""Files of `torch.save` are read, and nothing that is in them is run."""

import io
import os
import pickle
import zipfile

import numpy as np
import pytest
import torch
from lt_sft_files import pickled, write, write_pickle

from deftx.exchange import torch_file
from deftx.exchange.torch_file import read_torch_file
from deftx.store.errors import ArtefactError

BOTH = pytest.mark.parametrize("zipped", [True, False])


@BOTH
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.int64])
def test_what_was_saved_is_read(tmp_path, zipped, dtype):
    numbers = torch.arange(24).reshape(4, 6).to(dtype)
    value = {
        "whole": numbers,
        "part": numbers[1:3],
        "column": numbers[:, 2],
        "turned": numbers.T,
        "parameter": torch.nn.Parameter(torch.ones(3)),
        "none": torch.empty(0, 3),
        "numbers": [np.int64(3), 4, 5.5, np.float64(6.5)],
        "size": torch.Size([2, 3]),
        "nested": {"text": "θ", "tuple": (1, None, True)},
    }
    write(tmp_path / "f", value, zipped)
    found = read_torch_file(tmp_path / "f")
    assert found.keys() == value.keys()
    for name, expected in value.items():
        if isinstance(expected, torch.Tensor):
            assert torch.equal(found[name], expected), name
        else:
            assert found[name] == expected, name


class Runs:
    """Pickled as a call of a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def touch(path):
    open(path, "w").close()


@BOTH
@pytest.mark.parametrize(
    ("function", "asked"),
    [
        (os.system, f"{os.system.__module__}.system"),
        (eval, "eval"),
        (exec, "exec"),
        (getattr, "getattr"),
        (open, "open"),
        (touch, "test_torch_file.touch"),
        (torch.load, "torch.serialization.load"),
        (np.load, "numpy.load"),
        (__import__, "__import__"),
    ],
)
def test_a_file_that_would_run_something_is_refused_by_name(tmp_path, zipped, function, asked):
    mark = tmp_path / "it-ran"
    word = {os.system: f"touch {mark}", eval: f"open({str(mark)!r}, 'w')"}.get(function, str(mark))
    for value in (Runs(function, word), {"diffs": {}, "abs": {"w": Runs(function, word)}}):
        write_pickle(tmp_path / "f", pickled(value), zipped)
        with pytest.raises(ArtefactError, match=rf"asks for `.*{asked}`.*nothing was run"):
            read_torch_file(tmp_path / "f")
    assert not mark.exists()


HAND_MADE = {
    # The operations of a pickle that get hold of more than values, each on what is known here.
    "a dotted name": b"ccollections\nOrderedDict.__init__\n.",
    "a name of ours": b"cdeftx.torch_file\nread_torch_file\n.",
    "an attribute of a function": b"ctorch\nSize\n}X\x04\x00\x00\x00makeK\x01sb.",
    "a slot of a function": b"ctorch\nSize\nN}X\x04\x00\x00\x00makeK\x01s\x86b.",
    "an instance": b"(ccollections\nOrderedDict\nK\x01o.",
    "an instance by name": b"(K\x01icollections\nOrderedDict\n.",
    "a new object": b"\x80\x02ccollections\nOrderedDict\n)\x81.",
    "an extension": b"\x82\x01.",
    "a persistent id": b"Pos.system\n.",
    "another encoding": b"c_codecs\nencode\nX\x02\x00\x00\x00abX\x05\x00\x00\x00utf-7\x86R.",
    "an array of objects": b"cnumpy\ndtype\nX\x01\x00\x00\x00O\x85R.",
    "endless": b"(" * 10_000 + b".",
    "nothing": b"",
}


@pytest.mark.parametrize("name", HAND_MADE)
def test_no_operation_of_a_pickle_gets_hold_of_anything(tmp_path, name):
    before = {key: named.make for key, named in torch_file._NAMES.items()}
    write_pickle(tmp_path / "f", HAND_MADE[name])
    try:
        found = read_torch_file(tmp_path / "f")
    except ArtefactError as error:
        assert str(tmp_path / "f") in str(error)
    else:  # a value at most
        assert isinstance(found, (torch_file._Dtype, dict))
    assert {key: named.make for key, named in torch_file._NAMES.items()} == before


@BOTH
def test_a_truncated_file_is_told_wherever_it_ends(tmp_path, zipped):
    write(tmp_path / "f", {"w": torch.arange(300.0), "steps": list(range(400))}, zipped)
    whole = (tmp_path / "f").read_bytes()
    for end in [*range(0, len(whole) - 1, 37), len(whole) - 1]:
        (tmp_path / "cut").write_bytes(whole[:end])
        with pytest.raises(ArtefactError, match="cut: "):
            read_torch_file(tmp_path / "cut")


def test_a_tensor_outside_of_its_storage_is_told(tmp_path):
    class Storage:
        pass

    class Outside:
        def __init__(self, *geometry):
            self.geometry = geometry

        def __reduce__(self):
            return torch._utils._rebuild_tensor_v2, (Storage(), *self.geometry, False, {})

    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            if isinstance(value, Storage):
                return ("storage", torch.FloatStorage, "0", "cpu", 6)
            return None

    for geometry in [(0, (7,), (1,)), (3, (4,), (1,)), (0, (2, 2), (3, 3)), (-1, (2,), (1,)),
                     (0, (2,), (-1,)), (0, (10**12,), (0,)), (0, (2, 2), (1,))]:  # fmt: skip
        stream = io.BytesIO()
        Pickler(stream, 2).dump({"w": Outside(*geometry)})
        with zipfile.ZipFile(tmp_path / "f", "w") as archive:
            archive.writestr("x/data.pkl", stream.getvalue())
            archive.writestr("x/data/0", np.arange(6, dtype=np.float32).tobytes())
        with pytest.raises(ArtefactError):
            read_torch_file(tmp_path / "f")


def test_what_is_no_such_file_is_told(tmp_path):
    with pytest.raises(ArtefactError, match="no such file"):
        read_torch_file(tmp_path / "absent")
    (tmp_path / "text").write_text("a line of text")
    with pytest.raises(ArtefactError, match=r"no file of torch\.save"):
        read_torch_file(tmp_path / "text")
