"""What the rules share: the validated config, the plan, and how a rule refers to artefacts.

A large artefact is an input twice: itself as `ancient`, so that a touched or copied file reruns
nothing, and its manifest, a small file that Snakemake compares by content. Never as `ancient` alone:
behind a job that is to run, Snakemake (9.27) looks at no parameters, and across such an edge it does
not rerun either, so a changed parameter would be missed.
"""

import hashlib
import json
import os
import sys
from itertools import takewhile
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger
from snakemake.settings.types import DeploymentMethod

from deftx.store.errors import ConfigError

from deftx.plan.config import OWN_TEXT
from deftx.plan.checks import check_config, check_run_names
from deftx.data.lock import NAME as LOCK
from deftx.plan.graph import PATTERNS, WITHOUT_MANIFEST, Artefact
from deftx.run.handover import VARIABLE
from deftx.plan.plan import Plan
from deftx.run.warm import start

if len(workflow.overwrite_configfiles) > 1:
    raise WorkflowError(
        "give one --configfile: it replaces config.yaml wholly, several would be merged"
    )
CONFIG_FILE = Path(
    workflow.overwrite_configfiles[0]
    if workflow.overwrite_configfiles
    else os.path.join(workflow.basedir, "config.yaml")
)
try:
    CONFIG = check_config(config, str(CONFIG_FILE))
    PLAN = Plan(CONFIG)
    if workflow.is_main_process:
        check_run_names(CONFIG_FILE, CONFIG, Path(workflow.basedir))
        PLAN.check_base()
        if PLAN.files.folder_is_known():
            PLAN.check_files()
        elif PLAN.files.missing(PLAN.artefacts()):
            logger.warning(
                "data_dir and $DEFTX_DATA are not set: the plan is made without the user's files"
            )
except ConfigError as error:
    raise WorkflowError(str(error)) from None

ROOT = PLAN.root
ENVIRONMENT = os.path.join(workflow.basedir, "environment.yml")

# Jobs on a cluster read the config again. One that changed meanwhile would compute with new values
# what is recorded with old ones.
CONFIG_SHA256 = hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()
if workflow.is_main_process:
    os.environ["DEFTX_CONFIG_SHA256"] = CONFIG_SHA256


envvars:
    "DEFTX_CONFIG_SHA256",


if os.environ["DEFTX_CONFIG_SHA256"] != CONFIG_SHA256:
    raise WorkflowError(
        "the config was edited while this run was in progress; start it again"
    )

# A cluster tells every process of a job to stop, and kills what is left once its shell has ended. So
# the shell waits for the command, which then may take its time to save.
PREFIX = f"set -euo pipefail; trap : TERM USR1; export PYTHONPATH={workflow.basedir}; "
if DeploymentMethod.CONDA not in workflow.deployment_settings.deployment_method:
    PREFIX += f'export PATH="{os.path.dirname(sys.executable)}:$PATH"; '
shell.prefix(PREFIX)


ENOUGH_JOBS = 5
"""For fewer, importing everything once costs more than it saves."""


def start_jobs_warm(jobs):
    """Let so many jobs fork from a server that has imported everything, unless DEFTX_WARM is set:
    to `off`, or to a server that is there. Only for jobs of this machine and this Python.
    """
    if (
        VARIABLE in os.environ
        or jobs < ENOUGH_JOBS
        or workflow.deployment_settings.deployment_method
    ):
        return
    try:
        _, os.environ[VARIABLE] = start(
            {**os.environ, "PYTHONPATH": str(workflow.basedir)}
        )
    except OSError as error:
        logger.warning(f"each job starts a new process: {error}")


onstart:
    try:
        PLAN.check_files()
    except ConfigError as error:
        raise WorkflowError(str(error)) from None
    if workflow.local_exec and not workflow.touch:
        start_jobs_warm(sum(1 for _ in workflow.dag.needrun_jobs()))


if workflow.remote_exec:
    # A job or a group of jobs, on a node of a cluster. Snakemake runs no `onstart` there, and tells
    # of the jobs on its command line alone before it has read this file.
    after = sys.argv[sys.argv.index("--target-jobs") + 1 :]
    start_jobs_warm(len(list(takewhile(lambda word: not word.startswith("-"), after))))


def needs(stage):
    """Named inputs of a rule: a list of artefacts per role, and the manifests of all of them."""

    def path(part):
        there = f"{ROOT}/{part.path}"
        return there if part.stage in WITHOUT_MANIFEST else ancient(there)

    def inputs(wildcards):
        found = PLAN.inputs(Artefact.of(stage, **dict(wildcards.items())))
        named = {role: [path(part) for part in parts] for role, parts in found.items()}
        parts = dict.fromkeys(
            part
            for group in found.values()
            for part in group
            if part.stage not in WITHOUT_MANIFEST
        )
        return {**named, "manifests": [manifest(part) for part in parts]}

    return inputs


def manifest(artefact):
    """The small file that stands for the content of an artefact."""
    if artefact.stage == "base":
        return f"{ROOT}/base/backbone.json"
    return f"{ROOT}/{artefact.path}.json"


def reads(stage):
    """What the stage reads of the config, as canonical JSON: the one parameter of its rule."""

    def params(wildcards):
        values = PLAN.params(Artefact.of(stage, **dict(wildcards.items())))
        return json.dumps(values, sort_keys=True)

    return params


# A param that takes `threads` counts as derived and triggers no rerun. So the next three, which
# cannot change a result, are kept out of what makes a stage stale.


def user_file(wildcards, threads):
    """The file to read: one that moves is the same file, and its checksum is in `cfg`. As an
    input, its path and time would count."""
    return str(PLAN.files.of(Artefact.of("data", **dict(wildcards.items()))))


def data_lock(wildcards, threads):
    """What fetched files were at their first download; it lies beside the config."""
    return str(CONFIG_FILE.parent / LOCK)


def foreign_vector(wildcards, threads):
    """The file of a vector that exists, if it is the user's and not of the hub."""
    file = PLAN.files.vector(Artefact.of("convert", **dict(wildcards.items())))
    return [str(file)] if file else []


def local_model(wildcards, threads):
    """The local model folder, if the base is one."""
    folder = PLAN.files.base_folder()
    return [str(folder)] if folder else []


def methods_in_use(wildcards, threads):
    """The methods that are to work on the base: the job that makes it tells, before the expensive
    part, which cannot."""
    rows = PLAN.methods()
    return json.dumps(
        {
            name: {kind: row.model_dump() for kind, row in kinds.items()}
            for name, kinds in rows.items()
        }
    )


def trackers(wildcards, threads):
    """What watches training."""
    return json.dumps(CONFIG.report_to)


def made(stage):
    """Path pattern of a stage's artefact."""
    return f"{ROOT}/{PATTERNS[stage]}"


def log_of(stage):
    """Path pattern of a stage's log."""
    return f"{ROOT}/logs/{os.path.splitext(PATTERNS[stage])[0]}.log"


def benchmark_of(stage):
    """Path pattern of what Snakemake measures of a job: seconds, memory, load."""
    return f"{ROOT}/benchmarks/{os.path.splitext(PATTERNS[stage])[0]}.tsv"


def cost_of(stage):
    """Path pattern of what a job of a stage says of its own cost. A log and no output: two runs of
    a job differ in it."""
    return f"{ROOT}/benchmarks/{os.path.splitext(PATTERNS[stage])[0]}.json"


def beside(stage, *names):
    """Path patterns of files in the folder of a stage's artefact."""
    return [f"{os.path.dirname(made(stage))}/{name}" for name in names]


TITLES = {
    "transfer": "zero-shot transfer",
    "differences": "differences to the reference",
    "overlap": "overlap of vectors",
    "layers": "chosen entries layer by layer",
    "mask": "where the masks lie",
    "spectrum": "singular values and the cut",
    "sweep": "one setting varied",
    "distance": "transfer and the language",
}
"""Figure → what the report calls it; transfer comes first."""

FIGURES = tuple(TITLES)


def caption(figure):
    """A report's entry for a figure."""
    return report(
        beside("figures", f"{figure}.svg"),
        category="Figures",
        caption=f"../report/{figure}.rst",
        labels={"result": TITLES[figure], "kind": "figure"},
    )


def run_folder(wildcards):
    """Below which everything of the run lies."""
    return ROOT


COMPANIONS = {
    "base": ("backbone.json", "config.json", "tokenizer.json"),
    "sparse": ("sft_config.json",),
    "convert": ("sft_config.json",),
    "tables": (
        "scores.csv",
        "classes.csv",
        "differences.csv",
        "published.csv",
        "transfer.md",
        "transfer.tex",
        "transfer.html",
    ),
    "claims": ("claims.md",),
    "figures": (
        *(f"{name}.svg" for name in FIGURES[1:]),
        *(f"{name}.png" for name in FIGURES),
    ),
    "costs": ("stages.csv", "jobs.csv", "costs.md", "cost.svg", "cost.png"),
}


def files_of(artefact):
    """All files of an artefact: itself, its manifest, and what lies beside it."""
    path = f"{ROOT}/{artefact.path}"
    names = COMPANIONS.get(artefact.stage, ())
    files = [path, *(f"{os.path.dirname(path)}/{name}" for name in names)]
    if artefact.stage == "clean":
        files.append(f"{os.path.splitext(path)[0]}.json")
    return files if artefact.stage in WITHOUT_MANIFEST else [*files, f"{path}.json"]


def everything(wildcards):
    """All files of all artefacts. A function, so that a job on a node does not list them."""
    return [file for artefact in PLAN.artefacts() for file in files_of(artefact)]


def downloads(wildcards):
    """What `download` makes, and the base if it is a hub model."""
    files = [
        f"{ROOT}/{artefact.path}"
        for artefact in PLAN.artefacts()
        if artefact.stage == "download"
    ]
    if PLAN.files.base_is_fetched():
        files.append(manifest(Artefact.of("base")))
    return files


# Made by a local rule: a job on a node has no use for the list.
CARDS = (
    [
        f"{ROOT}/{os.path.dirname(vector.path)}/README.md"
        for vector in PLAN.inputs(Artefact.of("cards"))["vectors"]
    ]
    if workflow.is_main_process
    else []
)


wildcard_constraints:
    dataset=r"[a-z0-9][a-z0-9.-]*",
    language=r"[a-z]{3}",
    split=r"train|valid|test",
    target=r"lang-[a-z]{3}(?:/base\+[a-z0-9][a-z0-9.-]*)?"
    r"|task-[a-z0-9][a-z0-9.-]*(?:/[a-z0-9][a-z0-9.-]*(?:\+[a-z0-9][a-z0-9.-]*)?)?",
    rule=r"[a-z0-9.-]+",
    method=r"[a-z0-9][a-z0-9.-]*",
    system=r"[a-z0-9][a-z0-9.-]*",
    task=r"[a-z0-9][a-z0-9.-]*",
    seed=r"\d+",
