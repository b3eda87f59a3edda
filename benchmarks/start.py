"""What a cold job costs, stage by stage: from the start of its process to its first training step,
or to the end of its work.

    python -m benchmarks.start                             # the demo's model and data, one language
    python -m benchmarks.start --model FOLDER              # with the model of a folder as the base
    python -m benchmarks.start --stages full tokens --packages

First it makes a small run in a temporary folder, which takes a minute or two. Then it runs one job
of each stage again, by the command that the workflow has for it, as a new process each time and
without the warm server. Figures are seconds of CPU time (medians), with one thread:

    torch, transformers, others   executing these packages' modules, whenever they are imported
    model                         loading the model
    data                          loading the tokenizer and mapping the tokens
    step                          the first training step
    rest                          Python's start, checks of inputs, the work of other stages
    until then                    the sum of these, from the start of the process
    exit                          from then to the end of the process
    wall                          seconds of the clock until then
    forked                        CPU seconds of a whole job that the warm server forked

A training ends after its first step, any other job when it is done. The forked jobs are those of
the run, which train two steps and validate.
"""

import argparse
import importlib
import json
import os
import re
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import wraps
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

GROUPS = {"torch": {"torch", "torchgen", "sympy", "mpmath"}, "transformers": {"transformers"}}
"""Column of the table → packages whose imports it adds up; all others are in a third column."""

SPANS = {
    "model": ("load_classifier", "load_masked_lm"),
    "data": ("load_tokens", "load_tokenizer"),
}
"""Column → functions that `deftx.engine.job` calls."""

PARTS = ("torch", "transformers", "others", "model", "data", "step", "rest")


class FirstStepDone(Exception):  # noqa: N818
    """Ends a training after its first step."""


class Clock:
    """CPU seconds of this process, from its start, by what they were for. A span inside another
    one counts for itself alone.

    As a finder of modules it times each module that is executed.
    """

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._inner = [0.0]

    @contextmanager
    def span(self, name: str) -> Iterator[None]:
        """Count the time of a block for `name`."""
        began = time.process_time()
        self._inner.append(0.0)
        try:
            yield
        finally:
            took = time.process_time() - began
            self.seconds[name] += took - self._inner.pop()
            self._inner[-1] += took

    def find_spec(
        self, name: str, path: Any = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """What the other finders find, its execution timed."""
        for finder in sys.meta_path[sys.meta_path.index(self) + 1 :]:
            if found := finder.find_spec(name, path, target):
                if found.loader and not isinstance(found.loader, type):
                    loader: Any = found.loader
                    package = f"import {name.partition('.')[0]}"
                    loader.exec_module = self.timed(package, loader.exec_module)
                return found
        return None

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, each call a span."""

        @wraps(function)
        def call(*arguments: Any, **named: Any) -> Any:
            with self.span(name):
                return function(*arguments, **named)

        return call


def trace(arguments: list[str]) -> dict[str, float]:
    """Run a job in this process, which has imported little else; seconds by what they were for,
    and `wall`, those of the clock since the process started."""
    # When the process started, from what Linux keeps of it.
    ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    started = ticks / os.sysconf("SC_CLK_TCK")
    clock = Clock()
    sys.meta_path.insert(0, clock)
    main = importlib.import_module("deftx.cli.main").main

    def watched(name: str) -> ModuleType:
        importlib.import_module = import_module
        module = import_module(name)
        if job := sys.modules.get("deftx.engine.job"):
            _watch(job, clock)
        return module

    import_module = importlib.import_module
    importlib.import_module = watched  # type: ignore[assignment] # main gives a name only
    try:
        if status := main(arguments):
            raise SystemExit(status)
    except FirstStepDone:
        pass
    cpu, wall = time.process_time(), time.clock_gettime(time.CLOCK_BOOTTIME) - started
    return {**clock.seconds, "rest": cpu - sum(clock.seconds.values()), "wall": wall}


def _watch(job: Any, clock: Clock) -> None:
    """Time what `deftx.engine.job` calls, and end training after a step."""
    for span, names in SPANS.items():
        for name in names:
            setattr(job, name, clock.timed(span, getattr(job, name)))
    step, session_of = clock.span("step"), job.session_of

    def before_step(done: int) -> None:
        if not done:
            step.__enter__()
            return
        step.__exit__(None, None, None)
        raise FirstStepDone

    job.session_of = lambda *given: replace(session_of(*given), before_step=before_step)


def config(model: Path | None) -> dict[str, Any]:
    """The demo with one target language and few steps; the base from a model folder, if given."""
    import yaml

    from deftx.run.workflow import FOLDER

    raw: dict[str, Any] = yaml.safe_load((FOLDER / "workflow/configs/demo.yaml").read_text())
    raw["run"] = "start"
    raw["languages"] = {name: raw["languages"][name] for name in ("qaa", "qta")}
    raw["tasks"] = {"sentiment": raw["tasks"]["sentiment"]}
    raw["tasks"]["sentiment"]["training"] |= {"max_steps": 2, "evaluate_every": 2}
    raw["language_training"] |= {"max_steps": 2, "evaluate_every": 2}
    raw["systems"] = {name: raw["systems"][name] for name in ("zero-shot", "lt-sft", "deft-x")}
    raw["methods"] = {name: raw["methods"][name] for name in ("full", "lt-sft", "deft-x")}
    raw["base"]["pretrain"] |= {"steps": 2, "warmup_steps": 1}
    if model is not None:
        raw["base"] = {"model": str(model.absolute())}
    return raw


def commands(folder: Path, model: Path | None) -> dict[str, list[str]]:
    """Make the run in a folder; stage → the arguments of its first job."""
    from deftx.run.workflow import snakemake

    (folder / "start.yaml").write_text(json.dumps(config(model)))
    run = snakemake(Path("start.yaml"), "--cores", "2")
    log = folder / "snakemake.log"
    with log.open("w") as file:
        if subprocess.run(run, cwd=folder, stdout=file, stderr=file, check=False).returncode:
            raise SystemExit(f"the run failed:\n{log.read_text()[-3000:]}")
    planned = subprocess.run(
        [*run, "--dry-run", "--forceall", "--printshellcmds"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, list[str]] = {}
    for line in re.findall(r"python -m deftx (.*) > \S+ 2>&1", planned.stdout + planned.stderr):
        stage, *rest = shlex.split(line)
        found.setdefault(stage, [stage, *rest])
    return found


def forked(folder: Path) -> dict[str, float]:
    """Stage → the median of what its jobs took in the run, by their records."""
    seconds = defaultdict(list)
    for path in folder.glob("results/start/benchmarks/**/*.json"):
        record = json.loads(path.read_text())
        seconds[record["stage"]].append(record["cpu_seconds"])
    return {stage: statistics.median(few) for stage, few in seconds.items()}


def measured(command: list[str], folder: Path) -> dict[str, float]:
    """What `trace` returns for a cold job, a process of its own, and what its `exit` took."""
    environment = {**os.environ, "DEFTX_WARM": "off", "HF_HUB_OFFLINE": "1"}
    environment["PYTHONPATH"] = str(Path(__file__).resolve().parents[1])
    before = _of_children()
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.start", "--trace", *command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{shlex.join(command)}\n{done.stderr}")
    seconds: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    wall = seconds.pop("wall")
    return {**seconds, "exit": _of_children() - before - sum(seconds.values()), "wall": wall}


def _of_children() -> float:
    """CPU seconds of the processes that this one has waited for."""
    return sum(os.times()[2:4])


def in_parts(seconds: dict[str, float]) -> dict[str, float]:
    """The columns of the table, of what `measured` returns."""
    found = dict.fromkeys(PARTS, 0.0)
    for name, value in seconds.items():
        package = name.removeprefix("import ")
        groups = [group for group, packages in GROUPS.items() if package in packages]
        if package != name:
            found[groups[0] if groups else "others"] += value
        elif name in PARTS:
            found[name] += value
    others = {name: seconds[name] for name in ("exit", "wall")}
    return {**found, "until then": sum(found.values()), **others}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, help="a model folder; default: the demo's base")
    parser.add_argument("--stages", nargs="+", help="default: all of the run")
    parser.add_argument("--rounds", type=int, default=3, help="jobs of each stage")
    parser.add_argument("--packages", action="store_true", help="print each package's imports")
    parser.add_argument("--trace", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    os.environ["OMP_NUM_THREADS"] = "1"
    if given.trace:
        print(json.dumps(trace(given.trace)))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        jobs, warm = commands(folder, given.model), forked(folder)
        stages = given.stages or sorted(jobs)
        rounds = [{s: measured(jobs[s], folder) for s in stages} for _ in range(given.rounds)]
    columns = [*PARTS, "until then", "exit", "wall", "forked"]
    print(f"| stage | {' | '.join(columns)} |\n|---|{'--:|' * len(columns)}")
    for stage in stages:
        parts = [in_parts(each[stage]) | {"forked": warm[stage]} for each in rounds]
        cells = [f"{statistics.median(p[c] for p in parts):.2f}" for c in columns]
        print(f"| {stage} | {' | '.join(cells)} |", flush=True)
        if given.packages:
            last = sorted(rounds[-1][stage].items(), key=lambda item: -item[1])
            print(", ".join(f"{name} {value:.2f}" for name, value in last if value >= 0.01))
    from benchmarks.measure import machine

    print(machine())


if __name__ == "__main__":
    main()
