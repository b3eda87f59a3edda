"""The house rules: what may import what, and files that must agree with each other."""

import ast
import importlib.metadata
import os
import re
import subprocess
import sys
import tomllib

import pytest
import yaml
import yte
from conftest import PROJECT
from imports import file_of, imports, modules
from workspace import COPIED

import deftx
from deftx.stages.table import STAGES
from deftx.store.version import VERSION

FLOORS = "store core run models data engine plan report exchange stages estimate adapt cli".split()
"""The floors, ground first, which are packages. A module imports only from its own floor or from a
lower one."""

FLOOR_IN = {
    "stages": {
        "math": "core", "settings": "core",
        "plan": "plan", "method": "plan", "methods": "plan", "table": "plan",
    },
    "tasks": {
        "math": "core", "tags": "core", "heads": "models", "tokens": "models", "rows": "data",
        "settings": "plan", "table": "plan", "measures": "report",
    },
}  # fmt: skip
"""Package with files on several floors → file → its floor; all others are on the floor `stages`."""

MODULES = [name for name in modules() if name not in ("deftx", "deftx.__main__")]


def floor(module):
    room, *_, file = module.split(".")[1:] * 2
    if room in FLOOR_IN:
        room = FLOOR_IN[room].get(file, "stages")
    return FLOORS.index(room)


def test_the_package_holds_packages_only():
    assert {path.name for path in (PROJECT / "deftx").glob("*.py")} == {
        "__init__.py",
        "__main__.py",
    }
    rooms = {path.parent.name for path in (PROJECT / "deftx").glob("*/__init__.py")}
    assert rooms == {*FLOORS, "tasks"}


def test_every_name_of_the_package_can_be_imported():
    assert len(deftx.__all__) > 40 and all(hasattr(deftx, name) for name in deftx.__all__)


def test_no_module_imports_from_a_higher_floor():
    upward = {
        f"{module} -> {target}"
        for module in MODULES
        for target in imports(module)
        if target != "deftx" and floor(target) > floor(module)
    }
    assert upward == set()


def imported(modules):
    """All that a new process has imported after these modules."""
    code = f"import sys\nfor name in {modules}: __import__(name)\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {*done.stdout.split()}


def test_planning_imports_no_torch():
    """Neither modules of the planning floor nor the settings of stages, whatever these import."""
    planning = [
        name
        for name in MODULES
        if floor(name) == FLOORS.index("plan") or name.endswith(".settings")
    ]
    assert imported(planning).isdisjoint({"torch", "transformers"})


@pytest.mark.parametrize(
    ("stages", "slow"),
    [
        ("clean config data download trim world", "torch pandas"),
        ("mask denoise compose", "transformers pandas"),
        ("tokens", "transformers.modeling_utils pandas"),
        ("adapter evaluate full gate gated lora sparse", "pandas scipy.stats matplotlib peft"),
    ],
)
def test_a_job_imports_nothing_slow_that_it_does_not_need(stages, slow):
    """These imports were seconds of each job that is not forked from the warm server."""
    found = imported(["deftx.cli.main", *(f"deftx.stages.{name}.run" for name in stages.split())])
    assert found.isdisjoint({*slow.split(), "datasets", "sklearn", "snakemake"})


def test_names_are_imported_from_their_modules_and_nothing_is_found_by_a_built_name():
    """So every use of a function can be found by its name, and the fingerprint sees each import,
    and leads nowhere else. The command line finds verbs by their names."""
    found = set()
    for module in MODULES:
        for node in ast.walk(ast.parse(file_of(module).read_text(encoding="utf-8"))):
            match node:
                case ast.Call(func=ast.Name(id="getattr"), args=[_, ast.JoinedStr(), *_]):
                    found.add(module)
                case ast.Attribute(attr="import_module") | ast.Name(id="__import__"):
                    found.add(module)
                case ast.ImportFrom(module="deftx" | "importlib"):
                    found.add(module)  # the package itself names everything
                case ast.Import(names=names) if any(n.name.startswith("deftx") for n in names):
                    found.add(module)
    assert found == {"deftx.cli.main"}


def test_a_script_beside_the_clone_imports_the_installed_package(tmp_path):
    """A folder that has the name of the package, as a clone usually has, does not hide it."""
    try:
        importlib.metadata.version("deftx")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("deftx is not installed")
    (tmp_path / "deftx").mkdir()
    (tmp_path / "script.py").write_text("import deftx; print(deftx.__file__)")
    command = [sys.executable, str(tmp_path / "script.py")]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("__init__.py")


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


def test_the_citation_has_the_version_of_the_code():
    assert yaml.safe_load((PROJECT / "CITATION.cff").read_text())["version"] == VERSION


def version(text):
    return tuple(int(part) for part in re.findall(r"\d+", text)[:3])


def test_constraints_lie_within_the_bounds_of_pyproject():
    lines = (PROJECT / "constraints.txt").read_text().splitlines()
    pinned = dict(line.split("==") for line in lines if "==" in line)
    pinned = {name.lower().replace("_", "-"): v for name, v in pinned.items()}
    extras = [r for group in ("dev", "slurm") for r in PYPROJECT["optional-dependencies"][group]]
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
    folders = {path.parent.name for path in (PROJECT / "deftx/stages").glob("*/run.py")}
    assert rules == folders == set(STAGES)
    for stage in STAGES:
        text = (PROJECT / f"deftx/stages/{stage}/run.py").read_text()
        assert re.search(rf"^def {stage}\(", text, re.M), stage


def profile(**definitions):
    """The profile for SLURM, its first definitions replaced."""
    text = (PROJECT / "profiles/slurm/profile.yaml").read_text()
    for name, value in definitions.items():
        text, count = re.subn(rf"(- {name} = )[^#\n]*", rf"\g<1>{value!r} ", text)
        assert count == 1, name
    return yte.process_yaml(text)


def test_on_slurm_what_uses_a_gpu_is_in_the_gpu_partition_and_every_job_has_its_bounds():
    made = profile(account="mine", longest=60)
    on_gpu = {"compose"}  # in one job with the evaluations
    for path in (PROJECT / "workflow/rules").glob("*.smk"):
        for name, body in re.findall(
            r"^rule (\w+):(.*?)(?=^rule|\Z)", path.read_text(), re.M | re.S
        ):
            on_gpu |= {name} if re.search(r"\bgpu=", body) else set()
    assert len(on_gpu) > 5
    own = made["set-resources"]
    on_gpu -= {rule for rule, of in own.items() if of.get("gpu") == 0}
    assert {rule for rule, of in own.items() if of.get("slurm_partition") == "gpu"} == on_gpu
    assert own.keys() <= set(STAGES)
    assert made["default-resources"] == {
        "slurm_account": "mine",
        "slurm_partition": "cpu",
        "mem_mb": "attempt * 8000",
        "runtime": "min(attempt * 30, 60)",
    }
    assert own["full"]["runtime"] == "min(attempt * 240, 60)"
    assert "slurm_account" not in profile()["default-resources"]
    # Rules that share a job take turns in it, or it would ask for the sum of what they need.
    assert {rule for rule, of in own.items() if of.get("turn") == 1} == made["groups"].keys()


def test_nothing_in_a_rule_assumes_a_scheduler():
    for path in (PROJECT / "workflow/rules").glob("*.smk"):
        assert not re.search(r"slurm|sbatch|partition|retries:", path.read_text(), re.I), path


def test_containers_install_what_the_makefile_does():
    torch = re.search(r"^TORCH \?= (\S+)$", (PROJECT / "Makefile").read_text(), re.M)[1]
    docker = (PROJECT / "containers/Dockerfile").read_text()
    apptainer = (PROJECT / "containers/deftx.def").read_text()
    for text in (docker, apptainer):
        assert f"TORCH={torch}\n" in text
        assert "pip install --no-cache-dir -c constraints.txt -e .\n" in text
    assert (
        re.search(r"^FROM (.*)$", docker, re.M)[1] == re.search(r"^From: (.*)$", apptainer, re.M)[1]
    )
    copied = {
        name for line in re.findall(r"^COPY (.*) \S+$", docker, re.M) for name in line.split()
    }
    assert copied == set(re.findall(r"^    (\S+) /opt/deftx/\1$", apptainer, re.M))
    assert copied >= {*COPIED, "pyproject.toml", "constraints.txt"}
    assert all((PROJECT / name).exists() for name in copied)


def test_the_tree_names_every_package_and_stage():
    text = (PROJECT / "CONTRIBUTING.md").read_text()
    tree = text[text.index("## Where things are") :].split("```")[1].split()
    folders = [PROJECT / "deftx", PROJECT / "deftx/stages"]
    names = [f"{p.parent.name}/" for folder in folders for p in folder.glob("*/__init__.py")]
    assert [n for n in tree if n in names and tree.count(n) != names.count(n)] == []
    assert set(names) <= set(tree)


def test_no_source_line_opens_a_pickle_or_trusts_remote_code():
    forbidden = ["torch." + "save(", "pickle." + "load", "weights_only=" + "False",
                 "trust_remote_code=" + "True"]  # fmt: skip
    for path in PROJECT.glob("**/*.py"):
        if ".venv" not in path.parts:
            text = path.read_text()
            assert not any(word in text for word in forbidden), path
