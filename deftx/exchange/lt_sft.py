"""Vectors as the public LT-SFT code writes them: `pytorch_diff.bin` (docs/format.md).

Such a file is a pickle, and may come from anyone. PyTorch's restricted unpickler reads it, in a
process of its own with bounded time and memory: a file of a few hundred bytes can ask for more of
both than any machine has.
"""

import _codecs
import re
import resource
import subprocess
import sys
from collections.abc import Mapping
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time
from typing import Any

import numpy as np
import torch

from deftx.core.mask import Mask
from deftx.core.sparse_delta import SparseDelta
from deftx.store.errors import ArtefactError, InputError

EXACT = (torch.float32, torch.float16, torch.bfloat16)
"""Types whose values float32 holds without loss."""

SCALAR: Any = np.int64(0).__reduce__()[0]
NUMPY_INTEGERS: list[Any] = [
    (SCALAR, "numpy.core.multiarray.scalar"),  # as NumPy 1 calls it
    (SCALAR, "numpy._core.multiarray.scalar"),  # as NumPy 2 calls it
    *(np.dtype, np.dtypes.Int32DType, np.dtypes.Int64DType, _codecs.encode),
]
"""What a pickled NumPy integer names, beyond what PyTorch allows in any file."""

SECONDS, SECONDS_PER_MEGABYTE = 60, 5
"""Processor time that reading may take. A file of 19 MB took 4 s."""

MEMORY, MEMORY_PER_BYTE = 4 * 2**30, 50
"""Bytes of memory that reading may take. The same file took 0.3 GB."""

REFUSED = 3
"""Exit status of the reading process if its output is an error message for the user."""


def read_lt_sft(path: Path) -> SparseDelta:
    """The vector in a file, under the names that the parameters had in its author's model.

    Parameters that are stored whole, such as those of a head, become the vector's head.
    `provenance["shapes"]` has the shape of every tensor that could have differences; some have
    none. No code in the file is executed.

    Raises ArtefactError, naming file and tensor, if the file is missing, truncated or not a vector;
    if it names a function or class that no vector needs; if it holds positions outside of a tensor,
    repeated positions, or numbers that float32 cannot hold; or if reading it exceeds its bounds.
    """
    size = path.stat().st_size if path.is_file() else 0
    seconds = SECONDS + SECONDS_PER_MEGABYTE * size // 10**6
    memory = MEMORY + MEMORY_PER_BYTE * size
    with TemporaryDirectory() as folder:
        out = Path(folder) / "vector.safetensors"
        arguments = [str(path), str(out), str(seconds), str(memory)]
        done = subprocess.run(
            [sys.executable, "-m", __name__, *arguments],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode == REFUSED:
            raise ArtefactError(done.stdout.strip())
        if done.returncode:
            raise ArtefactError(
                f"{path}: reading it crashed, or took more than {seconds} s or "
                f"{memory / 2**30:.1f} GiB (status {done.returncode}): refused. "
                + done.stderr.strip().rpartition("\n")[2]
            )
        return SparseDelta.load(out)


def _bounded(path: Path, out: Path, seconds: int, memory: int) -> int:
    """Read a file within bounds on this process and write it in our format; the exit status."""
    bounds = {resource.RLIMIT_CPU: int(process_time()) + seconds, resource.RLIMIT_DATA: memory}
    for kind, bound in bounds.items():
        hard = resource.getrlimit(kind)[1]
        resource.setrlimit(kind, (bound if hard < 0 else min(bound, hard), hard))
    try:
        vector = decode(path)
        vector.save(out, **vector.provenance)
    except ArtefactError as error:
        print(error)
        return REFUSED
    return 0


def decode(path: Path) -> SparseDelta:
    """What `read_lt_sft` returns, read in this process and without bounds. Raises the same."""
    found = _unpickled(path)
    parts = [found.get(part) if isinstance(found, dict) else None for part in ("diffs", "abs")]
    if not all(isinstance(part, dict) and all(isinstance(n, str) for n in part) for part in parts):
        raise ArtefactError(f"{path}: not a vector of LT-SFT: expected `diffs` and `abs` in it")
    index, values, shapes, whole = {}, {}, {}, {}
    for name, stored in found["diffs"].items():
        try:
            shapes[name], places, numbers = _tensor(stored)
        except (ValueError, TypeError, KeyError) as error:
            raise ArtefactError(f"{path}: {name}: {error}") from None
        if len(places):
            index[name], values[name] = places, numbers
    for name, tensor in found["abs"].items():
        if _kind(tensor) not in EXACT:
            raise ArtefactError(f"{path}: {name}: {_kind(tensor)}, expected a tensor of float32")
        whole[name] = tensor.detach().float().contiguous()
    mask = Mask(index, {name: shapes[name] for name in index})
    return SparseDelta(mask, values, whole, {"shapes": {n: list(s) for n, s in shapes.items()}})


def _unpickled(path: Path) -> Any:
    try:
        with torch.serialization.safe_globals(NUMPY_INTEGERS):
            return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ArtefactError(f"{path}: no such file") from None
    except Exception as error:  # whatever a truncated or forged file leads to
        if asked := re.search(r"nsupported (?:global: )?GLOBAL (\S+)", str(error)):
            raise ArtefactError(
                f"{path}: asks for `{asked[1]}`, which no vector needs: refused; nothing was run"
            ) from None
        # PyTorch puts advice to read the file unrestricted before the reason.
        reason = str(error).rpartition("WeightsUnpickler error: ")[2].partition("\n")[0]
        raise ArtefactError(
            f"{path}: not a torch.save file, or truncated ({type(error).__name__}: {reason})"
        ) from None


def _kind(value: Any) -> Any:
    return value.dtype if isinstance(value, torch.Tensor) else type(value).__name__


def _tensor(stored: Mapping[str, Any]) -> tuple[tuple[int, ...], torch.Tensor, torch.Tensor]:
    """Shape, row-major positions and values of one tensor. Positions are stored column-major, as
    the first one and the steps to each next."""
    shape = tuple(int(size) for size in stored["size"])
    steps, values = np.asarray(stored["index_steps"]), stored["values"]
    if steps.ndim != 1 or (steps.dtype.kind != "i" and len(steps)):
        raise InputError(f"steps of type {steps.dtype}, expected whole numbers")
    if _kind(values) not in EXACT:
        raise InputError(f"values of type {_kind(values)}, expected float32")
    if values.shape != steps.shape:
        raise InputError(f"{len(steps)} positions, values of shape {tuple(values.shape)}")
    if not values.isfinite().all():
        raise InputError("values that are not finite")
    places = np.cumsum(steps.astype(np.int64))
    if (places[:1] < 0).any() or (places[1:] <= places[:-1]).any():
        raise InputError("positions that do not ascend from 0 on")
    if len(places) and places[-1] >= prod(shape):
        raise InputError(f"a position {places[-1]} in shape {shape}, of {prod(shape)} entries")
    if len(shape) > 1:
        places = np.ravel_multi_index(np.unravel_index(places, shape, order="F"), shape)
    order = np.argsort(places)
    return shape, torch.from_numpy(places[order]), values.float()[torch.from_numpy(order)]


if __name__ == "__main__":
    sys.exit(_bounded(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])))
