"""A simulated GPU: tensors that report the device cuda:0 and are computed on the CPU.

It refuses what a GPU refuses: tensors of two devices in one operation, a generator of the CPU for
tensors on the GPU, and a NumPy view of them. It does not simulate kernels and their rounding,
streams, or memory.

A process must run the code of `prepared` before it imports torch, and BEGIN later; the simulation
then lasts until the process ends.
"""

import ctypes
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

BEGIN = """
import simulated_gpu.tensors
simulated_gpu.tensors.begin()
"""


def prepared(folder: Path) -> str | None:
    """Compile a library in the folder; the code that loads it. None where this is impossible: it
    needs Linux, g++ and the build of PyTorch for CPUs."""
    torch = Path(find_spec("torch").origin).parent
    if (
        sys.platform != "linux"
        or not shutil.which("g++")
        or (torch / "lib/libc10_cuda.so").exists()
    ):
        return None
    library = folder / "simulated_gpu.so"
    subprocess.run(
        [
            "g++", "-std=c++20", "-shared", "-fPIC", str(Path(__file__).with_name("device.cpp")),
            f"-I{torch}/include", f"-L{torch}/lib", f"-Wl,-rpath,{torch}/lib", "-lc10",
            "-ltorch_cpu", "-o", str(library),
        ],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    return f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
import simulated_gpu
simulated_gpu.load({str(library)!r})
"""


def load(library: str) -> None:
    """Make PyTorch, when it is imported later, find the device cuda:0."""
    ctypes.CDLL(library)
