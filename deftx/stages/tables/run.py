"""Stage `tables`: every score with its uncertainty, as CSV, Markdown, LaTeX and HTML."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from deftx.report.published import Beside, beside, load_published
from deftx.report.results import (
    ClassScore,
    Comparison,
    Difference,
    Score,
    class_scores,
    differences,
    draw,
    load_evaluations,
    scores,
    trained,
    transfer,
)
from deftx.report.table_formats import Table, latex, markdown, page
from deftx.report.tables import pair_table, published_table, reference_table, score_table, tidy
from deftx.store.artefact import write_text


class Params(Comparison):
    """Which systems are compared on what."""


def tables(
    params: Params, *, evaluated: list[Path], published: list[Path] | None = None, out: Path
) -> None:
    """Write `transfer.csv` (`out`; see `tidy`) and beside it `scores.csv` (a row per evaluation),
    `classes.csv` (a row per class of it), `differences.csv` (see
    `deftx.report.results.differences`) and `published.csv` (see `beside`; only its header
    where nothing published is comparable), and all of it as tables to read: `transfer.md`,
    `transfer.tex` (needs booktabs), `transfer.html`.

    Args:
        evaluated: files of the stage `evaluate`, or a folder of them, see `load_evaluations`.
        published: published numbers, see `deftx.report.published.Published`.

    Raises ArtefactError if a file cannot be read; InputError if an evaluation is missing.
    """
    evaluations = load_evaluations(evaluated, params)
    draws = draw(params, evaluations)
    means, gaps = transfer(params, draws), differences(params, draws)
    theirs = beside(params, means, load_published(published or []))
    frame = tidy(means, trained(params, evaluations))
    shown = []
    for task in params.tasks:
        seeds = next(mean.seeds for mean in means if mean.task == task)
        shown += [
            score_table(params, task, frame, gaps),
            pair_table(params, task, gaps, seeds),
            reference_table(params, task, gaps, seeds),
            published_table(params, task, theirs),
        ]
    _write_pages(out, [table for table in shown if table is not None])
    for name, rows, columns in (
        ("scores", scores(evaluations), Score._fields),
        ("classes", class_scores(evaluations), ClassScore._fields),
        ("differences", gaps, Difference._fields),
        ("published", theirs, Beside._fields),
    ):
        write_text(out.with_name(f"{name}.csv"), _csv(pd.DataFrame(rows, columns=list(columns))))
    write_text(out, _csv(frame))


def _write_pages(out: Path, shown: Sequence[Table]) -> None:
    write_text(out.with_suffix(".md"), "\n".join(map(markdown, shown)))
    write_text(out.with_suffix(".tex"), "\n".join(map(latex, shown)))
    write_text(out.with_suffix(".html"), page(shown))


def _csv(frame: pd.DataFrame) -> str:
    return frame.to_csv(index=False, float_format="%.6f", lineterminator="\n")
