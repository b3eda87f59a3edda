"""The house: files that must agree with each other do."""

import re
import tomllib

import yaml
import yte
from conftest import PROJECT
from workspace import COPIED

from deftx.plan.graph import PATTERNS
from deftx.stages.table import STAGES

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
    modules = {path.stem for path in (PROJECT / "deftx/stages").glob("*.py")} - {"__init__"}
    assert rules == modules == set(STAGES) == set(PATTERNS)
    for stage in STAGES:
        text = (PROJECT / f"deftx/stages/{stage}.py").read_text()
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
    assert own.keys() <= set(PATTERNS)
    assert made["default-resources"] == {
        "slurm_account": "mine",
        "slurm_partition": "cpu",
        "mem_mb": "attempt * 8000",
        "runtime": "attempt * 30",
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
