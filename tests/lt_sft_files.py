"""Vectors written as the public LT-SFT code writes them, by a plain loop over every entry; and
what tests of the exchange with other libraries share."""

import io
import pickle
import zipfile

import numpy as np
import torch
from conftest import sentences
from transformers import BertConfig

from deftx.cli.main import main
from deftx.core.parameters import head_parameters, weights_of
from deftx.models.base import Base
from deftx.models.load import load_classifier
from deftx.stages.base.pretrain import train_tokenizer

CLASSES = ["negative", "neutral", "positive"]
LM_HEAD = {"lm_head.bias": torch.ones(150), "lm_head.dense.weight": torch.ones(32, 32)}
BERT = BertConfig(
    vocab_size=150, hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
    intermediate_size=48, max_position_embeddings=40, pad_token_id=1,
)  # fmt: skip


def call(*arguments):
    """Run a verb to its end."""
    assert main([str(argument) for argument in arguments]) == 0


def fails(capsys, *arguments):
    """The error message of a verb."""
    assert main([str(argument) for argument in arguments]) == 1
    return capsys.readouterr().err


def convert(base, vector, target, out, stored=CLASSES):
    classes = ["--classes", CLASSES, "--stored-classes", stored] if target == "task-x" else []
    call("convert", "--method", "m", "--target", target, "--id", "of-others", "--base", base.folder,
         "--vector", vector, "--out", out / "sft_model.safetensors", *classes)  # fmt: skip


def made_base(folder, model):
    """A base of a model, as the stage makes it."""
    tokenizer = train_tokenizer(sentences(200), 150)
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    call("base", "--id", "other", "--model", folder / "model", "--out",
         folder / "base/model.safetensors")  # fmt: skip
    return Base.load(folder / "base")


def differences(base, seed, share=0.05, prefix="roberta."):
    return {
        prefix + name: drawn(shape, share, seed + i)
        for i, (name, shape) in enumerate(base.maskable.items())
    }


def head_of(base, classes=CLASSES, seed=5, kind=None):
    return weights_of(head_parameters(load_classifier(base, list(classes), seed, kind)))


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
    """A dense difference in which a share of the entries is not 0."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(shape, generator=generator)
    return values * (torch.rand(shape, generator=generator) < share)


def dense(vector, name, shape):
    found = torch.zeros(shape)
    if name in vector.values:
        found.view(-1)[vector.mask.index[name]] = vector.values[name]
    return found
