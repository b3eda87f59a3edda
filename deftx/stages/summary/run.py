"""Stage `summary`: one page that leads through the results of a run."""

import csv
import json
import os
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from math import prod
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from markupsafe import Markup
from pydantic import Field

from deftx.models.base import Base
from deftx.plan.schema import System
from deftx.report.accounting import STAGES_NOTE, SYSTEMS_NOTE, readable, unknown_note
from deftx.report.coverage import Coverage, warnings
from deftx.report.embed import figure, page, read, table
from deftx.report.figures.captions import CAPTIONS, NOTICE
from deftx.report.results import METRIC_NAMES, Comparison, TaskTable
from deftx.report.template import render
from deftx.report.written_config import config_sha256, config_text, load_config
from deftx.stages.clean.math import OUTCOMES
from deftx.stages.mask.settings import Budget, entries
from deftx.store.artefact import write_text
from deftx.store.errors import ArtefactError
from deftx.store.strict import Strict

COST = "cost"
"""The figure that lies beside the costs, and is shown there."""


class Params(Comparison):
    """Which systems are compared on what."""


class Facts(Strict):
    """What the page tells of the run besides its results."""

    run: str
    title: str = Field(default="", description="of the page; default: the name of the run")
    systems: dict[str, System]
    tasks: dict[str, TaskTable]
    names: dict[str, str] = Field(default={}, description="language → what it is called")
    without_text: list[str] = Field(default=[], description="languages without a vector")
    seeds: list[int]
    budget: dict[str, Budget] = Field(
        default={}, description="task and language → K, or what part of the entries it is"
    )
    figures: dict[str, str] = Field(description="name of a figure → its caption, in order")
    config_sha256: str
    config: str = Field(description="the text of the config")
    commands: list[str] = Field(default=[], description="that make the run again")


class Grid(NamedTuple):
    """A table of text."""

    head: list[str]
    rows: list[list[str]]


class Embedded(NamedTuple):
    """A page of tables inside of this one."""

    style: Markup
    content: Markup


def summary(
    params: Params,
    *,
    config: Path,
    tables: Path,
    figures: Path,
    costs: Path,
    claims: Path | None = None,
    coverage: Path | None = None,
    cleaned: list[Path] | None = None,
    base: Path,
    out: Path,
) -> None:
    """Write `out`, an HTML page that needs no other file: what was run, the tables, figures and
    costs that lie beside the three files of these stages, and where it all comes from. `claims` and
    `coverage` are tables as CSV, `config` is what the stage `config` wrote, `cleaned` what `clean`
    did.

    Raises ArtefactError if one of these is missing or something else.
    """
    run = load_config(config)
    facts = Facts(
        run=run.run,
        systems={name: run.systems[name] for name in run.evaluated_systems},
        tasks=params.tasks,
        names=params.names,
        without_text=params.without_text,
        seeds=run.seeds,
        budget=run.budget.model_dump(),
        figures=CAPTIONS,
        config_sha256=config_sha256(run),
        config=config_text(run),
        commands=[f"snakemake --configfile {run.run}.yaml"],
    )
    lead(
        facts,
        tables=tables.parent,
        figures=figures.parent,
        costs=costs.parent,
        claims=claims,
        coverage=coverage,
        cleaned=cleaned or [],
        base=base,
        out=out,
    )


def lead(
    facts: Facts,
    *,
    tables: Path,
    figures: Path,
    costs: Path,
    claims: Path | None = None,
    coverage: Path | None = None,
    cleaned: Sequence[Path] = (),
    base: Path,
    out: Path,
) -> None:
    """What `summary` does, of these facts: `tables`, `figures` and `costs` are folders, `claims`
    and `coverage` tables as HTML or as CSV."""
    encoder = Base.load(base)
    of_cost = facts.figures.get(COST, "Score against cost.")
    maskable = sum(map(prod, encoder.maskable.values()))
    systems, stages = (_costs(costs / f"{name}.csv") for name in ("systems", "stages"))
    write_text(
        out,
        render(
            "summary.html.j2",
            params=facts,
            metrics={task: METRIC_NAMES[table.metric] for task, table in facts.tasks.items()},
            languages={
                key: facts.names.get(key) or key
                for table in facts.tasks.values()
                for key in table.languages
            },
            systems=[[name, *_pair(pair)] for name, pair in facts.systems.items()],
            base=encoder.identity,
            size=sum(map(prod, encoder.shapes.values())),
            k={kind: entries(budget, maskable) for kind, budget in facts.budget.items()},
            maskable=maskable,
            scores=Embedded(*page(tables / "transfer.html")),
            claims=_claims(claims),
            coverage=_shown(coverage),
            warnings=_warnings(coverage, facts),
            cleaned=_cleaned(cleaned, facts.names),
            figures={
                name: (figure(figures / f"{name}.svg", caption), caption)
                for name, caption in facts.figures.items()
                if name != COST and f'id="{NOTICE}"' not in read(figures / f"{name}.svg")
            },
            cost=(figure(costs / f"{COST}.svg", of_cost), of_cost),
            costs=[
                (Grid(*readable(systems)), SYSTEMS_NOTE),
                (Grid(*readable(stages)), STAGES_NOTE),
            ],
            unknown=_unknown(stages),
            versions={
                "Python": platform.python_version(),
                **{name: version(name) for name in ("deftx", "torch", "transformers")},
            },
            files={
                kind: [(path.name, _link(path, out)) for path in sorted(folder.iterdir())]
                for kind, folder in (("tables", tables), ("figures", figures), ("costs", costs))
            },
        ),
    )


def _costs(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise ArtefactError(f"{path}: no such file; it is made by the stage costs")
    return pd.read_csv(path)


def _unknown(stages: pd.DataFrame) -> str:
    unknown, jobs = int(stages["unknown"].sum()), int(stages["jobs"].sum())
    return unknown_note(unknown, jobs) if unknown else ""


def _shown(path: Path | None) -> Embedded | Grid | None:
    """A table made by another stage; None if it was not made."""
    if path is None:
        return None
    return Embedded(*page(path)) if path.suffix == ".html" else Grid(*table(path))


def _warnings(path: Path | None, facts: Facts) -> list[str]:
    """Which languages the tokenizer covers badly, of a table as CSV."""
    if path is None or path.suffix != ".csv":
        return []
    whole: dict[str, Coverage] = {}
    for row in csv.DictReader(read(path).splitlines()):
        counts = {name: int(row[name]) for name in ("words", "pieces", "unknown")}
        whole[row["language"]] = whole.get(row["language"], Coverage()) + Coverage(**counts)
    sources = [source for task in facts.tasks.values() for source in task.labelled]
    return warnings(whole, sources, facts.names)


def _cleaned(paths: Sequence[Path], names: Mapping[str, str]) -> Grid | None:
    """What became of the lines of each language's text."""
    if not paths:
        return None
    counts = [json.loads(read(path.with_suffix(".json"))) for path in paths]
    return Grid(
        ["language", "text", "lines", *OUTCOMES],
        [
            [
                names.get(of["language"]) or of["language"],
                ", ".join(of["datasets"]),
                *(f"{of[name]:,}" for name in ("read", *OUTCOMES)),
            ]
            for of in counts
        ],
    )


def _claims(path: Path | None) -> Embedded | Grid | None:
    """The claims as their reader wants them: what is said and by whom, and what this run finds."""
    if path is None or path.suffix == ".html":
        return _shown(path)
    head, rows = table(path)
    found = [dict(zip(head, row, strict=True)) for row in rows]
    several = len({claim["task"] for claim in found}) > 1
    return Grid(
        [
            "claim",
            *["task"] * several,
            "verdict",
            "ours",
            "95 % interval",
            "published",
            "n",
            "source",
        ],
        [
            [
                Markup("{}<small>{}</small>").format(claim["claim"], claim["statistic"]),
                *[claim["task"]] * several,
                claim["verdict"],
                claim["ours"],
                f"{claim['low']} to {claim['high']}" if claim["low"] else "",
                claim["published"],
                claim["n"],
                f"{claim['source']}, {claim['place']}",
            ]
            for claim in found
        ],
    )


def _pair(system: System) -> tuple[str, str]:
    """The methods of a system, with what it says of them beyond their names."""
    task = _scaled(system.task, system.task_scale)
    language = _scaled(system.language, system.language_scale)
    if system.task_start is not None:
        task += f", starting at {system.task_start}"
    if system.combine is not None:
        ways = system.combine.model_dump(exclude_none=True)
        language += f", combined by {' '.join(ways).replace('_', ' ')}"
    return task, language


def _scaled(method: str, scale: float) -> str:
    return method if scale == 1 else f"{scale:g} × {method}"


def _link(path: Path, page: Path) -> str:
    return Path(os.path.relpath(path, page.parent)).as_posix()
