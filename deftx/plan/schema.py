"""What a config may contain. Free of torch."""

from collections.abc import Callable, Iterator
from typing import Annotated, Any, get_args

from pydantic import Field, model_serializer, model_validator

from deftx.engine.settings import Engine, LanguageTraining
from deftx.plan.artefact import BASE, NONE
from deftx.plan.method import KINDS, Kind, Row
from deftx.plan.task import Items, LanguageKey, Name
from deftx.stages.base.settings import BaseModelSource
from deftx.stages.clean.settings import Cleaning
from deftx.stages.compose.settings import Combine, Depth
from deftx.stages.data.settings import Dataset, Format, format_of
from deftx.stages.mask.settings import Budget
from deftx.stages.methods import AnyRow
from deftx.stages.world.settings import World
from deftx.store.strict import Strict, absent
from deftx.tasks.table import AnyTask

PER_KIND = (
    "denoise",
    "shares",
    "keep_lower",
    "budget",
    "learning_rate",
    "average",
    "average_full",
    "vector",
)
"""Settings of a method that may be given for each kind of target: `{task: …, language: …}`."""


class Method(Strict):
    """A method as the config writes it: one row for both kinds of target, in which a setting of
    `PER_KIND` may have two values."""

    task: AnyRow
    language: AnyRow

    @model_validator(mode="before")
    @classmethod
    def _one_row_each(cls, value: Any) -> Any:
        if not isinstance(value, dict) or _is_per_kind(value):
            return value
        rows: dict[str, dict[str, Any]] = {kind: {} for kind in KINDS}
        for name, given in value.items():
            each = (
                given if name in PER_KIND and _is_per_kind(given) else dict.fromkeys(KINDS, given)
            )
            for kind in KINDS:
                # Without a vector for one kind, a method does not become a trained one.
                if kind in each or name == "vector":
                    rows[kind][name] = each.get(kind)
        return rows

    @model_serializer(mode="wrap")
    def _as_written(self, handler: Callable[[Any], dict[str, dict[str, Any]]]) -> dict[str, Any]:
        """One row, in which a setting has two values where the two rows differ."""
        rows = handler(self)
        task, language = rows["task"], rows["language"]
        return {
            name: task.get(name)
            if language.get(name) == task.get(name)
            else {"task": task.get(name), "language": language.get(name)}
            for name in task | language
        }

    def row(self, kind: Kind) -> Row:
        """The row for one kind of target."""
        return self.task if kind == "task" else self.language


def _is_per_kind(value: Any) -> bool:
    return isinstance(value, dict) and bool(value) and value.keys() <= {*KINDS}


class Language(Strict):
    """A language that is evaluated."""

    name: str = Field(default="", description="its name in tables")
    text: str | list[str] = Field(
        description="a dataset, a path (absolute or below data_dir), or none; several are put "
        "together by cleaning"
    )

    @property
    def texts(self) -> list[str]:
        """The datasets and paths of its text; empty for none."""
        if self.text == NONE:
            return []
        return [self.text] if isinstance(self.text, str) else self.text


class Budgets(Strict):
    """K of methods that give no budget. The defaults are the papers' for XLM-R base, as ratios of
    its 277,414,656 maskable entries."""

    task: Budget = "14155776/277414656"
    language: Budget = "7667712/277414656"

    def of(self, kind: Kind) -> Budget:
        """The budget for one kind of target."""
        return self.task if kind == "task" else self.language


Seeds = Annotated[
    Annotated[list[int], Field(min_length=2)] | None,
    Field(
        description="the vector is the mean of those that are trained with these seeds of the run",
        exclude_if=absent,
    ),
]


class System(Strict):
    """A pair: a method for the task vector and one for the language vectors."""

    task: str = Field(description="method of the task vector")
    language: str = Field(
        default="", description="method of the language vectors, or none; default: that of the task"
    )
    task_seeds: Seeds = None
    language_seeds: Seeds = None
    task_scale: float = 1.0
    language_scale: float = 1.0
    task_depth: Depth | None = Field(
        default=None, exclude_if=absent, description="scales of the task's vector by depth"
    )
    language_depth: Depth | None = Field(
        default=None, exclude_if=absent, description="scales of the language's vector by depth"
    )
    combine: Combine | None = Field(
        default=None, description="how the two become one; default: their sum"
    )
    task_start: str | None = Field(
        default=None, description="where its task vector starts, instead of the run's task_start"
    )

    def depth(self, kind: Kind) -> Depth | None:
        """How the vector of one kind of target is scaled by depth."""
        return self.task_depth if kind == "task" else self.language_depth

    @model_validator(mode="before")
    @classmethod
    def _same_for_both(cls, value: Any) -> Any:
        if isinstance(value, dict) and "task" in value and "language" not in value:
            return {**value, "language": value["task"]}
        return value


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
    tasks: Annotated[dict[Name, AnyTask], Field(min_length=1)]
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
        description="trackers of training as accelerate names them, such as wandb or tensorboard",
    )
    threads: dict[str, Annotated[int, Field(ge=1, le=1024)]] = Field(
        default_factory=dict,
        description="stage → CPU threads of a job. They are part of the parameters: another "
        "number of threads sums in another order, and changes bits",
    )

    def row(self, method: str, kind: Kind) -> Row:
        """A method for one kind of target, its budget filled in."""
        return self.methods[method].row(kind).with_budget(self.budget.of(kind))

    def task_languages(self, task: str) -> list[str]:
        """The languages in which a task is evaluated."""
        languages = self.tasks[task].languages
        return list(self.languages) if languages is None else languages

    def model_languages(self, task: str) -> list[str]:
        """The languages for which a model of a task is made, evaluated or not."""
        return list(dict.fromkeys([*self.task_languages(task), *self.tasks[task].models_for]))

    def task_items(self, task: str) -> Iterator[tuple[str, Items, list[str]]]:
        """The labelled data of a task: a key below `tasks.{task}`, a split, and its languages; and
        the items of its prior, whose labels are not read, as `prior.items`."""
        found = self.tasks[task]
        yield "train", found.train, [found.source]
        yield "valid", found.valid, [found.source]
        yield "test", found.test, self.task_languages(task)
        for number, more in enumerate(found.more_sources):
            yield f"more_sources.{number}", more, [more.language]
        if found.prior is not None:
            more_languages = [found.source] if found.prior.target == "source" else []
            languages = [*self.prior_languages(task), *more_languages]
            yield "prior.items", found.prior.items, list(dict.fromkeys(languages))

    def prior_languages(self, task: str) -> list[str]:
        """The languages in which the systems are also shown with a prior."""
        prior = self.tasks[task].prior
        if prior is None:
            return []
        return self.task_languages(task) if prior.languages is None else prior.languages

    def task_systems(self, task: str) -> list[str]:
        """The systems that are evaluated on a task, in the order of `systems`."""
        wanted = self.tasks[task].systems
        return [name for name in self.systems if wanted is None or name in wanted]

    def system_seeds(self, system: str) -> list[int]:
        """The seeds with which a system is evaluated: all, or the first one alone if its vectors
        are means over seeds, or vectors without a seed."""
        found = self.systems[system]
        sides: tuple[tuple[Kind, str, list[int] | None], ...] = (
            ("task", found.task, found.task_seeds),
            ("language", found.language, found.language_seeds),
        )
        varies = any(
            seeds is None and method != NONE and self.methods[method].row(kind).is_trained
            for kind, method, seeds in sides
        )
        averages = found.task_seeds or found.language_seeds
        return self.seeds[:1] if averages and not varies else self.seeds

    @property
    def starts(self) -> dict[str, str]:
        """Key of the config → where tasks start."""
        own = {f"systems.{name}.task_start": s.task_start for name, s in self.systems.items()}
        return {key: at for key, at in {"task_start": self.task_start, **own}.items() if at}

    @property
    def evaluated_tasks(self) -> list[str]:
        """The tasks that are evaluated in some language."""
        return [task for task in self.tasks if self.task_languages(task)]

    @property
    def made_tasks(self) -> list[str]:
        """The tasks of which a model is made for some language, evaluated or not."""
        return [task for task in self.tasks if self.model_languages(task)]

    @property
    def evaluated_systems(self) -> list[str]:
        """The systems that are evaluated on any task, in the order of `systems`."""
        used = {system for task in self.evaluated_tasks for system in self.task_systems(task)}
        return [name for name in self.systems if name in used]

    @property
    def language_names(self) -> dict[str, str]:
        """The name of each language in tables, or its key."""
        return {key: language.name or key for key, language in self.languages.items()}

    @property
    def compared_with(self) -> str:
        """The system that the others are compared with."""
        known = self.evaluated_systems or list(self.systems)
        return self.reference or ("lt-sft" if "lt-sft" in known else known[0])

    def has_text(self, language: str) -> bool:
        """Whether a language vector can be trained for it."""
        return language in self.languages and bool(self.languages[language].texts)

    def has_vector(self, method: str, language: str) -> bool:
        """Whether a method has a vector of a language: it can be trained, or exists already."""
        row = self.row(method, "language")
        return self.has_text(language) if row.is_trained else row.has_vector_of(language)

    @property
    def without_vector(self) -> list[str]:
        """The languages that every system evaluates without a vector, for lack of text."""
        methods = {self.systems[name].language for name in self.evaluated_systems} - {NONE}
        return [
            key
            for key in self.languages
            if not self.has_text(key) and not any(self.has_vector(m, key) for m in methods)
        ]


def is_path(text: str) -> bool:
    """Whether the `text` of a language is a path and not the name of a dataset."""
    return "/" in text or format_of(text) in get_args(Format)
