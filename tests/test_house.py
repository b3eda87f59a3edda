"""The house: files that must agree with each other do."""

import re
import tomllib

import yaml
from conftest import PROJECT

from deftx.cli import STAGES
from deftx.graph import PATTERNS

CONDA_NAMES = {
    "pytorch": "torch",
    "matplotlib-base": "matplotlib",
    "huggingface_hub": "huggingface-hub",
}


def requirements(lines):
    """Package → version bounds, extras left out."""
    found = {}
    for line in lines:
        name, bounds = re.fullmatch(r"([\w.-]+)(?:\[\w+\])?(.*)", line).groups()
        found[CONDA_NAMES.get(name, name)] = bounds
    return found


PYPROJECT = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]


def test_environment_yml_is_pyproject():
    environment = yaml.safe_load((PROJECT / "environment.yml").read_text())
    conda = requirements(environment["dependencies"])
    assert conda.pop("python") == PYPROJECT["requires-python"]
    assert conda == requirements(PYPROJECT["dependencies"])


def version(text):
    return tuple(int(part) for part in re.findall(r"\d+", text)[:3])


def test_constraints_lie_within_the_bounds_of_pyproject():
    lines = (PROJECT / "constraints.txt").read_text().splitlines()
    pinned = dict(line.split("==") for line in lines if "==" in line)
    pinned = {name.lower().replace("_", "-"): v for name, v in pinned.items()}
    extras = [r for group in ("dev",) for r in PYPROJECT["optional-dependencies"][group]]
    for name, bounds in requirements([*PYPROJECT["dependencies"], *extras]).items():
        if name == "torch":  # installed first, by the Makefile
            continue
        for operator, bound in re.findall(r"(>=|<)([\d.]+)", bounds):
            found = version(pinned[name.lower()])
            assert found >= version(bound) if operator == ">=" else found < version(bound), name


def test_rules_verbs_functions_and_folders_share_their_names():
    rules = set()
    for path in (PROJECT / "workflow/rules").glob("*.smk"):
        rules |= set(re.findall(r"^rule (\w+):", path.read_text(), re.M))
    modules = {path.stem for path in (PROJECT / "deftx/stages").glob("*.py")} - {"__init__"}
    assert rules == modules == set(STAGES) == set(PATTERNS)
    for stage in STAGES:
        text = (PROJECT / f"deftx/stages/{stage}.py").read_text()
        assert re.search(rf"^def {stage}\(", text, re.M), stage


def test_the_readme_names_every_file():
    """As often as there are files of that name."""
    readme = (PROJECT / "README.md").read_text()
    tree = readme[readme.index("## What is where") :].split()
    paths = [*(PROJECT / "deftx").rglob("*.py"), *(PROJECT / "workflow/rules").glob("*.smk")]
    names = [path.name for path in paths if not path.stem.startswith("__")]
    for name in names:
        assert tree.count(name) == names.count(name), name


def test_no_source_line_opens_a_pickle_or_trusts_remote_code():
    forbidden = ["torch." + "save(", "pickle." + "load", "weights_only=" + "False",
                 "trust_remote_code=" + "True"]  # fmt: skip
    for path in PROJECT.glob("**/*.py"):
        if ".venv" not in path.parts:
            text = path.read_text()
            assert not any(word in text for word in forbidden), path
