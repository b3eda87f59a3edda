"""Measurements on a GPU that is at hand for ten minutes, the most informative first.

    python -m benchmarks.gpu                                # all parts
    python -m benchmarks.gpu decoder full sparse            # some, in this order
    python -m benchmarks.gpu full full:compile=true sparse:graph=false,precision=fp32
    python -m benchmarks.gpu --seconds large=300 --within 540
    python -m benchmarks.gpu --together sparse full-late    # in one process, without limits
    python -m benchmarks.gpu --dry                          # tiny shapes on a CPU

deftx need not be installed. Each result is a line of JSON, printed as soon as it is known; the end
of a key is its unit. A part runs in a process of its own, which is killed when its time is over.
After a part's name follow settings of `deftx.Engine`.
"""

# Functions import what they need: on a new machine imports take many seconds, which are measured,
# and the process that starts the parts needs none of them.

import argparse
import gc
import importlib.util
import json
import logging
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
WARM = 20
"""Steps until a training is steady."""

NOT_IN_TABLE = ("part", "what", "device", "torch", "stderr", "text")
"""Keys that the table at the end leaves out."""

OUTCOMES = ("PASSED", "FAILED", "ERROR", "SKIPPED")
"""Of pytest."""


@dataclass(frozen=True)
class Run:
    """One part in its process.

    Attributes:
        part: as on the command line, such as `full:compile=true`.
        settings: of the engine.
        dry: tiny shapes and few steps.
        born: time at which the process started, in seconds since 1970.
    """

    part: str
    settings: tuple[str, ...] = ()
    dry: bool = False
    born: float = 0.0

    def say(self, what: str, **figures: Any) -> None:
        """Print a result."""
        line = {"part": self.part, "what": what}
        line |= {n: float(f"{v:.4g}") if isinstance(v, float) else v for n, v in figures.items()}
        if torch := sys.modules.get("torch"):
            on_gpu = torch.cuda.is_available()
            line["device"] = torch.cuda.get_device_name() if on_gpu else "cpu"
            line["torch"] = torch.__version__
        print(json.dumps(line), flush=True)

    def case(
        self, phase: str, size: str = "xlm-r-base", target: str = "language", batch: int = 8
    ) -> Any:
        """What is trained."""
        from benchmarks import training

        shape = ("tiny", target, phase, 2, 16) if self.dry else (size, target, phase, batch)
        return training.Case(*shape)

    def engine(self) -> Any:
        """The settings of the engine."""
        from benchmarks import training

        return training.engine_of(self.settings)

    @contextmanager
    def attempt(self, what: str) -> Iterator[None]:
        """If the block fails, print the error and go on."""
        try:
            yield
        except Exception:
            self.say(f"{what} failed", error=traceback.format_exc()[-1000:])

    def windows(self) -> tuple[int, int]:
        """How often how many steps are timed."""
        return (2, 2) if self.dry else (10, 10)


def decoder(run: Run) -> None:
    """Ways to multiply with the decoder's matrix, and the engine's loss."""
    import torch
    from torch.nn.functional import cross_entropy, linear, pad

    from benchmarks import measure
    from deftx.engine.decoder import decoder_loss

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    low, single = torch.bfloat16, torch.float32
    vocabulary, padded, hidden = (1000, 1024, 32) if run.dry else (250_002, 250_112, 768)
    repeats = 1 if run.dry else 20

    def ms(function: Callable[[], object]) -> float:
        times = []
        for _ in range(4):  # the first warms up
            measure.synchronize()
            began = time.perf_counter()
            for _ in range(repeats):
                function()
            measure.synchronize()
            times.append(1000 * (time.perf_counter() - began) / repeats)
        return min(times[1:])

    def sliced(slope: Any, weight: Any, count: int, **kind: Any) -> Any:
        parts = slope.unflatten(1, (count, -1)).transpose(0, 1)
        return torch.bmm(parts, weight.unflatten(0, (count, -1)), **kind).sum(0, dtype=single)

    for columns in (vocabulary, padded):
        weight = torch.randn(columns, hidden, device=device).mul_(0.02).to(low)
        for rows in (128, 384):
            features = torch.randn(rows, hidden, device=device).to(low)
            slope = torch.randn(rows, columns, device=device).to(low)
            exact = slope.to(single) @ weight.to(single)
            failed: dict[str, str] = {}
            figures = {"features_ms": ms(partial(linear, features, weight))}
            ways: dict[str, Callable[[], Any]] = {
                "whole": partial(torch.mm, slope, weight),
                "whole_float32": partial(torch.mm, slope, weight, out_dtype=single),
            }
            for count in (8, 16, 32) if columns == padded else ():
                cut = partial(sliced, slope, weight, count)
                ways |= {f"slices_{count}": cut}
                ways |= {f"slices_{count}_float32": partial(cut, out_dtype=single)}
            for name, way in ways.items():
                try:  # not every device and version has `out_dtype`
                    figures[f"{name}_ms"] = ms(way)
                    distance = torch.linalg.norm(way() - exact) / torch.linalg.norm(exact)
                    figures[f"{name}_relative_error"] = float(distance)
                except (RuntimeError, TypeError) as error:
                    failed[name] = str(error).splitlines()[0][:100]
            run.say("products", vocabulary=columns, rows=rows, **figures, failed=failed)
        bias = torch.zeros(vocabulary, device=device, requires_grad=True)
        features = torch.randn(384, hidden, device=device, requires_grad=True)
        targets = torch.randint(vocabulary, (384,), device=device)
        targets[307:] = -100

        def plain(weight: Any = weight, bias: Any = bias, f: Any = features, t: Any = targets):
            bias = pad(bias, (0, len(weight) - vocabulary), value=-torch.inf)
            logits = linear(f.to(low), weight).to(single) + bias
            cross_entropy(logits, t, ignore_index=-100, reduction="sum").backward()

        def engine(weight: Any = weight, bias: Any = bias, f: Any = features, t: Any = targets):
            decoder_loss(f, weight, bias, t).backward()

        for name, function in {"the engine's loss": engine, "the plain loss": plain}.items():
            reset_peak()
            took = ms(function)
            run.say(name, vocabulary=columns, rows=384, ms=took, **memory())


def reset_peak() -> None:
    """Free what is not in use, and measure the peak of memory from now on."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def memory() -> dict[str, float]:
    """The peak of all memory that this process used on the GPU, or on a CPU of its resident set."""
    import torch

    from benchmarks import measure

    if not torch.cuda.is_available():
        return {"resident_gib": measure.resident_peak() / 2**30}
    return {
        "peak_gib": torch.cuda.max_memory_allocated() / 2**30,
        "reserved_gib": torch.cuda.max_memory_reserved() / 2**30,
    }


def say_speed(run: Run, what: str, seconds: list[float], **facts: float) -> None:
    """Print the speed, from the seconds of a step in each window, and the peak of memory."""
    ms = sorted(1000 * s for s in seconds)
    figures = {"step_ms": statistics.median(ms), "p10_ms": ms[len(ms) // 10], "slowest_ms": ms[-1]}
    run.say(what, **figures, **facts, **memory())


def engine_steps(
    run: Run,
    *phases: str,
    size: str = "xlm-r-base",
    target: str = "language",
    batches: Sequence[int] = (8,),
    everywhere: bool = False,
) -> None:
    """The start, the speed and the memory of `deftx.fit`. At first few of the word embeddings have
    been looked up, and the others need no update; with `everywhere` all have moved already."""
    import torch

    spent = {"import_torch_s": time.time() - run.born}
    import transformers.models.xlm_roberta.modeling_xlm_roberta  # noqa: F401

    spent["import_transformers_s"] = time.time() - run.born - sum(spent.values())
    from benchmarks import profile, training  # noqa: F401  (imported first, to be timed)

    spent["import_deftx_s"] = time.time() - run.born - sum(spent.values())
    if torch.cuda.is_available():
        began = time.perf_counter()
        torch.zeros(1, device="cuda")
        spent["cuda_s"] = time.perf_counter() - began
    for batch, phase in product(batches, phases):
        name = phase if len(batches) == 1 else f"{phase}, batch {batch}"
        with run.attempt(name):
            one_phase(run, name, run.case(phase, size, target, batch), spent, everywhere)


def one_phase(
    run: Run, name: str, case: Any, spent: dict[str, float], everywhere: bool = False
) -> None:
    """Train; `spent` are seconds before. `start_s` is all from the process' start to the end of the
    20th step, but for making the model and the data."""
    import deftx
    from benchmarks import measure, profile, training

    def timed(name: str, function: Callable[[], Any]) -> Any:
        began = time.perf_counter()
        result = function()
        measure.synchronize()
        made[name] = time.perf_counter() - began
        return result

    def announce() -> None:
        steps_s = {"first_step_s": first[0], "20_steps_s": time.perf_counter() - began}
        start = sum(spent.values()) + steps_s["20_steps_s"]
        run.say(f"start, {name}", start_s=start, **spent, **steps_s, **made)

    def before_step(done: int) -> None:
        if done == 1:
            measure.synchronize()
            first.append(time.perf_counter() - began)
        window.before_step(done)

    made: dict[str, float] = {}
    first: list[float] = []
    count, steps = run.windows()
    window = profile.Window(WARM, steps, announce, *[profile.nothing] * (count - 1))
    model = timed("model_s", case.model)
    objective = timed("data_s", case.objective)
    mask = timed("mask_s", case.mask)
    begin = timed("vector_s", lambda: first_column(model)) if everywhere else None
    session = deftx.Session(engine=run.engine(), before_step=before_step)
    reset_peak()
    began = time.perf_counter()
    with suppress(training.EnoughError):
        deftx.fit(model, objective, case.settings(), mask=mask, session=session, round_vector=begin)
    say_speed(run, f"engine, {name}", [s / steps for s in window.seconds])


def first_column(model: Any) -> Any:
    """A vector with one entry in each row of the word embeddings."""
    import torch

    from deftx.core.mask import Mask
    from deftx.core.sparse_delta import SparseDelta

    name, shape = "embeddings.word_embeddings.weight", model.get_input_embeddings().weight.shape
    index = torch.arange(shape[0]) * shape[1]
    return SparseDelta(
        Mask({name: index}, {name: tuple(shape)}), {name: torch.full(index.shape, 1e-3)}
    )


def plain_steps(run: Run, compiled: bool = False) -> None:
    """The loop that one would write with transformers: autocast, and AdamW's fused kernel."""
    from benchmarks import measure, reference

    count, steps = run.windows()
    for phase in ("full", "sparse"):
        reset_peak()
        with run.attempt(phase):
            case = run.case(phase)
            shape = case.size, case.batch, case.length
            step = reference.prepared("language", phase, *shape, fast=True, compiled=compiled)

            def seconds(number: int, step: Callable[[], None] = step) -> float:
                measure.synchronize()
                began = time.perf_counter()
                for _ in range(number):
                    step()
                measure.synchronize()
                return time.perf_counter() - began

            first = seconds(3)
            each = [seconds(steps) / steps for _ in range(count)]
            say_speed(run, f"plain, {phase}", each, first_3_steps_s=first)
            del step, seconds


def kernels(run: Run) -> None:
    """The kernels of a step; on a CPU its operators."""
    from benchmarks import profile

    steps = (2, 2) if run.dry else (WARM, 5)
    for phase in ("full", "sparse"):
        reset_peak()
        with run.attempt(phase):
            walls, single, calls = profile.by_operator(run.case(phase), run.engine(), steps)
            busy = sum(seconds for seconds, _ in single.values())
            run.say(
                phase,
                step_ms=1000 * walls[0],
                busy_ms=1000 * busy,
                idle_ms=1000 * max(0.0, walls[0] - busy),
                profiled_step_ms=1000 * walls[1],
                kernels=sum(number for _, number in single.values()),
                driver_calls={name: round(number, 1) for name, number in calls.items()},
            )
            rows = [[n[:80], round(1000 * s, 4), round(c, 1)] for n, (s, c) in single.items()]
            rows.sort(key=lambda row: -row[1])
            run.say(f"{phase}: name, ms and calls in a step", largest=rows[:25])


def tests(run: Run) -> None:
    """The tests that need a GPU; the others of their file skip themselves where there is one. The
    settings are pytest's arguments."""
    if importlib.util.find_spec("pytest") is None:
        run.say("pytest", skipped="not installed")
        return
    # A newer or an older library may warn, which the suite takes for an error.
    command = [sys.executable, "-m", "pytest", "-vv", "--tb=short", "-W", "default"]
    command += ["-p", "no:cacheprovider", *(run.settings or ("tests/test_gpu.py",))]
    found: Counter[str] = Counter()
    rest = []
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        began = time.monotonic()
        for line in process.stdout or ():
            words = line.split()
            if len(words) > 1 and "::" in words[0] and words[1] in OUTCOMES:
                found[words[1].lower()] += 1
                run.say(words[0], outcome=words[1].lower(), s=time.monotonic() - began)
                began = time.monotonic()
            else:
                rest.append(line)
    run.say("all tests", **found, exit_status=process.returncode)
    if process.returncode:
        run.say("failures", text="".join(rest)[-4000:])


def choosing(run: Run) -> None:
    """Choosing K entries of a difference."""
    from benchmarks import differences
    from deftx.stages.mask.math import top_k

    delta = difference(run)
    for target, k in differences.budgets(delta).items():
        repeated(run, f"top K, {target}", partial(top_k, delta, k), k=k)


def denoising(run: Run) -> None:
    """Denoising all matrices of a difference."""
    from deftx.stages.denoise.math import decompose
    from deftx.stages.denoise.settings import RankRule

    delta, rank = difference(run), 8 if run.dry else 100
    rule = RankRule(rank=rank)
    repeated(run, "all matrices", lambda: dict(decompose(delta, rule)), rank=rank)


def difference(run: Run) -> Any:
    """A difference on the device."""
    import torch

    from benchmarks import differences

    device = "cuda" if torch.cuda.is_available() else "cpu"
    return differences.difference("mini" if run.dry else "xlm-r-base", device)


def repeated(run: Run, what: str, function: Callable[[], object], **facts: Any) -> None:
    """Print the seconds of the first call, which prepares libraries, and of the next ones."""
    from benchmarks import measure

    seconds = []
    reset_peak()
    for _ in range(3):
        began = time.perf_counter()
        function()
        measure.synchronize()
        seconds.append(time.perf_counter() - began)
    run.say(what, **facts, s=min(seconds[1:]), first_s=seconds[0], **memory())


def sharing(run: Run) -> None:
    """Several jobs with a small model at once, all warm: their steps a second."""
    most, seconds = (2, 0.5) if run.dry else (4, 6.0)
    command = child_command(f"job:{','.join(run.settings)}", run.dry)
    start = partial(subprocess.Popen, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    jobs: list[Any] = [start(command) for _ in range(most)]
    for each in jobs:
        if each.stdout.readline() != "ready\n":
            raise RuntimeError("a job ended before its first steps")
    run.say("start", jobs=most, s=time.time() - run.born)
    alone = 0.0
    for count in (c for c in (1, 2, 4) if c <= most):
        for each in jobs[:count]:
            print(seconds, file=each.stdin, flush=True)
        answers = [json.loads(each.stdout.readline()) for each in jobs[:count]]
        speed = sum(answer.pop("steps") / answer.pop("s") for answer in answers)
        alone = alone or speed
        run.say(f"{count} at once", steps_per_s=speed, times_one=speed / alone, **answers[0])
    for each in jobs:
        each.communicate()


def job(run: Run) -> None:
    """One of these jobs. It trains for so many seconds whenever it reads their number."""
    from benchmarks import measure, training

    case = run.case("full", "mini")
    first, began, until = 0, 0.0, 0.0

    def before_step(done: int) -> None:
        nonlocal first, began, until
        if done < WARM or done % 10:
            return
        measure.synchronize()
        now = time.perf_counter()
        if now < until:
            return
        figures = {"steps": done - first, "s": now - began, **memory()}
        print(json.dumps(figures) if until else "ready", flush=True)
        line = sys.stdin.readline()
        if not line:
            raise training.EnoughError
        first, began = done, time.perf_counter()
        until = began + float(line)

    with suppress(training.EnoughError):
        case.fit(before_step, run.engine())


@dataclass(frozen=True)
class Part:
    """A function, its limit in seconds, what it sets of the engine, and why it cannot run on a
    CPU."""

    function: Callable[[Run], None]
    seconds: int
    settings: tuple[str, ...] = ()
    needs_gpu: str = ""


EAGER = ("compile=false",)
PARTS = {
    "decoder": Part(decoder, 60),
    "full": Part(lambda run: engine_steps(run, "full"), 120),
    "sparse": Part(lambda run: engine_steps(run, "sparse"), 120),
    "plain": Part(plain_steps, 60),
    "profile": Part(kernels, 150),
    "full-eager": Part(lambda run: engine_steps(run, "full"), 60, EAGER),
    "full-late": Part(lambda run: engine_steps(run, "full", everywhere=True), 120),
    "sparse-eager": Part(lambda run: engine_steps(run, "sparse"), 60, EAGER),
    "tests": Part(tests, 240, needs_gpu="its tests are skipped"),
    "task": Part(
        lambda run: engine_steps(run, "full", "sparse", target="task", batches=(8, 32)), 120
    ),
    "large": Part(lambda run: engine_steps(run, "full", "sparse", size="xlm-r-large"), 150),
    "mask": Part(choosing, 40),
    "denoise": Part(denoising, 60),
    "share": Part(sharing, 120),
    "plain-compiled": Part(partial(plain_steps, compiled=True), 180, needs_gpu="takes minutes"),
}
"""The parts, the most informative first."""


def child_command(spec: str, dry: bool) -> list[str]:
    """The command of the process of one part, which begins now."""
    command = [sys.executable, "-m", "benchmarks.gpu", "--child", spec, f"--born={time.time()}"]
    return [*command, "--dry"] if dry else command


def child(spec: str, dry: bool = False, born: float = 0.0) -> None:
    """Run one part in this process."""
    name, _, words = spec.partition(":")
    part = PARTS[name] if name != "job" else Part(job, 0)
    run = Run(spec, (*part.settings, *filter(None, words.split(","))), dry, born or time.time())
    if part.needs_gpu and dry:
        run.say("nothing", skipped=f"on a CPU {part.needs_gpu}")
        return
    part.function(run)


class Warnings(logging.Handler):
    """Prints what is logged as a result."""

    def __init__(self, part: str) -> None:
        super().__init__(logging.WARNING)
        self._run = Run(part)

    def emit(self, record: logging.LogRecord) -> None:
        """Print it."""
        self._run.say("warning", text=record.getMessage()[:300])


ENVIRONMENT = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "PYTHONUNBUFFERED": "1"}
DRY = {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}


def run_part(spec: str, seconds: float, dry: bool) -> list[dict[str, Any]]:
    """Run one part in a process of its own, for so many seconds at most. Print and return its
    results and a last one: how long it took and, if it failed, how."""
    results, over = [], threading.Event()
    began = time.monotonic()
    with (
        tempfile.TemporaryFile("w+", errors="replace") as errors,
        subprocess.Popen(
            child_command(spec, dry),
            cwd=ROOT,
            env={**os.environ, **ENVIRONMENT, **(DRY if dry else {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            process_group=0,
        ) as process,
    ):

        def end(late: bool = True) -> None:
            if late:
                over.set()
            with suppress(ProcessLookupError):  # its own processes, too
                os.killpg(process.pid, signal.SIGKILL)

        timer = threading.Timer(seconds, end)
        timer.start()
        try:
            for line in process.stdout or ():
                try:
                    results.append(json.loads(line))
                except json.JSONDecodeError:  # a library's own words
                    print(line, end="", file=sys.stderr, flush=True)
                else:
                    print(line, end="", flush=True)
            code = process.wait()
        finally:
            timer.cancel()
            end(late=False)
        errors.seek(0)
        text = errors.read()[-1500:]
    last = {"part": spec, "what": "end", "s": round(time.monotonic() - began, 1)}
    if over.is_set():
        last |= {"error": f"killed after {seconds:.0f} s", "stderr": text}
    elif code:
        last |= {"error": f"exit status {code}", "stderr": text}
    print(json.dumps(last), flush=True)
    return [*results, last]


def table(results: list[dict[str, Any]]) -> str:
    """The figures of all results."""
    lines = []
    for result in results:
        figures = [
            f"{name} {value}"
            for name, value in result.items()
            if name not in NOT_IN_TABLE and not isinstance(value, dict | list)
        ]
        if figures and result.get("outcome") != "passed":
            lines.append(f"{result['part']:<14} {result['what']:<18} {', '.join(figures)}")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Run the parts that are named, or all."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", help=f"PART[:SETTING=VALUE,…] of {', '.join(PARTS)}")
    parser.add_argument("--dry", action="store_true", help="tiny shapes on a CPU")
    parser.add_argument("--seconds", nargs="*", default=[], help="PART=SECONDS: another limit")
    parser.add_argument("--within", type=float, default=float("inf"), help="seconds of all parts")
    parser.add_argument("--together", action="store_true", help="one process, which imports once")
    parser.add_argument("--cold", action="store_true", help="with empty caches of compiled code")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--born", type=float, default=0.0, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.child:
        if not given.child.startswith("job"):
            logging.getLogger().addHandler(Warnings(given.child))
            logging.captureWarnings(True)
        child(given.child, given.dry, given.born)
        return
    parts = given.parts or list(PARTS)
    limits = {name: float(part.seconds) for name, part in PARTS.items()}
    limits |= {n: float(s) for n, s in (word.split("=") for word in given.seconds)}
    if unknown := {*limits, *(spec.partition(":")[0] for spec in parts)} - PARTS.keys():
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    if given.together:
        for spec in parts:
            with Run(spec).attempt("part"):
                child(spec, given.dry)
        return
    until, results = time.monotonic() + given.within, []
    with tempfile.TemporaryDirectory() as caches:
        if given.cold:
            os.environ |= {f"{n}_CACHE_DIR": f"{caches}/{n}" for n in ("TORCHINDUCTOR", "TRITON")}
        for spec in parts:
            left = min(limits[spec.partition(":")[0]], until - time.monotonic())
            if left > 1:
                results += run_part(spec, left, given.dry)
            else:
                results.append({"part": spec, "what": "nothing", "skipped": "no time left"})
                print(json.dumps(results[-1]), flush=True)
    print(table(results))


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that a part ends with this process
    main()
