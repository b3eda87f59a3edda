"""Stage `tables`: every score with its uncertainty, as CSV, Markdown, LaTeX and HTML."""

from pathlib import Path

import pandas as pd

from deftx.report.comparison import Comparison
from deftx.report.confusions import best_systems, confusion_table, confusions, examples
from deftx.report.csv_files import write_csv
from deftx.report.evaluations import load_evaluations
from deftx.report.prior import CHANGE, with_prior
from deftx.report.published import beside, load_published
from deftx.report.scores import (
    Difference,
    Transfer,
    class_scores,
    differences,
    draw,
    scores,
    transfer,
)
from deftx.report.table_formats import latex, markdown, page
from deftx.report.tables import (
    difference_tables,
    prior_tables,
    published_table,
    score_table,
    shares_table,
    tidy,
)
from deftx.store.artefact import write_json, write_text

Params = Comparison


def tables(
    params: Params,
    *,
    evaluated: list[Path],
    priors: list[Path] | None = None,
    test: list[Path] | None = None,
    published: list[Path] | None = None,
    out: Path,
) -> None:
    """Write `transfer.csv` (`out`; see `tidy`) and beside it `scores.csv` (a row per evaluation),
    `classes.csv` (a row per class of it), `confusions.csv` and `differences.csv` (see the functions
    of these names), `prior.csv` (see `WithPrior.table`; only its header if no task has a prior) and
    `published.csv` (see `beside`; only its header if nothing published is comparable); the same as
    tables to read: `transfer.md`, `transfer.tex` (needs booktabs), `transfer.html`; and
    `examples.json` for the summary (see `examples`). Systems with a prior are in `scores.csv`,
    `classes.csv` and `differences.csv` too, but not in `transfer.csv`: their means may be over
    fewer languages.

    Args:
        evaluated: files of the stage `evaluate`, or a folder of them, see `load_evaluations`.
        priors: files of the stage `prior`, or a folder of them, if a task has one.
        test: items of the test sets of tasks that are shown with examples of errors.
        published: published numbers, see `deftx.report.published.Published`.

    Raises ArtefactError if a file cannot be read, or `test` has other items than the evaluations;
    InputError if an evaluation is missing.
    """
    evaluations = load_evaluations(evaluated, params)
    draws = draw(params, evaluations)
    means, gaps = transfer(params, draws), differences(params, draws)
    theirs = beside(params, means, load_published(published or []))
    frame = tidy(params, means, evaluations)
    calibrated = with_prior(params, evaluations, priors or [])
    after = differences(calibrated.after, calibrated.draws) if calibrated else []
    systems = best_systems(params, means)
    confused = confusions(params, evaluations, systems)
    shown = []
    for task in params.tasks:
        seeds = max(mean.seeds for mean in means if mean.task == task)
        shown.append(score_table(params, task, frame, gaps))
        shown += difference_tables(params, task, gaps, seeds)
        shown += published_table(params, task, theirs)
        shown.append(shares_table(params, task, evaluations))
        shown += confusion_table(params, task, confused)
        shown += prior_tables(calibrated, task, after) if calibrated else []
    write_text(out.with_suffix(".md"), "\n".join(map(markdown, shown)))
    write_text(out.with_suffix(".tex"), "\n".join(map(latex, shown)))
    write_text(out.with_suffix(".html"), page(shown))
    every = [*evaluations, *(calibrated.evaluations if calibrated else [])]
    write_csv(out.with_name("scores.csv"), scores(every))
    write_csv(out.with_name("classes.csv"), class_scores(every))
    write_csv(out.with_name("confusions.csv"), confused)
    errors = examples(params, evaluations, systems, test or [])
    write_json(out.with_name("examples.json"), {"examples": errors})
    pairs = pd.DataFrame([*gaps, *after], columns=list(Difference._fields))
    write_csv(out.with_name("differences.csv"), pairs)
    columns = [*Transfer._fields, *CHANGE]
    write_csv(
        out.with_name("prior.csv"),
        calibrated.table() if calibrated else pd.DataFrame(columns=columns),
    )
    write_csv(out.with_name("published.csv"), theirs)
    write_csv(out, frame)
