"""Snakemake's cost in a run with many languages: planning, the start of a job on a node, jobs that
do nothing, and a finished run.

The rules are the project's own, in a copy whose commands only write a line into their outputs.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from itertools import product
from pathlib import Path
from string import ascii_lowercase
from typing import Any

import yaml

from benchmarks.measure import MIB, machine
from deftx.plan.config import check_config
from deftx.plan.plan import Plan

PROJECT = Path(__file__).parent.parent
COPIED = ("Snakefile", "config.yaml", "environment.yml", "deftx", "workflow")
NOTHING = """
# A text that the Snakefile can read as the description of a base.
COMMAND = (
    'echo \\'{{"identity": {{}}, "parameters": {{}}, "source": {{"is": "none"}}}}\\' '
    "| tee {output:q} > /dev/null"
)
"""
"""The command of all rules is replaced by one that computes nothing."""
SOURCE = "qaa"


def config(languages: int, tasks: int, systems: int, seeds: int) -> dict[str, Any]:
    """A config of the embedded world of the given size, with zero-shot, LT-SFT, Rand-SFT and DeFT-X
    at several ranks. Raises ValueError for sizes that are out of range."""
    if not (1 <= languages <= 600 and 1 <= tasks <= 9 and systems >= 3):
        raise ValueError("expected 1 to 600 languages, 1 to 9 tasks and at least 3 systems")
    keys = [f"q{a}{b}" for a, b in product(ascii_lowercase, repeat=2)][1 : languages + 1]
    names = [f"sentiment-{number}" for number in range(tasks)]
    methods = {
        "full": {"prune": False, "retrain": False},
        "lt-sft": {},
        "rand-sft": {"score": "random"},
        **{f"deft-x-{rank}": {"denoise": {"rank": rank}} for rank in range(1, systems - 2)},
    }
    splits = {
        split: {"dataset": "sentiment", "split": split} for split in ("train", "valid", "test")
    }
    return {
        "run": "scale",
        "seeds": list(range(seeds)),
        "world": {"languages": {SOURCE: 0.0, **dict.fromkeys(keys, 0.5)}},
        "datasets": {
            "text": {"world": "text", "items": {"train": 100}},
            **{
                name: {"world": "sentiment", "items": {"train": 60, "valid": 20, "test": 30}}
                for name in names
            },
        },
        "base": {"pretrain": {"text": "text", "languages": [SOURCE]}},
        "languages": {key: {"text": "text"} for key in keys},
        "tasks": {
            name: {
                "classes": ["negative", "neutral", "positive"],
                "source": SOURCE,
                **{split: {**items, "dataset": name} for split, items in splits.items()},
            }
            for name in names
        },
        "methods": methods,
        "systems": {
            "zero-shot": {"task": "full", "language": "none"},
            **{name: {"task": name} for name in list(methods)[1:]},
        },
    }


def project(folder: Path, settings: dict[str, Any]) -> None:
    """A copy of the project whose commands do nothing, and the config as `scale.yaml`."""
    for name in COPIED:
        copy = shutil.copytree if (PROJECT / name).is_dir() else shutil.copy2
        copy(PROJECT / name, folder / name)
    with (folder / "workflow/rules/common.smk").open("a") as rules:
        rules.write(NOTHING)
    (folder / "scale.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))


def measured(folder: Path, *options: str) -> tuple[float, float, float, str]:
    """Run `snakemake` in the folder; its seconds, CPU seconds, peak of memory in MiB, and output.
    Raises RuntimeError if it fails."""
    settings = check_config(yaml.safe_load((folder / "scale.yaml").read_text()))
    sha256 = hashlib.sha256(settings.model_dump_json().encode()).hexdigest()
    environment = {**os.environ, "DEFTX_CONFIG_SHA256": sha256, "DEFTX_WARM": "off"}
    command = [sys.executable, "-m", "snakemake", "--configfile", "scale.yaml", *options]
    with (folder / "out").open("w+") as out:
        begin = time.monotonic()
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=out, stderr=subprocess.STDOUT
        )
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.monotonic() - begin
        out.seek(0)
        printed = out.read()
    if status != 0:
        raise RuntimeError(printed[-3000:])
    return seconds, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024 / MIB, printed


def main() -> None:
    """Print a table of the measurements."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    for name, number in (("languages", 5), ("tasks", 3), ("systems", 10), ("seeds", 2)):
        parser.add_argument(f"--{name}", type=int, default=number)
    parser.add_argument("--plan", action="store_true", help="plan only, run nothing")
    given = parser.parse_args()
    settings = config(given.languages, given.tasks, given.systems, given.seeds)
    jobs = len(Plan(check_config(settings)).artefacts)
    print(machine())
    print(
        f"{given.languages} languages x {given.tasks} tasks x {given.systems} systems x "
        f"{given.seeds} seeds: {jobs:,} jobs\n"
    )
    print("| | s | CPU s | peak MiB |\n| :-- | --: | --: | --: |")

    def row(name: str, *options: str) -> tuple[float, str]:
        seconds, cpu, peak, printed = measured(folder, *options)
        print(f"| {name} | {seconds:.1f} | {cpu:.1f} | {peak:.0f} |", flush=True)
        return seconds, printed

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        project(folder, settings)
        quiet = ("--cores", "2", "--quiet", "rules", "host", "reason")
        row("plan: `snakemake -n`", "-n", *quiet)
        job = f"world:dataset=text,language={SOURCE},split=train"
        row("start of one job on a node", "--target-jobs", job, "--allowed-rules", "world",
            "--force", "--no-hooks", "--nolock", "--mode", "remote", *quiet)  # fmt: skip
        if given.plan:
            return
        shutil.rmtree(folder / "results")
        shutil.rmtree(folder / ".snakemake")
        seconds, _ = row("run, with jobs that do nothing", *quiet)
        _, printed = row("nothing to be done: `snakemake -n`", "-n", *quiet)
        if "Nothing to be done" not in printed:
            raise RuntimeError(printed[-3000:])
        files = [path for path in (folder / ".snakemake/metadata").rglob("*") if path.is_file()]
        size = sum(path.stat().st_size for path in files) / MIB
        print(f"\n{jobs / seconds:.1f} jobs per second; .snakemake/metadata: {len(files):,} files, "
              f"{size:.1f} MiB")  # fmt: skip


if __name__ == "__main__":
    main()
