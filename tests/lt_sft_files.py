"""Vectors written as the public LT-SFT code writes them, by a plain loop over every entry."""

import io
import pickle
import zipfile

import numpy as np
import torch


def content(diffs, whole):
    """What the file holds, of dense differences by name; zeros are no entries."""
    return {"diffs": {name: encoded(dense) for name, dense in diffs.items()}, "abs": whole}


def encoded(dense):
    """Column-major positions as steps, the first a NumPy number and the others plain ones."""
    flat = dense.numpy().flatten(order="F")
    steps, values, last = [], [], 0
    for place, value in enumerate(flat):
        if value != 0:
            steps.append(place - last if steps else np.int64(place))
            values.append(value)
            last = place
    return {"size": dense.shape, "index_steps": steps, "values": torch.tensor(values)}


def write_public(path, diffs, whole, zipped=True):
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, content(diffs, whole), zipped)


def write(path, value, zipped=True):
    """As `torch` saves a value; not `zipped` as it did before 1.6."""
    torch.serialization.save(value, path, _use_new_zipfile_serialization=zipped)


def write_pickle(path, data: bytes, zipped=True):
    """A file around a pickle that was made by hand."""
    if zipped:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("pytorch_diff/data.pkl", data)
            archive.writestr("pytorch_diff/version", "3")
    else:
        beginning = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})
        path.write_bytes(b"".join(pickle.dumps(part, 2) for part in beginning) + data)


def pickled(value) -> bytes:
    stream = io.BytesIO()
    pickle.Pickler(stream, 2).dump(value)
    return stream.getvalue()


def drawn(shape, share, seed):
    """A dense difference of which a share is not 0."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(shape, generator=generator)
    return values * (torch.rand(shape, generator=generator) < share)


def dense(vector, name, shape):
    found = torch.zeros(shape)
    if name in vector.values:
        found.view(-1)[vector.mask.index[name]] = vector.values[name]
    return found
