"""The whole of `config.yaml`: one schema, and one place for defaults. Free of torch, since the
workflow reads it at each start."""

import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from deftx.engine.settings import Engine, LanguageTraining, TaskTraining
from deftx.plan.method import Kind, Method, Row, System
from deftx.stages.base.settings import BaseModelSource
from deftx.stages.clean.settings import Cleaning
from deftx.stages.data.settings import Dataset, Split
from deftx.stages.mask.settings import Budget
from deftx.stages.world.settings import World
from deftx.store.strict import Strict

LanguageKey = Annotated[str, Field(pattern=r"^[a-z]{3}$")]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")]
Threads = Annotated[int, Field(ge=1)]

NONE = "none"
BASE = "base"
"""The start of a target that starts at the base's own weights."""

ROUND = re.compile(r"\.round(\d+)$")
"""How the name of a method ends in artefacts of a round that is not its last."""

OWN_TEXT = "own-text"
"""The dataset of languages whose `text` is a path of their own."""


class Language(Strict):
    """A language that is evaluated."""

    name: str = Field(default="", description="as tables call it")
    text: str | list[str] = Field(
        description="a dataset, a path (absolute or below data_dir), or none; several are put "
        "together, which cleaning does"
    )

    @property
    def texts(self) -> list[str]:
        """The datasets and paths that its text is from; empty for none."""
        if self.text == NONE:
            return []
        return [self.text] if isinstance(self.text, str) else self.text


class Items(Strict):
    """A split of a dataset."""

    dataset: Name
    split: Split


class Source(Items):
    """Labelled data of one more language."""

    language: LanguageKey


class Task(Strict):
    """A classification with labelled data in a source language, or in several, and test sets in
    others."""

    classes: Annotated[list[str], Field(min_length=2)]
    source: LanguageKey
    train: Items
    valid: Items
    test: Items
    more_sources: list[Source] = Field(
        default_factory=list,
        description="further labelled languages to train on, each under its own vector of "
        "task_start; the source validates",
    )
    languages: list[LanguageKey] | None = Field(
        default=None,
        description="where it is evaluated; default: every language; an empty list leaves it out",
    )
    systems: list[Name] | None = Field(
        default=None, description="which are evaluated on it; default: every system"
    )
    training: TaskTraining = TaskTraining()

    @property
    def sources(self) -> list[str]:
        """The languages with labelled data, `source` first."""
        return [self.source, *(more.language for more in self.more_sources)]


class Budgets(Strict):
    """K, for methods that say nothing of their own. The defaults are the papers' for XLM-R base,
    as parts of its 277,414,656 maskable entries."""

    task: Budget = "14155776/277414656"
    language: Budget = "7667712/277414656"


class StageThreads(Strict):
    """CPU threads of one job of each stage. They are part of the parameters: other numbers of
    threads sum in another order, and change bits."""

    base: Threads = 2
    full: Threads = 1
    denoise: Threads = 1
    mask: Threads = 1
    sparse: Threads = 1
    adapter: Threads = 1
    gate: Threads = 1
    gated: Threads = 1
    lora: Threads = 1
    compose: Threads = 1
    evaluate: Threads = 1


class Config(Strict):
    """What to run."""

    run: Name = Field(description="name of the folder below results/")
    data_dir: str | None = Field(
        default=None, description="where relative paths start; default: $DEFTX_DATA"
    )
    seeds: list[Annotated[int, Field(ge=0)]] = Field(default=[0], min_length=1)
    base: BaseModelSource
    world: World | None = Field(default=None, description="the embedded world of the demo")
    datasets: dict[Name, Dataset]
    cleaning: Cleaning | None = Field(
        default=None, description="of the text of every language; default: it is taken as it is"
    )
    languages: Annotated[dict[LanguageKey, Language], Field(min_length=1)]
    tasks: Annotated[dict[Name, Task], Field(min_length=1)]
    task_start: Name = Field(
        default=BASE,
        description="where tasks start: base, or the method whose vector of the source language is "
        "added first",
    )
    language_training: LanguageTraining = LanguageTraining()
    budget: Budgets = Budgets()
    methods: Annotated[dict[Name, Method], Field(min_length=1)]
    systems: Annotated[dict[Name, System], Field(min_length=1)]
    reference: Name | None = Field(
        default=None,
        description="the system that each other one is compared with in each language; default: "
        "lt-sft if there is one, else the first",
    )
    groups: dict[Name, Annotated[list[LanguageKey], Field(min_length=1)]] = Field(
        default_factory=dict,
        description="sets of languages with a mean of their own, shown for each task that is "
        "evaluated in all of them",
    )
    engine: Engine = Engine()
    report_to: list[str] = Field(
        default_factory=list,
        description="trackers of training as transformers names them, such as wandb or tensorboard",
    )
    threads: StageThreads = StageThreads()

    def row(self, method: str, kind: Kind) -> Row:
        """A method for one kind of target, its budget filled in."""
        row = self.methods[method].row(kind)
        if row.lora is not None:
            has_budget = row.lora.rank is None
        else:
            has_budget = row.chooses and row.selection.score != "none"
        if not has_budget or row.selection.budget is not None:
            return row
        budget = getattr(self.budget, kind)
        selection = row.selection.model_copy(update={"budget": budget})
        return row.model_copy(update={"selection": selection})

    def task_languages(self, task: str) -> list[str]:
        """The languages in which a task is evaluated."""
        languages = self.tasks[task].languages
        return list(self.languages) if languages is None else languages

    def task_systems(self, task: str) -> list[str]:
        """The systems that are evaluated on a task, in the order of `systems`."""
        wanted = self.tasks[task].systems
        return [name for name in self.systems if wanted is None or name in wanted]

    @property
    def evaluated_systems(self) -> list[str]:
        """The systems that are evaluated on any task, in the order of `systems`."""
        tasks = filter(self.task_languages, self.tasks)
        used = {system for task in tasks for system in self.task_systems(task)}
        return [name for name in self.systems if name in used]

    @property
    def compared_with(self) -> str:
        """The system that the others are compared with."""
        known = self.evaluated_systems or list(self.systems)
        return self.reference or ("lt-sft" if "lt-sft" in known else known[0])

    def has_text(self, language: str) -> bool:
        """Whether a language vector can be made for it."""
        return language in self.languages and bool(self.languages[language].texts)

    def has_vector(self, method: str, language: str) -> bool:
        """Whether a method has a vector of a language: it can be made, or exists already."""
        if self.methods[method].vector is None:
            return self.has_text(language)
        foreign = self.row(method, "language").vector
        return foreign is not None and foreign.has(language)

    @property
    def without_vector(self) -> list[str]:
        """The languages that are evaluated without a vector by every system, for lack of text."""
        methods = {self.systems[name].language for name in self.evaluated_systems} - {NONE}
        return [
            key
            for key in self.languages
            if not self.has_text(key) and not any(self.has_vector(m, key) for m in methods)
        ]


def is_path(text: str) -> bool:
    """Whether the `text` of a language is a path and not the name of a dataset."""
    return "/" in text or Path(text.removesuffix(".xz").removesuffix(".gz")).suffix in (
        ".txt",
        ".csv",
        ".tsv",
        ".jsonl",
        ".parquet",
    )


def json_schema() -> dict[str, Any]:
    """The JSON Schema of the config, for editors and for `workflow/schemas/config.schema.json`."""
    schema = Config.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
