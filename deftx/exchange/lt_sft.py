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

SCALAR: Any = np.int64(0).__reduce__()[0]
NUMPY_INTEGERS: list[Any] = [
    *((SCALAR, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),  # NumPy 1 and 2
    *(np.dtype, np.dtypes.Int32DType, np.dtypes.Int64DType, _codecs.encode),
]
"""What a pickled NumPy integer names, beyond what PyTorch allows in any file."""

SECONDS, MEMORY = 20, 8 * 2**30
"""Processor time, to which a second for each megabyte of the file is added, and bytes of memory
that reading may take. A file of 19 MB took 4 s, 0.3 GB."""

PUBLIC_SHAPES = "shapes"
"""Key of the provenance that only a vector from such a file has: the shape of every tensor that
could have differences; some have none."""

REFUSED = 3
"""Exit status of the reading process if its output is an error message for the user."""


def read_lt_sft(path: Path) -> SparseDelta:
    """The vector in a file, under the names that the parameters had in its author's model.

    Parameters that are stored whole, such as those of a head, become the vector's head.
    Its provenance has PUBLIC_SHAPES only. No code in the file is executed.

    Raises ArtefactError, naming file and tensor, if the file is missing, truncated or not a vector;
    if it names a function or class that no vector needs; if it holds positions outside of a tensor,
    repeated positions, or numbers that float32 cannot hold; or if reading it exceeds its bounds.
    """
    with TemporaryDirectory() as folder:
        out = Path(folder) / "vector.safetensors"
        seconds = SECONDS + (path.stat().st_size // 10**6 if path.is_file() else 0)
        command = [sys.executable, "-m", __name__, str(path), str(out), str(seconds)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == REFUSED:
            raise ArtefactError(done.stdout.strip())
        if done.returncode:
            raise ArtefactError(
                f"{path}: reading it crashed, or took more than {seconds} s or "
                f"{MEMORY / 2**30:.0f} GiB (status {done.returncode}): refused. "
                + done.stderr.strip().rpartition("\n")[2]
            )
        return SparseDelta.load(out)


def _bounded(path: Path, out: Path, seconds: int) -> int:
    """Read a file within bounds on this process and write it in our format; the exit status."""
    bounds = {resource.RLIMIT_CPU: int(process_time()) + seconds, resource.RLIMIT_DATA: MEMORY}
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
    try:
        for name, stored in found["diffs"].items():
            shapes[name], places, numbers = _tensor(stored)
            if len(places):
                index[name], values[name] = places, numbers
        for name, tensor in found["abs"].items():
            whole[name] = _exact(tensor).detach().contiguous()
    except (ValueError, TypeError, KeyError) as error:
        raise ArtefactError(f"{path}: {name}: {error}") from None
    mask = Mask(index, {name: shapes[name] for name in index})
    sizes = {name: list(shape) for name, shape in shapes.items()}
    return SparseDelta(mask, values, whole, {PUBLIC_SHAPES: sizes})


def _unpickled(path: Path) -> Any:
    try:
        with torch.serialization.safe_globals(NUMPY_INTEGERS):
            return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ArtefactError(f"{path}: no such file") from None
    except Exception as error:  # whatever a truncated or forged file leads to
        if asked := re.search(r"nsupported (?:global: )?GLOBAL (\S+)", str(error)):
            reason = f"asks for `{asked[1]}`, which no vector needs: refused; nothing was run"
        else:  # PyTorch puts advice to read the file unrestricted before the reason.
            reason = str(error).rpartition("WeightsUnpickler error: ")[2].partition("\n")[0]
            reason = f"not a torch.save file, or truncated ({type(error).__name__}: {reason})"
        raise ArtefactError(f"{path}: {reason}") from None


def _exact(value: Any) -> torch.Tensor:
    """A tensor in float32. Raises InputError for what that cannot hold without loss."""
    found = value.dtype if isinstance(value, torch.Tensor) else type(value).__name__
    if found not in (torch.float32, torch.float16, torch.bfloat16):
        raise InputError(f"values of type {found}, expected float32")
    return value.float()


def _tensor(stored: Mapping[str, Any]) -> tuple[tuple[int, ...], torch.Tensor, torch.Tensor]:
    """Shape, row-major positions and values of one tensor. Positions are stored column-major, as
    the first one and the steps to each next."""
    shape = tuple(int(size) for size in stored["size"])
    steps, values = np.asarray(stored["index_steps"]), _exact(stored["values"])
    if steps.ndim != 1 or (steps.dtype.kind != "i" and len(steps)):
        raise InputError(f"steps of type {steps.dtype}, expected whole numbers")
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
    return shape, torch.from_numpy(places[order]), values[torch.from_numpy(order)]


if __name__ == "__main__":
    sys.exit(_bounded(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])))
