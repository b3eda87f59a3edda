"""Print a recorded run's systems beside one of them, as the tables of findings.md are.

From the project's folder: `python docs/results/compare.py mini-beyond-candidates sentiment deft-x`.
"""

import sys
from pathlib import Path
from typing import Any

import pandas as pd

HERE = Path(__file__).parent
PRIOR = " + prior"


def of_means(run: str, name: str, task: str) -> list[Any]:
    """The rows of a task's means over its languages in a table, if the run has it."""
    if not (HERE / run / name).is_file():
        return []
    # Only an empty cell is no value, since a system may be called nan.
    rows = pd.read_csv(HERE / run / name, keep_default_na=False, na_values=[""])
    return list(rows[(rows.task == task) & (rows.language == "mean")].itertuples())


def table(run: str, task: str, reference: str) -> str:
    """Means over the languages of a task, and their differences to the reference's, in points.

    Each mean and difference has half the width of its 95 % interval; a difference in parentheses is
    not significant after correction. Where the run has a prior, the same with it.
    """
    means, differences = {}, {}
    for row in (*of_means(run, "transfer.csv", task), *of_means(run, "prior.csv", task)):
        means[row.system] = _spread(row.mean, row)
    for row in of_means(run, "differences.csv", task):
        differences[row.system, row.versus] = _signed(row.difference, row)
        differences[row.versus, row.system] = _signed(-row.difference, row)
    kinds = ["", PRIOR] if f"{reference}{PRIOR}" in means else [""]
    heads = [text for kind in kinds for text in (f"mean{kind}", f"− {reference}{kind}")]
    lines = [f"| | {' | '.join(heads)} |", f"| :-- |{' --: |' * len(heads)}"]
    for system in (name for name in means if not name.endswith(PRIOR)):
        cells = []
        for kind in kinds:
            pair = f"{system}{kind}", f"{reference}{kind}"
            cells += [means[pair[0]], differences.get(pair, "")]
        lines.append(f"| {system} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _spread(value: float, row: Any) -> str:
    return f"{100 * value:.1f} ± {50 * (row.high - row.low):.1f}"


def _signed(value: float, row: Any) -> str:
    text = _spread(value, row) if value < 0 else f"+{_spread(value, row)}"
    text = text.replace("-", "−")
    return text if row.significant else f"({text})"


if __name__ == "__main__":
    print(table(*sys.argv[1:]))
