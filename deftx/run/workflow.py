"""Where the workflow is: around the package in a clone, inside it in an installed wheel."""

import sys
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
SHIPPED = PACKAGE / "workflow"
"""The workflow's folder in a wheel (hatch_build.py); a clone has none here."""
IS_CLONE = not SHIPPED.is_dir()
FOLDER = PACKAGE.parent if IS_CLONE else SHIPPED
"""The folder of the Snakefile, which also has the configs, datasets and profiles."""


def snakemake(config: Path, *arguments: str) -> list[str]:
    """The command that runs Snakemake on a config with this workflow, in any folder."""
    # --configfile takes all words that follow, so it is not the last option.
    options = ["--configfile", str(config), "--snakefile", str(FOLDER / "Snakefile")]
    return [sys.executable, "-m", "snakemake", *options, *arguments]


def ours(path: str) -> Path:
    """The path of a config: of the working folder, or else of the workflow, such as
    `workflow/configs/demo.yaml`."""
    given, found = Path(path), FOLDER / path
    return found if not given.exists() and found.is_file() else given
