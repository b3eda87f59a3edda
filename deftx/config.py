"""The whole of `config.yaml`: one schema, and one place for defaults. Free of torch, since the
workflow reads it at each start."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from deftx.settings.base import BaseModelSource
from deftx.settings.data import Dataset, Split
from deftx.settings.engine import Engine
from deftx.settings.method import Budget, Kind, Method, Row, System
from deftx.settings.strict import Strict
from deftx.settings.training import LanguageTraining, TaskTraining
from deftx.settings.world import World

LanguageKey = Annotated[str, Field(pattern=r"^[a-z]{3}$")]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")]
Threads = Annotated[int, Field(ge=1)]

NONE = "none"
OWN_TEXT = "own-text"
"""The dataset of languages whose `text` is a path of their own."""


class ConfigError(Exception):
    """The config cannot be run; the message names each key, what it is and what was expected."""


class Language(Strict):
    """A language that is evaluated."""

    name: str = Field(default="", description="as tables call it")
    text: str = Field(description="a dataset, a path (absolute or below data_dir), or none")


class Items(Strict):
    """A split of a dataset."""

    dataset: Name
    split: Split


class Task(Strict):
    """A classification with labelled data in one source language and test sets in others."""

    classes: Annotated[list[str], Field(min_length=2)]
    source: LanguageKey
    train: Items
    valid: Items
    test: Items
    languages: list[LanguageKey] | None = Field(
        default=None,
        description="where it is evaluated; default: every language; an empty list leaves it out",
    )
    training: TaskTraining = TaskTraining()


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
    languages: Annotated[dict[LanguageKey, Language], Field(min_length=1)]
    tasks: Annotated[dict[Name, Task], Field(min_length=1)]
    task_start: Name = Field(
        default="base",
        description="where tasks start: base, or the method whose vector of the source language is "
        "added first",
    )
    language_training: LanguageTraining = LanguageTraining()
    budget: Budgets = Budgets()
    methods: Annotated[dict[Name, Method], Field(min_length=1)]
    systems: Annotated[dict[Name, System], Field(min_length=1)]
    engine: Engine = Engine()
    report_to: list[str] = Field(
        default_factory=list,
        description="trackers of training as transformers names them, such as wandb or tensorboard",
    )
    threads: StageThreads = StageThreads()

    def row(self, method: str, kind: Kind) -> Row:
        """A method for one kind of target, its budget filled in."""
        row = self.methods[method].row(kind)
        if row.selection.score == "none" or row.dense or row.selection.budget is not None:
            return row
        budget = getattr(self.budget, kind)
        selection = row.selection.model_copy(update={"budget": budget})
        return row.model_copy(update={"selection": selection})

    def task_languages(self, task: str) -> list[str]:
        """The languages in which a task is evaluated."""
        languages = self.tasks[task].languages
        return list(self.languages) if languages is None else languages

    def has_text(self, language: str) -> bool:
        """Whether a language vector can be made for it."""
        return language in self.languages and self.languages[language].text != NONE


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
