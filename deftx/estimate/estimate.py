"""The estimate of a config: what there is to do, how fast that goes, printed."""

import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console

from deftx.estimate.choice import needed, wanted
from deftx.estimate.items import Items
from deftx.estimate.measure import measure_speeds
from deftx.estimate.remaining import remaining
from deftx.estimate.report import show_estimate
from deftx.estimate.shape import Shape, find_shape
from deftx.estimate.sizes import Sizes
from deftx.estimate.speeds import Speeds, machines, of_file, of_run, shipped
from deftx.estimate.totals import jobs_of
from deftx.estimate.work import Works
from deftx.plan.checks import read_config
from deftx.plan.plan import Plan
from deftx.store.errors import ConfigError

WIDE = 120
"""Columns of what is written to a file or a pipe."""


def estimate(
    config: Path,
    chosen: Mapping[str, Sequence[str]],
    *,
    machine: str | None = None,
    gpus: int = 0,
    cores: int = 1,
    measure: bool = False,
    console: Console | None = None,
) -> None:
    """Print what the chosen evaluations of a config, or the whole run, will take. Raises
    ConfigError as `read_config`, `wanted`, `find_shape` and `shipped` do."""
    plan = Plan(read_config(config))
    if console is None:
        console = Console() if sys.stdout.isatty() else Console(width=WIDE)
    artefacts = plan.artefacts()
    if any(chosen.values()):
        artefacts = needed(plan, wanted(plan, **chosen))
    to_do, caution = remaining(plan, config)
    found = find_shape(plan)
    shape = found if isinstance(found, Shape) else None
    items = Items(plan)
    works = Works(plan, shape, items)
    pairs = [(artefact, works.of(artefact)) for artefact in artefacts]
    file = Path(plan.root) / "benchmarks" / "speeds.json"
    if measure:
        if shape is None:
            raise ConfigError(f"--measure: {found}")
        measure_speeds(plan, shape, Sizes(plan, shape, items), pairs, file, console)
    if machine is None:
        device = "cuda" if gpus else "cpu"
        machine = next(name for name, facts in machines().items() if facts["device"] == device)
    on_gpu = machines().get(machine, {}).get("device") == "cuda"
    everything = [(a, works.of(a)) for a in plan.artefacts()]
    speeds = Speeds([*of_run(plan, everything), *of_file(file), *shipped(machine)])
    show_estimate(
        console,
        plan,
        jobs_of(plan, pairs, to_do, shape, items, speeds),
        found,
        speeds,
        gpus=max(1, gpus) if on_gpu else 0,
        cores=cores,
        free=_free(Path(plan.root)),
        caution=caution,
        unknown=items.unknown,
    )


def _free(folder: Path) -> int:
    """Bytes that are left where a folder is or will be."""
    there = next(path for path in [folder, *folder.absolute().parents] if path.exists())
    return shutil.disk_usage(there).free
