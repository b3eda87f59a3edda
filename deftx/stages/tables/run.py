"""Stage `tables`: every score with its uncertainty, as CSV, Markdown, LaTeX and HTML."""

from pathlib import Path

import pandas as pd

from deftx.report.comparison import Comparison
from deftx.report.csv_files import write_csv
from deftx.report.evaluations import load_evaluations
from deftx.report.published import beside, load_published
from deftx.report.scores import Difference, class_scores, differences, draw, scores, transfer
from deftx.report.table_formats import latex, markdown, page
from deftx.report.tables import difference_tables, published_table, score_table, tidy
from deftx.store.artefact import write_text

Params = Comparison


def tables(
    params: Params, *, evaluated: list[Path], published: list[Path] | None = None, out: Path
) -> None:
    """Write `transfer.csv` (`out`; see `tidy`) and beside it `scores.csv` (a row per evaluation),
    `classes.csv` (a row per class of it), `differences.csv` (see `differences`) and `published.csv`
    (see `beside`; only its header if nothing published is comparable); and the same as tables to
    read: `transfer.md`, `transfer.tex` (needs booktabs), `transfer.html`.

    Args:
        evaluated: files of the stage `evaluate`, or a folder of them, see `load_evaluations`.
        published: published numbers, see `deftx.report.published.Published`.

    Raises ArtefactError if a file cannot be read; InputError if an evaluation is missing.
    """
    evaluations = load_evaluations(evaluated, params)
    draws = draw(params, evaluations)
    means, gaps = transfer(params, draws), differences(params, draws)
    theirs = beside(params, means, load_published(published or []))
    frame = tidy(params, means, evaluations)
    shown = []
    for task in params.tasks:
        seeds = max(mean.seeds for mean in means if mean.task == task)
        shown.append(score_table(params, task, frame, gaps))
        shown += difference_tables(params, task, gaps, seeds)
        shown += published_table(params, task, theirs)
    write_text(out.with_suffix(".md"), "\n".join(map(markdown, shown)))
    write_text(out.with_suffix(".tex"), "\n".join(map(latex, shown)))
    write_text(out.with_suffix(".html"), page(shown))
    write_csv(out.with_name("scores.csv"), scores(evaluations))
    write_csv(out.with_name("classes.csv"), class_scores(evaluations))
    write_csv(
        out.with_name("differences.csv"), pd.DataFrame(gaps, columns=list(Difference._fields))
    )
    write_csv(out.with_name("published.csv"), theirs)
    write_csv(out, frame)
