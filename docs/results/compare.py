"""Print a recorded run's systems beside one of them, as the tables of findings.md are.

From the project's folder: `python docs/results/compare.py mini-beyond sentiment deft-x`, and with
`unseen` after it for the mean over that group of languages.
"""

import sys
from pathlib import Path
from typing import Any

import pandas as pd

HERE = Path(__file__).parent
PRIOR = " + prior"


def table(run: str, task: str, reference: str, group: str = "mean") -> str:
    """The score in each language of a task, their mean, and its difference to the reference's, in
    percent and points; with a prior too, where the run has one. Of a group of languages: its mean
    alone.

    Means and differences have half the width of their 95 % intervals; a difference in parentheses
    is not significant after correction.
    """
    scores = [*rows_of(run, "transfer.csv", task), *rows_of(run, "prior.csv", task)]
    means = {row.system: _spread(row.mean, row) for row in scores if row.language == group}
    single = {(row.system, row.language): f"{100 * row.mean:.1f}" for row in scores}
    differences = {}
    for row in rows_of(run, "differences.csv", task):
        if row.language == group:
            differences[row.system, row.versus] = _signed(row.difference, row)
            differences[row.versus, row.system] = _signed(-row.difference, row)
    kinds = ["", PRIOR] if f"{reference}{PRIOR}" in means else [""]
    # Tables of means also have groups of languages; an evaluation is in one language.
    evaluations = rows_of(run, "scores.csv", task) if group == "mean" else []
    languages = list(dict.fromkeys(row.language for row in evaluations))
    heads = [*languages, *(x for kind in kinds for x in (f"{group}{kind}", f"− {reference}{kind}"))]
    lines = [f"| | {' | '.join(heads)} |", f"| :-- |{' --: |' * len(heads)}"]
    for system in (name for name in means if not name.endswith(PRIOR)):
        cells = [single[system, language] for language in languages]
        for kind in kinds:
            name = f"{system}{kind}"
            cells += [means[name], differences.get((name, f"{reference}{kind}"), "")]
        lines.append(f"| {system} | {' | '.join(cells)} |")
    return "\n".join(lines)


def rows_of(run: str, name: str, task: str) -> list[Any]:
    """The rows of a task in a table, if the run has it."""
    if not (HERE / run / name).is_file():
        return []
    # Only an empty cell is no value, since a system may be called nan.
    rows = pd.read_csv(HERE / run / name, keep_default_na=False, na_values=[""])
    return list(rows[rows.task == task].itertuples())


def _spread(value: float, row: Any) -> str:
    return f"{100 * value:.1f} ± {50 * (row.high - row.low):.1f}"


def _signed(value: float, row: Any) -> str:
    text = f"{'−' if value < 0 else '+'}{_spread(abs(value), row)}"
    return text if row.significant else f"({text})"


if __name__ == "__main__":
    print(table(*sys.argv[1:]))
