"""Files of the public LT-SFT code are read exactly and within bounds, and run nothing."""

import io
import os
import pickle
import zipfile

import numpy as np
import pytest
import torch
from lt_sft_files import content, dense, drawn, pickled, write, write_pickle, write_public
from safetensors import safe_open

from deftx.exchange import lt_sft
from deftx.exchange.lt_sft import decode, read_lt_sft
from deftx.store.errors import ArtefactError

BOTH = pytest.mark.parametrize("zipped", [True, False])


def shapes(vector):
    return {name: tuple(shape) for name, shape in vector.provenance["shapes"].items()}


SHAPES = [(1,), (7,), (5, 9), (9, 5), (1, 6), (6, 1), (3, 4, 5), (300, 70), ()]


@BOTH
@pytest.mark.parametrize("share", [0, 0.01, 0.3, 1])
def test_every_entry_of_a_public_file_is_where_it_was(tmp_path, zipped, share):
    expected = {f"t{i}.weight": drawn(shape, share, i) for i, shape in enumerate(SHAPES)}
    whole = {"head.weight": drawn((3, 4), 1, 99), "head.bias": torch.nn.Parameter(torch.ones(3))}
    write_public(tmp_path / "v", expected, whole, zipped)
    found = decode(tmp_path / "v")
    assert shapes(found) == {name: tuple(tensor.shape) for name, tensor in expected.items()}
    for name, tensor in expected.items():
        assert torch.equal(dense(found, name, tensor.shape), tensor), name
        if name in found.values:
            assert (found.mask.index[name].diff() > 0).all()
            assert (found.values[name] != 0).all()
    assert all(torch.equal(found.head[name], tensor) for name, tensor in whole.items())
    assert len(found.mask) == sum(int(t.count_nonzero()) for t in expected.values())


@pytest.mark.parametrize("name", ["lang-a", "lang-b", "task"])
def test_what_the_public_code_wrote_is_what_it_had(shared, name):
    folder = shared / "oracles/lt-sft" / name
    found = decode(folder / "pytorch_diff.bin")
    file = safe_open(folder / "oracle.safetensors", framework="pt")
    parts = {"diff": {}, "abs": {}}
    for key in file.keys():  # noqa: SIM118
        part, _, rest = key.partition(".")
        if part in parts:
            parts[part][rest] = file.get_tensor(key)
    assert shapes(found) == {n: tuple(t.shape) for n, t in parts["diff"].items()}
    for tensor, expected in parts["diff"].items():
        assert torch.equal(dense(found, tensor, expected.shape), expected), tensor
    assert found.head.keys() == parts["abs"].keys()
    for tensor, expected in parts["abs"].items():
        assert torch.equal(found.head[tensor], expected), tensor


def changed(**parts):
    value = content({"w": drawn((4, 5), 0.5, 0)}, {})
    value["diffs"]["w"] |= parts
    return value


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (changed(index_steps=[0, 3, 25], values=torch.ones(3)), "w: a position 28 in shape"),
        (changed(index_steps=[0, 3, 0], values=torch.ones(3)), "w: positions that do not ascend"),
        (changed(index_steps=[-1, 3], values=torch.ones(2)), "w: positions that do not ascend"),
        (changed(index_steps=[2**62] * 3, values=torch.ones(3)), "w: positions that do not"),
        (changed(index_steps=[0, 1.5], values=torch.ones(2)), "w: steps of type float64"),
        (changed(index_steps=[0, 2**70], values=torch.ones(2)), "w: steps of type object"),
        (changed(index_steps=[0], values=torch.ones(2)), "w: 1 positions, values of shape"),
        (changed(index_steps=[0], values=torch.ones(1).long()), "w: values of type torch.int64"),
        (changed(index_steps=[0], values=torch.ones(1).double()), "w: values of type torch.float"),
        (changed(index_steps=[0], values=[1.0]), "w: values of type list"),
        (changed(index_steps=[0], values=torch.tensor([torch.nan])), "w: values that are not fin"),
        ({"diffs": {"w": {"size": (2,)}}, "abs": {}}, "w: 'index_steps'"),
        ({"diffs": {}, "abs": {"h": torch.ones(1).long()}}, "h: values of type torch.int64"),
        ({"diffs": {}, "abs": {"h": "text"}}, "h: values of type str"),
        ({"diffs": {}}, "not a vector of LT-SFT"),
        ([1, 2], "not a vector of LT-SFT"),
        ({"diffs": [1], "abs": {}}, "not a vector of LT-SFT"),
    ],
)
def test_an_error_in_a_public_file_names_the_tensor(tmp_path, value, message):
    write(tmp_path / "v.bin", value)
    with pytest.raises(ArtefactError, match="v.bin: " + message):
        decode(tmp_path / "v.bin")


@BOTH
def test_the_bounded_process_returns_what_decode_returns(tmp_path, zipped):
    diffs = {f"t{i}": drawn(shape, 0.3, i) for i, shape in enumerate(SHAPES)}
    write_public(tmp_path / "v", diffs, {"head.weight": drawn((3, 4), 1, 9).half()}, zipped)
    found, expected = read_lt_sft(tmp_path / "v"), decode(tmp_path / "v")
    assert shapes(found) == shapes(expected)
    assert found.mask.shapes == expected.mask.shapes
    pairs = [(found.mask.index, expected.mask.index), (found.values, expected.values),
             (found.head, expected.head)]  # fmt: skip
    for ours, theirs in pairs:
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


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
        (touch, "test_lt_sft.touch"),
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
            decode(tmp_path / "f")
    assert not mark.exists()


HAND_MADE = {
    "a dotted name": b"ccollections\nOrderedDict.__init__\n.",
    "a name of ours": b"cdeftx.exchange.lt_sft\ndecode\n.",
    "an attribute of a function": b"ctorch\nSize\n}X\x04\x00\x00\x00makeK\x01sb.",
    "an instance": b"(ccollections\nOrderedDict\nK\x01o.",
    "an instance by name": b"(K\x01icollections\nOrderedDict\n.",
    "an extension": b"\x82\x01.",
    "a persistent id": b"Pos.system\n.",
    "an array of objects": b"cnumpy\ndtype\nX\x01\x00\x00\x00O\x85R.",
    "endless": b"(" * 10_000 + b".",
    "nothing": b"",
    "shared dictionaries": b"}q\x00"
    + b"".join(b"}q%c(K\x01h%cK\x02h%cu" % (i + 1, i, i) for i in range(40))
    + b".",
    "a petabyte": b"cbuiltins\nbytearray\n\x8a\x07\x00\x00\x00\x00\x00\x00\x04\x85R.",
}


@pytest.mark.parametrize("name", HAND_MADE)
def test_a_forged_pickle_is_no_vector(tmp_path, name):
    write_pickle(tmp_path / "f", b"\x80\x02" + HAND_MADE[name])
    with pytest.raises(ArtefactError, match="f: "):
        decode(tmp_path / "f")


def nested_lists():
    """40 lists in each other, each twice in the next: an array of 2^40 numbers."""
    steps = []
    for _ in range(40):
        steps = [steps, steps]
    return pickled({"diffs": {"w": {"size": (2,), "index_steps": steps, "values": 1}}, "abs": {}})


@pytest.mark.parametrize("data", [nested_lists(), b"\x80\x02})" + b"\x85" * 3_000_000 + b"Ns."])
def test_a_file_that_would_take_forever_or_crash_is_refused(tmp_path, monkeypatch, data):
    monkeypatch.setattr(lt_sft, "SECONDS", 2)
    write_pickle(tmp_path / "f", data)
    with pytest.raises(
        ArtefactError, match=r"f: reading it crashed, or took more than .*: refused"
    ):
        read_lt_sft(tmp_path / "f")


@BOTH
def test_a_truncated_file_is_an_error_wherever_it_ends(tmp_path, zipped):
    write_public(tmp_path / "f", {"w": torch.ones(20, 20)}, {"h": torch.ones(300)}, zipped)
    whole = (tmp_path / "f").read_bytes()
    for end in [*range(0, len(whole) - 1, 37), len(whole) - 1]:
        (tmp_path / "cut").write_bytes(whole[:end])
        with pytest.raises(ArtefactError, match="cut: "):
            decode(tmp_path / "cut")


def test_a_tensor_outside_of_its_storage_is_an_error(tmp_path):
    class Storage:
        pass

    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            return ("storage", torch.FloatStorage, "0", "cpu", 6) if value is Storage else None

    outside = [(0, (7,), (1,)), (3, (4,), (1,)), (0, (2, 2), (3, 3)), (-1, (2,), (1,)),
               (0, (2,), (-1,))]  # fmt: skip
    for size, geometry in [*((6, each) for each in outside), (5, (0, (6,), (1,)))]:
        stream = io.BytesIO()
        tensor = Runs(torch._utils._rebuild_tensor_v2, Storage, *geometry, False, {})
        Pickler(stream, 2).dump({"diffs": {}, "abs": {"w": tensor}})
        with zipfile.ZipFile(tmp_path / "f", "w") as archive:
            archive.writestr("x/data.pkl", stream.getvalue())
            archive.writestr("x/version", "3")
            archive.writestr("x/data/0", np.arange(size, dtype=np.float32).tobytes())
        with pytest.raises(ArtefactError, match=r"not a torch\.save file"):
            decode(tmp_path / "f")


def test_another_file_is_an_error(tmp_path):
    with pytest.raises(ArtefactError, match="no such file"):
        read_lt_sft(tmp_path / "absent")
    (tmp_path / "text").write_text("a line of text")
    with pytest.raises(ArtefactError, match=r"not a torch\.save file"):
        read_lt_sft(tmp_path / "text")
