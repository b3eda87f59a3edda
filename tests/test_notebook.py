"""The notebook docs/adapt.ipynb: what it contains, and that it runs from top to bottom."""

import ast
import json
import os
import re
import shlex
import subprocess
import sys

import nbformat
import pytest
from conftest import PROJECT

from deftx.cli.main import _overview

NOTEBOOK = PROJECT / "docs/adapt.ipynb"
CELLS = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
CODE = ["".join(cell["source"]) for cell in CELLS if cell["cell_type"] == "code"]
VERBS = {*re.findall(r"^!deftx (\w+)", "\n".join(CODE), re.M)}


def python(source):
    """A cell as Python: lines for the shell as calls of `shell`, the last expression printed."""
    whole = source.replace("\\\n", " ").splitlines()
    lines = [f"shell({line[1:]!r})" if line[:1] == "!" else line for line in whole]
    tree = ast.parse("\n".join(lines))
    if isinstance(last := tree.body[-1], ast.Expr):
        tree.body[-1] = ast.parse("print(None)").body[0]
        tree.body[-1].value.args = [last.value]
    return compile(ast.fix_missing_locations(tree), "cell", "exec")


def test_it_has_ten_cells_of_valid_code_without_outputs():
    nbformat.validate(nbformat.read(NOTEBOOK, 4))
    assert len(CELLS) == 10
    assert all(cell.get("outputs", []) == [] for cell in CELLS)
    assert all(cell.get("execution_count") is None for cell in CELLS)
    for source in CODE:
        python(source)
    assert VERBS - {"adapt", "score", "publish"} == set()


@pytest.mark.workflow
@pytest.mark.skipif(
    not all(re.search(rf"^  {verb} ", _overview(), re.M) for verb in VERBS), reason="no such verbs"
)
def test_it_runs_from_top_to_bottom(tmp_path, monkeypatch):
    """Each command succeeds, and the model that it makes is right more often than chance."""
    monkeypatch.chdir(tmp_path)
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), "HF_HUB_OFFLINE": "1"}

    def shell(command):
        words = [sys.executable, "-m", *shlex.split(command)]
        subprocess.run(words, check=True, env=environment, stdin=subprocess.DEVNULL)

    names = {"shell": shell}
    for source in CODE:
        exec(python(source), names)
    found = json.loads((tmp_path / "middle/score.json").read_text(encoding="utf-8"))
    assert found["p_chance"] < 0.05
    assert "Nobody has scored" not in (tmp_path / "middle/model/README.md").read_text()
