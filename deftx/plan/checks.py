"""Checks of a config that need no data: names that must exist, and combinations that cannot work.
Free of torch."""

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import get_args

from deftx.engine.settings import Training
from deftx.plan.artefact import BASE, NONE, OWN_TEXT, ROUND
from deftx.plan.method import KINDS, Kind, unknown
from deftx.plan.schema import Config, System, is_path
from deftx.plan.task import Task
from deftx.plan.user_files import UserFiles
from deftx.stages.data.settings import WORD_A_LINE, Split, format_of
from deftx.stages.denoise.settings import RankRule
from deftx.stages.methods import ROWS
from deftx.stages.table import TABLE
from deftx.store.errors import InputError


def problems(config: Config) -> Iterator[str]:
    """What no single key shows, a line each."""
    yield from _languages(config)
    yield from _without_nearest(config)
    yield from _tasks(config)
    yield from _starts(config)
    for row in ROWS:
        yield from row.problems(config)
    yield from _same_languages(config)
    yield from _methods(config)
    yield from _systems(config)
    if pretrain := config.base.pretrain:
        yield from _dataset(
            config, "base.pretrain.text", pretrain.text, pretrain.languages, "train"
        )
    yield from _patterns(config)
    yield from _downloads(config)
    with_threads = [stage.name for stage in TABLE if stage.threads]
    for stage in config.threads:
        if stage not in with_threads:
            yield unknown("threads", stage, with_threads, "stage with threads")
    yield from _twice("seeds", [str(seed) for seed in config.seeds], "seed")


def _twice(key: str, names: list[str], what: str) -> Iterator[str]:
    if len(set(names)) != len(names):
        yield f"{key}: {', '.join(names)} has a {what} twice"


def _languages(config: Config) -> Iterator[str]:
    """The text of each language, and whether several texts of one can be put together."""
    if OWN_TEXT in config.datasets:
        yield f"datasets.{OWN_TEXT}: this name is kept for languages whose text is a path"
    for key, language in config.languages.items():
        where = f"languages.{key}.text"
        if isinstance(texts := language.text, list):
            if not texts:
                yield f"{where}: an empty list; without text it is `none`"
            if NONE in texts:
                yield f"{where}: none stands alone, given: {', '.join(texts)}"
            yield from _twice(where, texts, "text")
            if sum(map(is_path, texts)) > 1:
                yield (
                    f"{where}: one path at most; make the others datasets, "
                    f"given: {', '.join(texts)}"
                )
            if len(texts) > 1 and config.cleaning is None:
                yield (
                    f"{where}: several texts are put together by cleaning: add a `cleaning` section"
                )
        for text in language.texts:
            if text != NONE and not is_path(text):
                yield from _dataset(config, where, text, [key], "train")
            if is_path(text) and format_of(text) in WORD_A_LINE:
                yield f"{where}: {text} has words with tags, expected text"


def _without_nearest(config: Config) -> Iterator[str]:
    """The other dataset from which a dataset's items were made."""
    for name, dataset in config.datasets.items():
        if (other := dataset.without_nearest) is None:
            continue
        key = f"datasets.{name}.without_nearest"
        found = config.datasets.get(other.dataset)
        if found is None or other.dataset == name:
            others = [known for known in config.datasets if known != name]
            yield unknown(f"{key}.dataset", other.dataset, others, "other dataset")
        elif found.without_nearest:
            yield f"{key}.dataset: {other.dataset} leaves items out itself"
        elif found.world:
            yield f"{key}.dataset: {other.dataset} is of the world, which was made from no other"
        yield from _twice(f"{key}.among", [*other.among], "split")


def _dataset(
    config: Config,
    key: str,
    name: str,
    languages: list[str],
    split: str,
    task: Task | None = None,
    labelled: bool = True,
) -> Iterator[str]:
    """Whether a dataset exists, can have this split of these languages, and has what a task needs,
    perhaps without labels, or text if it is for no task."""
    dataset = config.datasets.get(name)
    if dataset is None:
        yield unknown(key, name, config.datasets, "dataset")
        return
    needed, worlds = (task.roles, task.of_the_world) if task else (("text",), {"text": ()})
    if dataset.world and dataset.world not in worlds:
        yield f"{key}: dataset {name} of the world is {dataset.world}, which does not fit here"
    if not labelled:
        needed = needed[:1]
    lacking = [f"columns.{role}" for role in needed if role not in dataset.roles]
    if lacking and not dataset.world:
        what = f"a task of kind {task.kind}" if task else "text"
        yield f"{key}: dataset {name} has no {' and no '.join(lacking)}, as {what} needs"
    if dataset.without_nearest and split not in dataset.without_nearest.among:
        yield (
            f"datasets.{name}.without_nearest.among: no {split}, which {key} needs; "
            f"it has {', '.join(dataset.without_nearest.among)}"
        )
    if dataset.world and config.world is None:
        yield f"datasets.{name}.world: there is no `world` section"
    elif dataset.world and config.world:
        if split not in dataset.items:
            yield f"datasets.{name}.items: no number for the split {split}, which {key} needs"
        for language in languages:
            if language not in config.world.languages:
                yield unknown("world.languages", language, config.world.languages, "language")


def _patterns(config: Config) -> Iterator[str]:
    """One file must not stand for several languages, nor for training and test data."""
    uses: dict[str, set[tuple[str, str]]] = {}
    for key, language in config.languages.items():
        for text in language.texts:
            uses.setdefault(text, set()).add((key, "train"))
    for task in config.tasks:
        for _, items, languages in config.task_items(task):
            uses.setdefault(items.dataset, set()).update((key, items.split) for key in languages)
    for dataset in config.datasets.values():
        if other := dataset.without_nearest:
            uses.setdefault(other.dataset, set()).add((other.language, other.split))
    for name, dataset in config.datasets.items():
        used, hub = uses.get(name, set()), dataset.hub
        if used and (other := dataset.without_nearest):
            used |= {(key, split) for key, _ in used for split in other.among}
        for number, part in enumerate(("language", "split")):
            found = sorted({use[number] for use in used})
            for key, pattern in {
                "files": dataset.files,
                "url": dataset.url,
                "hub.file": hub and hub.file,
                "hub.config and hub.split": hub and hub.config and f"{hub.config}/{hub.split}",
            }.items():
                if pattern and len(found) > 1 and f"{{{part}}}" not in pattern:
                    yield (
                        f"datasets.{name}.{key}: {pattern!r} has no {{{part}}}, but is read for "
                        f"{', '.join(found)}"
                    )


def _downloads(config: Config) -> Iterator[str]:
    """What is downloaded is written below data_dir, whatever the names in its path are."""
    files = UserFiles(config)
    folder = Path.cwd() / files.locate("")

    def leads_out(path: str) -> bool:
        inside = (Path.cwd() / files.locate(path)).is_relative_to(folder)
        return ".." in Path(path).parts or not inside

    for name, dataset in config.datasets.items():
        hub = dataset.hub and dataset.hub.file
        for key, pattern in (("files", dataset.files), ("hub.file", hub)):
            if not dataset.remote or not pattern:
                continue
            blamed = key if leads_out(pattern) else "aliases or splits"
            for language, split in product(
                {**config.languages, **dataset.aliases}, get_args(Split)
            ):
                path = dataset.fill(pattern, language, split)
                if leads_out(path):
                    yield (
                        f"datasets.{name}.{blamed}: {path!r} ({split} of {language}) leads out of "
                        f"{folder}, the data_dir, below which downloads are written"
                    )
                    break


def _tasks(config: Config) -> Iterator[str]:
    """Classes, systems, languages and datasets of each task."""
    for name, task in config.tasks.items():
        yield from _twice(f"tasks.{name}.classes", task.classes, "class")
        for system in task.systems or []:
            if system not in config.systems:
                yield unknown(f"tasks.{name}.systems", system, config.systems, "system")
        if task.systems == []:
            yield f"tasks.{name}.systems: empty; leave the task out with languages: []"
        yield from _twice(f"tasks.{name}.more_sources", task.sources, "language")
        for key, languages in (
            ("languages", config.task_languages(name)),
            ("models_for", task.models_for),
        ):
            for language in languages:
                if language not in config.languages:
                    yield unknown(f"tasks.{name}.{key}", language, config.languages, "language")
        trained = {(task.train.dataset, task.train.split, task.source)}
        trained |= {(more.dataset, more.split, more.language) for more in task.more_sources}
        for language in config.task_languages(name):
            if (task.test.dataset, task.test.split, language) in trained:
                yield f"tasks.{name}.test: {language} would be tested on what it is trained on"
        for part, items, languages in config.task_items(name):
            key = f"tasks.{name}.{part}.dataset"
            dataset = config.datasets.get(items.dataset)
            labelled = part != "prior.items" or bool(dataset and dataset.world)
            yield from _dataset(config, key, items.dataset, languages, items.split, task, labelled)
            if not labelled:
                continue
            known = dataset and task.of_the_world.get(dataset.world or "")
            if known and sorted(known) != sorted(task.classes):
                yield (
                    f"tasks.{name}.classes: {', '.join(map(repr, task.classes))}; those of "
                    f"{items.dataset} are {', '.join(map(repr, known))}"
                )
            if dataset and dataset.labels:
                for label in sorted({*task.strange(dataset.labels)}):
                    yield (
                        f"datasets.{items.dataset}.labels: maps to {label!r}, which is none of "
                        f"tasks.{name}.classes: {', '.join(task.classes)}"
                    )
        yield from _prior(config, name)
    if not config.made_tasks:
        yield "tasks: every task has an empty list of languages: there is nothing to evaluate"


def _prior(config: Config, name: str) -> Iterator[str]:
    """The items of a task's prior: of some of its languages, not those of its test, and chosen and
    read without labels."""
    task, key = config.tasks[name], f"tasks.{name}.prior"
    if task.prior is None:
        return
    items, languages = task.prior.items, config.prior_languages(name)
    if not languages and config.task_languages(name):
        yield f"{key}.languages: empty; leave out `prior` if no language has such items"
    for language in languages:
        if language not in (evaluated := config.task_languages(name)):
            yield unknown(f"{key}.languages", language, evaluated, "language of the task")
    mine, test = config.datasets.get(items.dataset), config.datasets.get(task.test.dataset)
    if mine is None or test is None:
        return
    same = (items.dataset, items.split) == (task.test.dataset, task.test.split)
    if mine.files and test.files and not same:
        same = any(
            mine.fill(mine.files, language, items.split)
            == test.fill(test.files, language, task.test.split)
            for language in languages
        )
    if same:
        yield (
            f"{key}.items: {items.split} of {items.dataset} is what the task is tested on; a prior "
            "from test items would be another setting (transductive)"
        )
    if (mine.columns.text_pair is None) != (test.columns.text_pair is None):
        yield (
            f"{key}.items: one of {items.dataset} and {task.test.dataset} has pairs of texts "
            "(columns.text_pair), the other has not"
        )
    if None in (mine.labels or {}).values():
        yield (
            f"{key}.items: datasets.{items.dataset}.labels leaves items out by their label, but a "
            "prior is to know no label; name a dataset without `labels`"
        )


def _starts(config: Config) -> Iterator[str]:
    """Where tasks start: at the base, or at a sparse vector that every source language has."""
    for key, start in config.starts.items():
        if start == BASE:
            continue
        if start not in config.methods:
            yield unknown(key, start, [*config.methods, BASE], "method")
            continue
        if not config.row(start, "language").is_sparse:
            yield f"{key}: {start} does not make sparse vectors; one is needed"
        for task in config.made_tasks:
            source = config.tasks[task].source
            if not config.has_vector(start, source):
                yield (
                    f"{key}: {start} needs a vector of {source}, the source of tasks.{task}: "
                    f"give languages.{source}.text"
                )


def _methods(config: Config) -> Iterator[str]:
    """Names of methods, and rank rules that share a folder."""
    rules: dict[tuple[Kind, str], tuple[str, RankRule]] = {}
    for name, method in config.methods.items():
        if ROUND.search(name):
            yield f"methods.{name}: names that end in .round and a number are reserved for rounds"
        for kind in KINDS:
            row = method.row(kind)
            yield from _averages(config, name, kind)
            if (rule := row.rank_rule) is None:
                continue
            other, known = rules.setdefault((kind, rule.slug()), (name, rule))
            if known != rule:
                yield (
                    f"methods.{name}.denoise: {other} has the same rule with another "
                    "allow_full_rank; one artefact cannot serve both"
                )


def _averages(config: Config, method: str, kind: Kind) -> Iterator[str]:
    """Whether as many states are evaluated as a method averages."""
    row = config.methods[method].row(kind)
    trainings: dict[str, Training] = {"language_training": config.language_training}
    if kind == "task":
        trainings = {f"tasks.{name}.training": task.training for name, task in config.tasks.items()}
    for key, training in trainings.items():
        for average in dict.fromkeys((row.average, row.full_average)):
            try:
                training.check_average(average)
            except InputError as error:
                yield f"methods.{method} with {key}: {error}"


def _same_languages(config: Config) -> Iterator[str]:
    """Every system that adds language vectors has one of a language, or none has: means are over
    the same languages for all."""
    for task in config.tasks:
        adding = {
            name: config.systems[name].language
            for name in config.task_systems(task)
            if config.systems[name].language in config.methods
        }
        for language in config.task_languages(task):
            has = {name: config.has_vector(method, language) for name, method in adding.items()}
            if len(set(has.values())) < 2:
                continue
            one, other = (next(n for n, found in has.items() if found is f) for f in (True, False))
            yield (
                f"languages.{language}: systems.{one} has a vector of it, systems.{other} has none "
                f"({adding[other]} needs languages.{language}.text, or an alias that is not none); "
                f"evaluate them on other languages, or apart by tasks.{task}.systems"
            )


def _systems(config: Config) -> Iterator[str]:
    """Systems, the reference among them, and groups of languages."""
    for name, system in config.systems.items():
        if system.task not in config.methods:
            yield unknown(f"systems.{name}.task", system.task, config.methods, "method")
        elif system.language not in (known := [*config.methods, NONE]):
            yield unknown(f"systems.{name}.language", system.language, known, "method")
        else:
            yield from _pair(config, name, system)
    if config.reference is not None and config.reference not in config.systems:
        yield unknown("reference", config.reference, config.systems, "system")
    elif config.compared_with not in (config.evaluated_systems or config.systems):
        yield f"reference: {config.reference} is evaluated on no task"
    for name, languages in config.groups.items():
        for language in languages:
            if language not in config.languages:
                yield unknown(f"groups.{name}", language, config.languages, "language")


def _pair(config: Config, name: str, system: System) -> Iterator[str]:
    """Whether the two methods of a system, and the tasks, go together."""
    row = config.row(system.task, "task")
    language = None if system.language == NONE else config.row(system.language, "language")
    key = f"systems.{name}"
    if language is not None and row.is_stacked != language.is_stacked:
        yield (
            f"{key}: {system.task} and {system.language}: adapters go with adapters only, and "
            "differences of weights with differences"
        )
    if row.is_stacked:
        if language is not None and system.language != system.task:
            yield f"{key}.language: adapters of {system.task} are stacked on its own, or on none"
        scales = (system.task_scale, system.language_scale)
        for setting, is_given in (
            ("combine", system.combine is not None),
            ("task_start", system.task_start is not None),
            ("task_scale or language_scale", scales != (1.0, 1.0)),
            ("task_depth", system.task_depth is not None),
            ("language_depth", system.language_depth is not None),
        ):
            if is_given:
                yield f"{key}: {setting} has no effect on adapters"
    if system.combine is not None and language is None:
        yield f"{key}.combine: needs a method for the language vectors"
    if system.language_depth is not None and language is None:
        yield f"{key}.language_depth: needs a method for the language vectors, but language is none"
    yield from _means_over_seeds(config, name, system)
    for task in config.made_tasks:
        several = config.tasks[task].more_sources and name in config.task_systems(task)
        if several and row.is_trained and not row.takes_several_sources:
            yield (
                f"{key}: {system.task} cannot train on several sources, as "
                f"tasks.{task}.more_sources asks; list those that can in tasks.{task}.systems"
            )


def _means_over_seeds(config: Config, name: str, system: System) -> Iterator[str]:
    """Whether the vectors of a system can be averaged over the seeds that it names."""
    for kind, method, seeds in (
        ("task", system.task, system.task_seeds),
        ("language", system.language, system.language_seeds),
    ):
        if seeds is None:
            continue
        key = f"systems.{name}.{kind}_seeds"
        yield from _twice(key, [str(seed) for seed in seeds], "seed")
        for seed in seeds:
            if seed not in config.seeds:
                yield f"{key}: {seed} is not among the run's seeds: {config.seeds}"
        if method == NONE:
            yield f"{key}: needs a method for the language vectors"
            continue
        row = config.methods[method].task if kind == "task" else config.methods[method].language
        if not row.is_trained:
            yield f"{key}: the vectors of {method} exist already and have no seed"
        elif row.is_stacked:
            yield f"{key}: {method} makes adapters, which begin differently with each seed"
        for task in config.made_tasks if kind == "task" else ():
            drawn = config.tasks[task].training.head_seed is None
            if drawn and name in config.task_systems(task):
                yield (
                    f"{key}: each seed draws its own head, and the mean of such heads is no head: "
                    f"give tasks.{task}.training.head_seed"
                )
