"""Every stage once: its name, its artefact's path, what it reads, what it runs on. Free of torch.

The command line, the workflow, the plan and the estimate read this table. Each stage's folder has
the stage's name; its function, its rule and its results folder have it, too."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import PurePosixPath
from typing import Any, Literal, Protocol

from deftx.plan.artefact import Artefact, Inputs
from deftx.plan.graph import Graph
from deftx.stages.adapter import plan as adapter
from deftx.stages.base import plan as base
from deftx.stages.cards import plan as cards
from deftx.stages.claims import plan as claims
from deftx.stages.clean import plan as clean
from deftx.stages.compose import plan as compose
from deftx.stages.config import plan as config
from deftx.stages.convert import plan as convert
from deftx.stages.costs import plan as costs
from deftx.stages.coverage import plan as coverage
from deftx.stages.data import plan as data
from deftx.stages.denoise import plan as denoise
from deftx.stages.diagnostics import plan as diagnostics
from deftx.stages.download import plan as download
from deftx.stages.evaluate import plan as evaluate
from deftx.stages.figures import plan as figures
from deftx.stages.full import plan as full
from deftx.stages.gate import plan as gate
from deftx.stages.gated import plan as gated
from deftx.stages.lora import plan as lora
from deftx.stages.mask import plan as mask
from deftx.stages.mean import plan as mean
from deftx.stages.prior import plan as prior
from deftx.stages.sparse import plan as sparse
from deftx.stages.summary import plan as summary
from deftx.stages.tables import plan as tables
from deftx.stages.tokens import plan as tokens
from deftx.stages.trim import plan as trim
from deftx.stages.world import plan as world


class Planned(Protocol):
    """A stage's `plan.py`: what an artefact is made from."""

    def inputs(self, graph: Graph, artefact: Artefact) -> Inputs:
        """Role → artefacts that the stage reads; the roles of a stage are always the same."""

    def params(self, graph: Graph, artefact: Artefact) -> dict[str, Any]:
        """What the stage reads of the config, and nothing else: a change of it makes the artefact
        stale."""


@dataclass(frozen=True)
class Stage:
    """One stage.

    Attributes:
        name: of its folder, rule, verb, function and results folder.
        about: one line of help.
        path: its main artefact below results/{run}. `{target}` is a `Target` as text, `{rule}` the
            slug of a rank rule; `{method}` ends in `.round<i>` before the last of several rounds.
        plan: its `plan.py`.
        beside: other files in the folder of the artefact.
        missing: the message about a user's file that the artefact is made from, if it is missing.
        gpus: how many GPUs a job uses; several: `engine.devices`.
        threads: CPU threads of a job by default; 0: they are no parameter.
        page: whether people read the artefact.
    """

    name: str
    about: str
    path: str
    plan: Planned
    beside: tuple[str, ...] = ()
    missing: Callable[[Graph, Artefact], str | None] | None = None
    gpus: Literal["none", "one", "several"] = "none"
    threads: int = 0
    page: bool = False

    @property
    def manifest(self) -> bool:
        """Whether the artefact is large and has a manifest; others are text, compared by
        content."""
        return self.path.endswith((".safetensors", ".parquet"))


_SPLIT = "{dataset}/{language}/{split}"
_VECTOR = "{method}/{target}/seed{seed}"
_EVALUATION = "{system}/{task}/{language}/seed{seed}"
FIGURES = (
    "transfer",
    "differences",
    "prior",
    "overlap",
    "layers",
    "mask",
    "spectrum",
    "sweep",
    "distance",
)

# fmt: off
TABLE = (
    Stage("config", "write down a config with its defaults", "config.json", config),
    Stage("download", "download one file and check it against data.lock",
          f"download/{_SPLIT}.json", download),
    Stage("data", "read one split of one language into parquet", f"data/{_SPLIT}.parquet", data,
          missing=data.missing),
    Stage("world", "make one split of one language of the embedded world",
          f"data/{_SPLIT}.parquet", world),
    Stage("trim", "leave out the items that another dataset was made from",
          f"trim/{_SPLIT}.parquet", trim),
    Stage("clean", "clean the text of a language and remove evaluation sentences from it",
          "clean/{language}.parquet", clean, beside=("{language}.json",)),
    Stage("base", "download or pretrain the base model", "base/model.safetensors", base,
          beside=("backbone.json", "config.json", "tokenizer.json"), missing=base.missing,
          gpus="one", threads=2),
    Stage("tokens", "tokenise a text or labelled items, once for all that read them",
          "tokens/{length}/{of}.safetensors", tokens),
    Stage("full", "fine-tune all weights", "full/{target}/seed{seed}/model.safetensors", full,
          gpus="several", threads=1),
    Stage("denoise", "keep the leading singular components of the difference",
          "denoise/{rule}/{target}/seed{seed}.safetensors", denoise, gpus="one", threads=1),
    Stage("mask", "choose exactly K entries", f"mask/{_VECTOR}.safetensors", mask, threads=1),
    Stage("sparse", "re-train only the chosen entries", f"sparse/{_VECTOR}/sft_model.safetensors",
          sparse, beside=("sft_config.json",), gpus="several", threads=1),
    Stage("convert", "read a vector that others made",
          "convert/{method}/{target}/sft_model.safetensors", convert, beside=("sft_config.json",),
          missing=convert.missing),
    Stage("adapter", "train the adapters of a language or a task",
          f"adapter/{_VECTOR}.safetensors", adapter, gpus="one", threads=1),
    Stage("gate", "learn a soft mask of the linear layers", f"gate/{_VECTOR}.safetensors", gate,
          gpus="one", threads=1),
    Stage("gated", "train the weights behind a soft mask", f"gated/{_VECTOR}.safetensors", gated,
          gpus="one", threads=1),
    Stage("lora", "train a low-rank vector", f"lora/{_VECTOR}.safetensors", lora, gpus="one",
          threads=1),
    Stage("mean", "average the vectors of several seeds",
          "mean/{method}/{target}/seeds{seeds}.safetensors", mean, threads=1),
    Stage("compose", "add task and language vector", f"compose/{_EVALUATION}.safetensors", compose,
          threads=1),
    Stage("evaluate", "predict the test set of a language", f"evaluate/{_EVALUATION}.safetensors",
          evaluate, gpus="one", threads=1),
    Stage("prior", "find the bias that gives the predictions of a language a chosen mean",
          f"prior/{_EVALUATION}.safetensors", prior, gpus="one", threads=1),
    Stage("diagnostics", "compare the vectors of a system with each other",
          "diagnostics/{system}/{task}.csv", diagnostics),
    Stage("coverage", "count the pieces into which the tokenizer splits each language",
          "coverage/coverage.csv", coverage),
    Stage("tables", "make the tables of a run", "tables/transfer.csv", tables,
          beside=("scores.csv", "classes.csv", "confusions.csv", "differences.csv", "prior.csv",
                  "published.csv", "examples.json", "transfer.md", "transfer.tex",
                  "transfer.html"), page=True),
    Stage("claims", "compute the papers' claims on this run", "tables/claims.csv", claims,
          beside=("claims.md",), page=True),
    Stage("figures", "draw the figures of a run", "figures/transfer.svg", figures, page=True,
          beside=(*(f"{name}.svg" for name in FIGURES[1:]), *(f"{name}.png" for name in FIGURES))),
    Stage("costs", "add up what each system cost", "costs/systems.csv", costs,
          beside=("stages.csv", "jobs.csv", "costs.md", "cost.svg", "cost.png"), page=True),
    Stage("cards", "write the card of each vector", "cards/index.md", cards, page=True),
    Stage("summary", "make the page that sums up a run", "summary/index.html", summary, page=True),
)
# fmt: on

STAGES = {stage.name: stage for stage in TABLE}

PAGES = tuple(stage.name for stage in TABLE if stage.page)


def has_own_folder(stage: Stage) -> bool:
    """Whether the folder of an artefact holds nothing else."""
    return bool(stage.beside) and not any("{" in name for name in stage.beside)


def path_of(artefact: Artefact) -> str:
    """Where an artefact is, relative to results/{run}."""
    return STAGES[artefact.stage].path.format(**dict(artefact.wildcards))


def files_of(artefact: Artefact) -> list[str]:
    """All files of an artefact below results/{run}: itself, those beside it, its manifest."""
    stage, path = STAGES[artefact.stage], path_of(artefact)
    names = [name.format(**dict(artefact.wildcards)) for name in stage.beside]
    manifest = [f"{path}.json"] if stage.manifest else []
    return [path, *_beside(path, names), *manifest]


@cache
def artefacts_at(path: str) -> tuple[Artefact, ...]:
    """The artefacts that a path relative to results/{run} can belong to, as the artefact itself or
    a file beside it: none, one, or two since `data` and `world` write to the same place."""
    found = [(stage, pattern.fullmatch(path)) for stage, pattern in _patterns()]
    return tuple(Artefact.of(stage, **match.groupdict()) for stage, match in found if match)


@cache
def _patterns() -> list[tuple[str, re.Pattern[str]]]:
    """Stage and pattern of the path, for each file of each stage."""
    return [
        (stage.name, re.compile(re.sub(r"\\{(\w+)\\}", _wildcard, re.escape(path))))
        for stage in TABLE
        for path in (stage.path, *_beside(stage.path, stage.beside))
    ]


def _wildcard(found: re.Match[str]) -> str:
    """A target and the place of a parquet artefact may contain slashes, others may not."""
    return rf"(?P<{found[1]}>{'.+' if found[1] in ('target', 'of') else '[^/]+'})"


def _beside(path: str, names: Iterable[str]) -> list[str]:
    return [str(PurePosixPath(path).with_name(name)) for name in names]
