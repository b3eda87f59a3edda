"""Stage `summary`: one page with the results of a run."""

import hashlib
import os
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from io import StringIO
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import yaml

from deftx.models.base import Base
from deftx.plan.schema import System
from deftx.report.comparison import Comparison
from deftx.report.coverage import warnings
from deftx.report.csv_files import read_csv
from deftx.report.embed import data_uri, markdown, read
from deftx.report.figures.captions import CAPTIONS, NOTICE
from deftx.report.template import render
from deftx.report.written_config import load_config
from deftx.stages.clean.math import OUTCOMES
from deftx.stages.mask.settings import entries
from deftx.store.artefact import canonical, read_json, write_text
from deftx.store.version import VERSION

COST = "cost"
"""The figure in the folder of the costs, which the page shows with them."""

Params = Comparison


class Grid(NamedTuple):
    """A table of text."""

    head: list[str]
    rows: list[list[str]]


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
    """Write `out`, an HTML page that needs no other file, with the settings, tables, figures, costs
    and provenance of a run.

    Args:
        config: by the stage `config`.
        tables, figures, costs, claims: the main files of these stages. The page shows the Markdown
            files, figures and examples beside them.
        coverage: by the stage `coverage`, as CSV.
        cleaned: by the stage `clean`, with its counts beside each.

    Raises ArtefactError if a file is missing or something else.
    """
    run, encoder = load_config(config), Base.load(base)
    maskable = sum(map(prod, encoder.maskable.values()))
    plain = run.model_dump(mode="json", exclude_none=True)
    folders = {"tables": tables.parent, "figures": figures.parent, "costs": costs.parent}
    counts = [read_json(path.with_suffix(".json")) for path in cleaned or []]
    page = render(
        "summary.html.j2",
        run=run,
        comparison=params,
        metrics={task: params.metric(task).in_full for task in params.tasks},
        languages=dict.fromkeys(key for t in params.tasks.values() for key in t.languages),
        systems=Grid(
            ["system", "task vector by", "language vector by"],
            [[name, *_pair(run.systems[name])] for name in run.evaluated_systems],
        ),
        base=encoder.identity,
        size=sum(map(prod, encoder.shapes.values())),
        k={kind: entries(budget, maskable) for kind, budget in run.budget.model_dump().items()},
        maskable=maskable,
        scores=markdown(tables.with_suffix(".md"), deeper=1),
        examples=read_json(tables.with_name("examples.json"), "examples")["examples"],
        claims=markdown(claims.with_suffix(".md")) if claims else None,
        costs=markdown(costs.with_name("costs.md"), deeper=1),
        coverage=_table(coverage) if coverage else None,
        warnings=_warnings(coverage, params) if coverage else [],
        cleaned=_cleaned(counts, params) if counts else None,
        figures=[
            _shown(figures.parent, name)
            for name in CAPTIONS
            if name != COST and f'id="{NOTICE}"' not in read(figures.parent / f"{name}.svg")
        ],
        cost=_shown(costs.parent, COST),
        versions={
            "Python": platform.python_version(),
            "deftx": VERSION,
            **{name: version(name) for name in ("torch", "transformers")},
        },
        sha256=hashlib.sha256(canonical(run.model_dump(mode="json")).encode()).hexdigest(),
        config=yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=100),
        files={
            kind: [
                (path.name, Path(os.path.relpath(path, out.parent)).as_posix())
                for path in sorted(folder.iterdir())
            ]
            for kind, folder in folders.items()
        },
    )
    write_text(out, page)


def _shown(folder: Path, name: str) -> dict[str, str]:
    image = data_uri(folder / f"{name}.svg")
    return {"name": name, "image": image, "caption": CAPTIONS[name]}


def _table(path: Path) -> Grid:
    """A CSV file as text, fractions with three digits."""
    # Only an empty cell is no value: a language or a system may be called nan or null.
    frame = pd.read_csv(StringIO(read(path)), keep_default_na=False, na_values=[""])
    for name in frame.select_dtypes("number"):
        numbers = frame[name].astype(float)
        texts = [f"{x:,.0f}" if x.is_integer() else f"{x:.3g}" for x in numbers]
        frame[name] = pd.Series(texts).str.replace("-", "−").where(frame[name].notna(), "")
    frame.columns = frame.columns.str.replace("_", " ")
    return Grid(frame.columns.tolist(), frame.fillna("").astype(str).to_numpy().tolist())


def _warnings(path: Path, comparison: Comparison) -> list[str]:
    """A warning for each language that the tokenizer covers badly."""
    frame = read_csv(path, language=str, words=int, pieces=int, unknown=int)
    sources = [source for task in comparison.tasks.values() for source in task.labelled]
    return warnings(frame, sources, comparison.names)


def _cleaned(counts: Sequence[Mapping[str, Any]], comparison: Comparison) -> Grid:
    """How many lines of each language's text were kept, and removed for which reason."""
    rows = []
    for of in counts:
        lines = (f"{of[name]:,}" for name in ("read", *OUTCOMES))
        rows.append([comparison.name(of["language"]), ", ".join(of["datasets"]), *lines])
    return Grid(["language", "text", "lines", *OUTCOMES], rows)


def _pair(system: System) -> tuple[str, str]:
    """The methods of a system, with its settings for them."""
    scales = (system.task, system.task_scale), (system.language, system.language_scale)
    task, language = (name if scale == 1 else f"{scale:g} × {name}" for name, scale in scales)
    if system.task_depth is not None:
        task += f", by depth ({system.task_depth.words})"
    if system.language_depth is not None:
        language += f", by depth ({system.language_depth.words})"
    if system.task_start is not None:
        task += f", starting at {system.task_start}"
    if system.combine is not None:
        ways = system.combine.model_dump(exclude_none=True)
        language += f", combined by {' '.join(ways).replace('_', ' ')}"
    return task, language
