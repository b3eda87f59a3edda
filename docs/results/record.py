"""Copy what a run has measured into docs/results, for readers of findings.md.

From the project's folder: `python docs/results/record.py results/mini-tagging`.
"""

import shutil
import sys
from pathlib import Path

FILES = {
    "tables": (
        "transfer.md",
        "transfer.csv",
        "scores.csv",
        "classes.csv",
        "differences.csv",
        "prior.csv",
        "claims.csv",
        "claims.md",
    ),
    "figures": ("transfer.png", "prior.png"),
    "coverage": ("coverage.csv",),
}
"""Folder of a run → its files that are copied, as far as the run has them. Pages with sentences of
test sets are left out: some may not be passed on."""


def main(run: Path) -> None:
    """Copy the files of a run to the folder of its name beside this script."""
    target = Path(__file__).parent / run.name
    target.mkdir(exist_ok=True)
    for folder, names in FILES.items():
        for name in names:
            if (run / folder / name).is_file():
                shutil.copyfile(run / folder / name, target / name)
                print(target / name)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
