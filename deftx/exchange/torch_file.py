"""Reading the files of others that `torch.save` wrote, without running anything that is in them.

Such a file is a pickle, a program that may call whatever it names. Here every name that it may say
stands for a function below, which takes numbers and strings and returns plain values; nothing is
ever imported or called by a name from the file. PyTorch's own `weights_only` reading refuses the
files of old NumPy scalars unless they are allowed by name, differs from version to version, and
takes a Python step for each of millions of numbers.
"""

import io
import pickle
import zipfile
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import torch

from deftx.store.errors import ArtefactError, InputError

LEGACY_MAGIC, LEGACY_VERSION = 0x1950A86A20F9469CFC6C, 1001
"""How a file begins that is no zip archive, as PyTorch wrote them before 1.6."""

KINDS = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}

Read = Callable[["_Storage"], bytes]
"""The bytes of a storage."""


def read_torch_file(path: Path) -> Any:
    """What a file of `torch.save` holds, made of dictionaries, lists, tuples, strings and numbers;
    and of tensors, on the CPU, where they are values of dictionaries.

    Raises ArtefactError if the file is missing, truncated or no such file, or if it names anything
    else than what these are made of: the message tells what it asked for.
    """
    try:
        with open(path, "rb") as file:
            if zipfile.is_zipfile(file):
                with zipfile.ZipFile(file) as archive:
                    return _from_archive(archive)
            file.seek(0)
            return _from_stream(file)
    except FileNotFoundError:
        raise ArtefactError(f"{path}: no such file") from None
    except _ForbiddenError as error:
        raise ArtefactError(
            f"{path}: it asks for `{error}`, which no vector needs: refused, and nothing was run"
        ) from None
    except (
        pickle.UnpicklingError,
        zipfile.BadZipFile,
        # What a file can lead to that was cut off, or made by hand.
        ArithmeticError,
        AttributeError,
        EOFError,
        LookupError,
        MemoryError,
        NotImplementedError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:
        raise ArtefactError(
            f"{path}: truncated, or no file of torch.save ({type(error).__name__}: {error})"
        ) from None


def _from_archive(archive: zipfile.ZipFile) -> Any:
    """A zip archive: the pickle in `data.pkl`, each storage in a member of its own."""
    pickles = [name for name in archive.namelist() if name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise InputError(f"{len(pickles)} members called data.pkl, expected one")
    root = pickles[0].removesuffix("data.pkl")
    if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
        raise InputError("compressed members, which torch.save does not write")
    if f"{root}byteorder" in archive.namelist() and archive.read(f"{root}byteorder") != b"little":
        raise InputError("the numbers are not little-endian")
    value = _Unpickler(io.BytesIO(archive.read(pickles[0]))).load()
    return _filled(value, lambda storage: archive.read(f"{root}data/{storage.key}"))


def _from_stream(file: BinaryIO) -> Any:
    """Five pickles one after the other, the fourth being the value and the last one the keys of the
    storages, whose bytes follow, each after their number."""
    beginning = [_Unpickler(file).load() for _ in range(3)]
    if beginning[:2] != [LEGACY_MAGIC, LEGACY_VERSION]:
        raise InputError("it begins like none")
    if beginning[2].get("little_endian") is not True:
        raise InputError("the numbers are not little-endian")
    unpickler = _Unpickler(file)
    value = unpickler.load()
    found = {}
    for key in _Unpickler(file).load():
        storage = unpickler.storages[key]
        count = int.from_bytes(file.read(8), "little")
        if count != storage.numbers:
            raise InputError(f"{count} numbers in the storage {key}, expected {storage.numbers}")
        found[key] = file.read(count * storage.kind.itemsize)
    return _filled(value, lambda storage: found[storage.key])


def _filled(value: Any, read: Read) -> Any:
    """The value with tensors in its dictionaries where places of tensors were."""
    if isinstance(value, dict):
        return {key: _filled(inner, read) for key, inner in value.items()}
    return value.load(read) if isinstance(value, _Tensor) else value


class _ForbiddenError(Exception):
    """A name that stands for nothing here."""


class _Unpickler(pickle.Unpickler):
    """Knows the names in `_NAMES` and no other."""

    def __init__(self, file: BinaryIO | io.BytesIO) -> None:
        super().__init__(file, encoding="utf-8")
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        """What stands for a name. Raises _ForbiddenError if nothing does."""
        if module == "torch" and name in KINDS:
            return _Kind(name)
        if (module, name) not in _NAMES:
            raise _ForbiddenError(f"{module}.{name}")
        return _NAMES[module, name]

    def persistent_load(self, identity: Any) -> "_Storage":
        """The place of a storage."""
        what, kind, key, _, count, *view = identity
        if what != "storage" or not isinstance(kind, _Kind) or view not in ([], [None]):
            raise InputError(f"stored outside of the pickle: {what!r}")
        return self.storages.setdefault(key, _Storage(KINDS[kind.name], str(key), int(count)))


# What a pickle can get hold of is a tuple: nothing of it can be set, whatever the pickle tries.


class _Kind(NamedTuple):
    """The name of a type of storage."""

    name: str


class _Storage(NamedTuple):
    """Where the numbers of tensors lie."""

    kind: torch.dtype
    key: str
    numbers: int

    def load(self, read: Read) -> torch.Tensor:
        data = read(self)
        if len(data) != self.numbers * self.kind.itemsize:
            raise InputError(
                f"{len(data)} bytes in the storage {self.key}, expected {self.numbers} numbers of "
                f"{self.kind}"
            )
        if not data:
            return torch.empty(0, dtype=self.kind)
        return torch.frombuffer(bytearray(data), dtype=self.kind)


class _Tensor(NamedTuple):
    """Where a tensor lies in its storage."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    def load(self, read: Read) -> torch.Tensor:
        steps = list(zip(self.shape, self.stride, strict=True))
        if min(self.offset, *self.shape, *self.stride, 0) < 0 or prod(self.shape) > max(
            0, self.storage.numbers
        ):
            raise InputError(f"a tensor of shape {self.shape} in {self.storage.numbers} numbers")
        last = self.offset + sum((size - 1) * step for size, step in steps)
        if prod(self.shape) and last >= self.storage.numbers:
            raise InputError(f"a tensor up to number {last} of {self.storage.numbers}")
        return torch.as_strided(self.storage.load(read), self.shape, self.stride, self.offset)


class _Dtype(NamedTuple):
    """The type of a NumPy scalar, such as `i8`."""

    code: str

    def __setstate__(self, state: Any) -> None:
        if state[1] not in ("<", "|"):
            raise InputError(f"a number of byte order {state[1]!r}")


class _Named(NamedTuple):
    """What stands for a function that a file names."""

    make: Callable[..., Any]

    def __call__(self, *arguments: Any) -> Any:
        return self.make(*arguments)


def _tensor(storage: Any, offset: int, shape: Any, stride: Any, *_: Any) -> _Tensor:
    if not isinstance(storage, _Storage):
        raise TypeError("a tensor without a storage")
    return _Tensor(storage, int(offset), tuple(map(int, shape)), tuple(map(int, stride)))


def _scalar(dtype: Any, data: bytes) -> int | float:
    if not isinstance(dtype, _Dtype) or dtype.code not in ("i8", "i4", "f8", "f4"):
        raise TypeError(f"a number of type {dtype}")
    value: int | float = np.frombuffer(data, f"<{dtype.code}", count=1)[0].item()
    return value


def _bytes(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise InputError(f"bytes written as {encoding}")
    return str.encode(text, "latin1")


_NAMES = {
    ("collections", "OrderedDict"): _Named(lambda pairs=(): dict(pairs)),
    ("torch", "Size"): _Named(lambda sizes: tuple(sizes)),
    ("torch._utils", "_rebuild_tensor_v2"): _Named(_tensor),
    ("torch._utils", "_rebuild_parameter"): _Named(lambda tensor, *_: tensor),
    ("numpy.core.multiarray", "scalar"): _Named(_scalar),  # NumPy 1
    ("numpy._core.multiarray", "scalar"): _Named(_scalar),  # NumPy 2
    ("numpy", "dtype"): _Named(lambda code, *_: _Dtype(str(code))),
    ("_codecs", "encode"): _Named(_bytes),
}
