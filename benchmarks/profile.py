"""The time of a step by groups of operators, and the rest of the loop.

    python -m benchmarks.profile --size mini
    python -m benchmarks.profile --size tiny --python

On a CPU the loop's own time is the wall time minus that of all operators. On a GPU, whose operators
run concurrently with the loop, it is the idle time of the device.
"""

import argparse
import cProfile
import io
import pstats
import time
from collections.abc import Callable
from typing import Any

import torch
from torch.autograd import DeviceType

import deftx
from benchmarks import measure, training

GROUPS = {
    "loss": ("log_softmax", "nll_loss", "cross_entropy", "logsumexp"),
    "attention": ("attention", "flash", "fmha", "bmm", "softmax"),
    "optimiser": ("adam", "optimizer", "lerp", "addcdiv", "addcmul", "_foreach", "multi_tensor"),
    "matrix products": ("mm", "matmul", "linear", "gemm", "cutlass", "nvjet", "xmma", "einsum"),
    "embedding, gather, scatter": ("embedding", "index", "gather", "scatter", "put", "where"),
    "dropout, random numbers": ("dropout", "bernoulli", "random", "philox", "uniform"),
    "normalisation, activation": ("layer_norm", "layernorm", "gelu", "tanh", "silu"),
    "copies, zeros": ("copy", "memcpy", "memset", "zero", "fill", "cat", "clone", "contiguous"),
    "compiled, fused": ("triton", "graph_", "compiledfunction", "cpp_fused"),
    "sums, products, norms": ("add", "mul", "div", "sum", "sub", "norm", "pow", "sqrt", "sign"),
}
"""Group → parts of the names of its operators or kernels; the first group that fits counts. The
time of an operator excludes the operators that it calls."""

CALLS = ("Launch", "Memcpy", "Memset", "Synchronize")
"""Parts of the names of CUDA's functions that hand work to the GPU or wait for it."""


class Window:
    """Measures so many steps, once for each of `starts`, which it calls before it begins, and then
    ends training. `seconds`: of each window."""

    def __init__(self, first: int, steps: int, *starts: Callable[[], Any]) -> None:
        self._first, self._steps, self._starts = first, steps, starts
        self.seconds: list[float] = []

    def before_step(self, done: int) -> None:
        """Begin or end a window, or end training."""
        window, inside = divmod(done - self._first, self._steps)
        if window < 0 or inside:
            return
        measure.synchronize()
        if window:
            self.seconds.append(time.perf_counter() - self._began)
        if window == len(self._starts):
            raise training.EnoughError
        self._starts[window]()
        self._began = time.perf_counter()


def nothing() -> None:
    """Start a window without more ado."""


def profiled(
    case: training.Case,
    engine: deftx.Engine,
    steps: tuple[int, int],
    *starts: Callable[[], Any],
) -> list[float]:
    """Seconds of a step in each window. `steps` holds the number of steps before the measurement
    and in a window; `starts` are called before the windows."""
    window = Window(*steps, *starts)
    try:
        case.fit(window.before_step, engine)
    except training.EnoughError:
        return [seconds / steps[1] for seconds in window.seconds]
    raise RuntimeError("training ended too early")


def group(name: str) -> str:
    """The group of an operator by its name."""
    name = name.lower().removeprefix("aten::")
    return next((g for g, parts in GROUPS.items() if any(p in name for p in parts)), "other")


def by_operator(
    case: training.Case, engine: deftx.Engine, steps: tuple[int, int]
) -> tuple[list[float], dict[str, tuple[float, float]], dict[str, float]]:
    """Seconds of a step, without and under the profiler; the operators or, on a GPU, the kernels,
    by name: own seconds and calls of a step; and the calls by which a step hands work to a GPU or
    waits for it."""
    on_gpu = torch.cuda.is_available()
    kinds = [torch.profiler.ProfilerActivity.CPU]
    kinds += [torch.profiler.ProfilerActivity.CUDA] if on_gpu else []
    # Without `acc_events` some versions warn that they keep one cycle only, which is enough.
    profile = torch.profiler.profile(activities=kinds, acc_events=True)
    walls = profiled(case, engine, steps, nothing, profile.start)
    profile.stop()
    wanted = DeviceType.CUDA if on_gpu else DeviceType.CPU
    single: dict[str, tuple[float, float]] = {}
    driver: dict[str, float] = {}
    for event in profile.events():
        name = event.name
        if event.device_type == wanted and not event.is_user_annotation:
            own = event.self_device_time_total if on_gpu else event.self_cpu_time_total
            seconds, calls = single.get(name, (0.0, 0.0))
            single[name] = seconds + own / 1e6 / steps[1], calls + 1 / steps[1]
        elif name.startswith("cu") and any(part in name for part in CALLS):
            driver[name] = driver.get(name, 0.0) + 1 / steps[1]
    return walls, single, driver


def operators(case: training.Case, engine: deftx.Engine, steps: tuple[int, int], top: int) -> str:
    """A table of the operators in a case."""
    (plain, wall), single, _ = by_operator(case, engine, steps)
    groups: dict[str, float] = {}
    for name, (seconds, _) in single.items():
        groups[group(name)] = groups.get(group(name), 0.0) + seconds
    busy = sum(groups.values())
    idle = "device idle" if torch.cuda.is_available() else "no operator: Python, the loop"
    rows = [(name, seconds, "") for name, seconds in groups.items()]
    rows.append((idle, wall - busy, ""))
    rows.sort(key=lambda row: -row[1])
    largest = sorted(single.items(), key=lambda item: -item[1][0])[:top]
    rows += [(f"  {name[:60]}", s, f"{calls:.0f} calls") for name, (s, calls) in largest]
    lines = [
        f"{case}: {1000 * plain:.2f} ms/step; under the profiler {1000 * wall:.2f} ms; in it",
        *(f"{n:<62}{1000 * s:9.3f} ms {100 * s / wall:6.1f} %  {note}" for n, s, note in rows),
    ]
    return "\n".join(lines)


def python(case: training.Case, engine: deftx.Engine, steps: tuple[int, int], top: int) -> str:
    """The Python functions with the largest own and cumulative times."""
    profile = cProfile.Profile()
    (wall,) = profiled(case, engine, steps, profile.enable)
    profile.disable()
    text = io.StringIO()
    print(f"{case}: {1000 * wall:.2f} ms/step under cProfile, {steps[1]} steps", file=text)
    statistics = pstats.Stats(profile, stream=text).strip_dirs()
    statistics.sort_stats("cumulative").print_stats(2 * top)
    statistics.sort_stats("tottime").print_stats(top)
    return text.getvalue()


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    training.arguments_of_cases(parser)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--warmup", type=int, default=5, help="steps before that")
    parser.add_argument("--top", type=int, default=15, help="single operators or functions shown")
    parser.add_argument("--python", action="store_true", help="cProfile instead")
    given = parser.parse_args(arguments)
    engine = training.engine_of(given.engine)
    show = python if given.python else operators
    for case in training.cases(given):
        print(show(case, engine, (given.warmup, given.steps), given.top))
        torch._dynamo.reset()
    print(measure.machine())


if __name__ == "__main__":
    main()
