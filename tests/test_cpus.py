"""Laws to rounding hold on other CPUs: they run again with other kernels and numbers of threads."""

import os
import subprocess
import sys

import pytest
from conftest import PROJECT

KERNELS = {
    "default": {
        "ATEN_CPU_CAPABILITY": "default", "MKL_CBWR": "COMPATIBLE", "ONEDNN_MAX_CPU_ISA": "SSE41",
        "OPENBLAS_CORETYPE": "Nehalem",
    },
    "avx2": {
        "ATEN_CPU_CAPABILITY": "avx2", "MKL_CBWR": "AVX2", "ONEDNN_MAX_CPU_ISA": "AVX2",
        "OPENBLAS_CORETYPE": "Haswell",
    },
}  # fmt: skip
"""What PyTorch, its two libraries and NumPy's take for the CPU."""


@pytest.mark.skipif(
    "DEFTX_TEST_CPUS" not in os.environ, reason="`make test-cpus` runs these (DEFTX_TEST_CPUS)"
)
@pytest.mark.parametrize("threads", ["1", "2"])
@pytest.mark.parametrize("kernels", KERNELS)
def test_laws_to_rounding_hold_with_other_kernels_and_threads(kernels, threads):
    environment = {
        **{name: value for name, value in os.environ.items() if "XDIST" not in name},
        **KERNELS[kernels],
        "DEFTX_TEST_THREADS": threads,
        "OMP_NUM_THREADS": threads,
        "OMP_WAIT_POLICY": "PASSIVE",  # threads that spin keep others of their process waiting
    }
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-m", "rounding", "-p", "no:cacheprovider", "tests"],
        env=environment, cwd=PROJECT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
