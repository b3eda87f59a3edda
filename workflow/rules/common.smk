"""What the rules share: the validated config, the plan, and the parts of a rule.

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
from shlex import quote

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger
from snakemake.settings.types import DeploymentMethod

from deftx.data.lock import NAME as LOCK
from deftx.plan.artefact import OWN_TEXT, Artefact
from deftx.plan.config import check_config, check_run_names
from deftx.plan.feasible import Uses
from deftx.plan.plan import Plan
from deftx.plan.record import FOLDER as RECORDS
from deftx.run.handover import VARIABLE
from deftx.run.warm import start
from deftx.run.workflow import IS_CLONE
from deftx.stages.convert.plan import file as vector_file
from deftx.stages.data.plan import others
from deftx.stages.table import FIGURES, STAGES
from deftx.store.errors import ConfigError
from deftx.store.yaml_files import read_yaml

if len(workflow.overwrite_configfiles) > 1:
    raise WorkflowError(
        "give one --configfile: it replaces config.yaml wholly, several would be merged"
    )
CONFIG_FILE = Path(
    workflow.overwrite_configfiles[0]
    if workflow.overwrite_configfiles
    else os.path.join(workflow.basedir, "config.yaml")
)
# An installed wheel may not be written to, and the user's configs are not in it.
PROJECT = Path(workflow.basedir if IS_CLONE else os.getcwd())
try:
    read_yaml(
        CONFIG_FILE
    )  # Snakemake reads it too, but keeps the last of two equal keys
    CONFIG = check_config(config, CONFIG_FILE)
    PLAN = Plan(CONFIG)
    if workflow.is_main_process:
        check_run_names(CONFIG_FILE, CONFIG, PROJECT)
        PLAN.check_base()
        if PLAN.user_files.data_folder:
            PLAN.check_files()
        elif PLAN.missing():
            logger.warning(
                "data_dir and $DEFTX_DATA are not set: the plan is made without the user's files"
            )
except ConfigError as error:
    raise WorkflowError(str(error)) from None

ROOT = PLAN.root


def escaped(text):
    """Text that Snakemake formats into itself."""
    return text.replace("{", "{{").replace("}", "}}")


ENVIRONMENT = escaped(os.path.join(workflow.basedir, "environment.yml"))

# Jobs on a cluster read the config again. One that changed meanwhile would compute with new values
# what is recorded with old ones.
CONFIG_SHA256 = hashlib.sha256(CONFIG.model_dump_json().encode()).hexdigest()
if workflow.is_main_process:
    os.environ["DEFTX_CONFIG_SHA256"] = CONFIG_SHA256


envvars:
    "DEFTX_CONFIG_SHA256",


if os.environ["DEFTX_CONFIG_SHA256"] != CONFIG_SHA256:
    raise WorkflowError(
        "the config was edited while this run was in progress; start it again"
    )

# A cluster asks every process of a job to stop, and kills what is left once its shell has ended. So
# the shell waits for the command, which then may take its time to save.
PREFIX = "set -euo pipefail; trap : TERM USR1; "
CODE = {"PYTHONPATH": str(workflow.basedir)} if IS_CLONE else {}
for name, value in CODE.items():
    PREFIX += f"export {name}={quote(value)}; "
if DeploymentMethod.CONDA in workflow.deployment_settings.deployment_method:
    if not IS_CLONE:
        raise WorkflowError(
            "--sdm conda: its environments do not contain deftx, so it needs a clone of the "
            "project, not an installed wheel"
        )
else:
    PREFIX += f'export PATH={quote(os.path.dirname(sys.executable))}:"$PATH"; '
shell.prefix(escaped(PREFIX))


ENOUGH_JOBS = 5
"""For fewer, importing everything once costs more than it saves."""


def start_jobs_warm(jobs):
    """Let this many jobs fork from a server that has imported everything, unless DEFTX_WARM is set:
    to `off`, or to a running server. Only for jobs of this machine and this Python.
    """
    if (
        VARIABLE in os.environ
        or jobs < ENOUGH_JOBS
        or workflow.deployment_settings.deployment_method
    ):
        return
    try:
        _, os.environ[VARIABLE] = start({**os.environ, **CODE})
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
    # A job or a group of jobs, on a node of a cluster. Snakemake runs no `onstart` there, and only
    # its command line lists the jobs before it has read this file.
    after = sys.argv[sys.argv.index("--target-jobs") + 1 :]
    start_jobs_warm(len(list(takewhile(lambda word: not word.startswith("-"), after))))


# The parts of a rule


def needs(stage):
    """Inputs of a rule: a list of artefacts per role, and the manifests of all of them."""

    def inputs(wildcards):
        found = PLAN.inputs(Artefact.of(stage, **dict(wildcards.items())))
        named = {
            role: [_input(part) for part in parts] for role, parts in found.items()
        }
        parts = dict.fromkeys(part for group in found.values() for part in group)
        return {
            **named,
            "manifests": [file for part in parts for file in _manifest(part)],
            "texts": [file for part in parts for file in _text(part)],
        }

    return inputs


def _input(artefact):
    path = PLAN.path(artefact)
    return ancient(path) if STAGES[artefact.stage].manifest else path


def _manifest(artefact):
    """The small file that stands for the content of a large artefact."""
    if artefact.stage == "base":
        return [f"{ROOT}/base/backbone.json"]
    return [f"{PLAN.path(artefact)}.json"] if STAGES[artefact.stage].manifest else []


def _text(artefact):
    """All files of an artefact that is text: the job compares them with their recorded sums."""
    return [] if STAGES[artefact.stage].manifest else PLAN.files_of(artefact)


def artefact(stage):
    """Path pattern of a stage's artefact."""
    return f"{ROOT}/{STAGES[stage].path}"


def beside(stage, *names):
    """Path patterns of files in the folder of a stage's artefact."""
    return [f"{os.path.dirname(artefact(stage))}/{name}" for name in names]


def made(stage):
    """Outputs of a rule: the artefact, its manifest, and the files beside it."""
    files = {"data": artefact(stage)}
    if STAGES[stage].manifest:
        files["manifest"] = artefact(stage) + ".json"
    if STAGES[stage].beside:
        files["others"] = beside(stage, *STAGES[stage].beside)
    return files


def logs(stage):
    """Log of a rule, and the record of its job. That is a log and no output: it holds times, which
    differ between two runs of a job."""
    name = os.path.splitext(STAGES[stage].path)[0]
    return {"out": f"{ROOT}/logs/{name}.log", "record": f"{ROOT}/{RECORDS}/{name}.json"}


def reads(stage):
    """What the stage reads of the config, as canonical JSON: the one parameter of its rule."""

    def params(wildcards):
        values = PLAN.params(Artefact.of(stage, **dict(wildcards.items())))
        return json.dumps(values, sort_keys=True)

    return params


def gpu_shares(stage):
    """By how many shares of a GPU the default profile counts a job of a rule, so that small jobs
    share one. On a cluster `gpu` counts, and the scheduler gives each job its own."""

    def shares(wildcards):
        return PLAN.gpu_shares(Artefact.of(stage, **dict(wildcards.items())))

    return shares


def call(stage, inputs="", params=""):
    """The command of a rule: an option for each of these inputs and params, under their names."""
    options = {"params": "params.cfg"}
    options |= {name: f"input.{name}" for name in inputs.split()}
    options |= {name: f"params.{name}" for name in params.split()}
    options |= {
        "also-reads": "input.texts",
        "record": "log.record",
        "out": "output.data",
    }
    flags = (
        f"--{name.replace('_', '-')} {{{value}:q}}" for name, value in options.items()
    )
    return f"python -m deftx {stage} {' '.join(flags)} > {{log.out:q}} 2>&1"


TITLES = {
    "transfer": "zero-shot transfer",
    "differences": "differences to the reference",
    "prior": "with and without a prior",
    "overlap": "overlap of vectors",
    "layers": "chosen entries layer by layer",
    "mask": "chosen entries by tensor",
    "spectrum": "singular values and the cut",
    "sweep": "one setting varied",
    "distance": "transfer and the language",
}
"""Figure → its name in the report."""


def in_report(figure):
    """A figure as an entry of Snakemake's report."""
    return report(
        beside("figures", f"{figure}.svg")[0],
        category="Figures",
        caption=f"../report/{figure}.rst",
        labels={"result": TITLES[figure], "kind": "figure"},
    )


# A param that takes `threads` counts as derived and triggers no rerun. So the next ones, which cannot
# change a result, are kept out of what makes a stage stale.


def user_file(wildcards, threads):
    """The file to read: one that moves is the same file, and its checksum is in `cfg`. As an
    input, its path and time would count."""
    return str(PLAN.user_files.of(Artefact.of("data", **dict(wildcards.items()))))


def other_files(wildcards, threads):
    """The files that could contradict the one that is read, for warnings."""
    return json.dumps(others(PLAN, Artefact.of("data", **dict(wildcards.items()))))


def data_lock(wildcards, threads):
    """The record of downloaded files at their first download: beside the config, if there is one
    or the config is not of this project, else in the project's folder."""
    own, ours = CONFIG_FILE.parent / LOCK, PROJECT / LOCK
    if not IS_CLONE and CONFIG_FILE.absolute().is_relative_to(workflow.basedir):
        return str(ours)
    return str(ours if not own.exists() and ours.exists() else own)


def foreign_vector(wildcards, threads):
    """The user's file of a vector that exists, unless it is on the hub."""
    found = vector_file(PLAN, Artefact.of("convert", **dict(wildcards.items())))
    return [str(found)] if found else []


def local_model(wildcards, threads):
    """The local model folder, if the base is one."""
    folder = PLAN.user_files.base_folder()
    return [str(folder)] if folder else []


def uses_of_base(wildcards, threads):
    """What is to work on the base: the job that makes it checks this before its expensive part."""
    return Uses.of(PLAN).model_dump_json()


def trackers(wildcards, threads):
    """Trackers of training."""
    return json.dumps(CONFIG.report_to)


def everything(wildcards):
    """All files of all artefacts. A function, so that a job on a node does not list them."""
    return [file for each in PLAN.artefacts for file in PLAN.files_of(each)]


def downloads(wildcards):
    """The artefacts of `download`, and the base if it is a hub model."""
    files = [PLAN.path(each) for each in PLAN.artefacts if each.stage == "download"]
    if PLAN.user_files.base_is_downloaded():
        files += _manifest(Artefact.of("base"))
    return files


wildcard_constraints:
    dataset=r"[a-z0-9][a-z0-9.-]*",
    language=r"[a-z]{3}(?:_[A-Z][a-z]{3})?",
    split=r"train|valid|test",
    target=r"(?:lang-[a-z]{3}(?:_[A-Z][a-z]{3})?(?:/base\+[a-z0-9][a-z0-9.-]*)?"
    r"|task-[a-z0-9][a-z0-9.-]*(?:/[a-z0-9][a-z0-9.-]*(?:\+[a-z0-9][a-z0-9.-]*)?)?)(?:@last\d+)?",
    rule=r"[a-z0-9.-]+",
    method=r"[a-z0-9][a-z0-9.-]*",
    system=r"[a-z0-9][a-z0-9.-]*",
    task=r"[a-z0-9][a-z0-9.-]*",
    seed=r"\d+",
    seeds=r"\d+(?:-\d+)+",
    length=r"whole|\d+",
    of=r"(?:data|trim)/[^/]+/[^/]+/[^/]+|clean/[^/]+",
