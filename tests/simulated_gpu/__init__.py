"""A GPU where there is none: tensors that say they lie on cuda:0, and are computed on the CPU.

What a GPU refuses is refused: tensors of two devices in one operation, a CPU's generator for its
tensors, a view of them in NumPy. Kernels, their rounding, streams and memory are not pretended.

`load` before torch is imported, then `begin` of `tensors`; there is no end but that of the process.
"""

import ctypes
import subprocess
from importlib.util import find_spec
from pathlib import Path


def build(folder: Path) -> Path:
    """Compile the library that `load` takes."""
    torch = Path(find_spec("torch").origin).parent
    library = folder / "pretended_gpu.so"
    subprocess.run(
        [
            "g++", "-std=c++20", "-shared", "-fPIC", str(Path(__file__).with_name("device.cpp")),
            f"-I{torch}/include", f"-L{torch}/lib", f"-Wl,-rpath,{torch}/lib", "-lc10",
            "-ltorch_cpu", "-o", str(library),
        ],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    return library


def load(library: str) -> None:
    """Let PyTorch, once it is imported, know of a device cuda:0."""
    ctypes.CDLL(library)
