"""Checks of methods and systems: names that must exist, combinations that cannot work. Free of
torch."""

from collections.abc import Iterator
from typing import Any

from deftx.plan.artefact import BASE, NONE, ROUND
from deftx.plan.checks.data import unknown
from deftx.plan.method import KINDS, Kind
from deftx.plan.schema import RunSettings, System
from deftx.stages.denoise.settings import RankRule


def check_starts(config: RunSettings[Any]) -> Iterator[str]:
    """Where tasks start: at the base, or at a sparse vector that every source language has."""
    starts = {"task_start": config.task_start}
    for name, system in config.systems.items():
        if system.task_start is not None:
            starts[f"systems.{name}.task_start"] = system.task_start
    for key, start in starts.items():
        if start == BASE:
            continue
        if start not in config.methods:
            yield unknown(key, start, [*config.methods, BASE], "method")
        elif not config.row(start, "language").is_sparse:
            yield f"{key}: {start} does not make sparse vectors; one is needed"
        for name, task in config.tasks.items():
            if start not in config.methods or not config.task_languages(name):
                continue
            if not config.has_vector(start, task.source):
                yield (
                    f"{key}: {start} needs a vector of {task.source}, the source of tasks.{name}: "
                    f"give languages.{task.source}.text"
                )


def check_methods(config: RunSettings[Any]) -> Iterator[str]:
    """Names of methods, and rank rules that share a folder."""
    rules: dict[tuple[Kind, str], tuple[str, RankRule]] = {}
    for name, method in config.methods.items():
        if ROUND.search(name):
            yield f"methods.{name}: names that end in .round and a number are reserved for rounds"
        for kind in KINDS:
            if (rule := method.row(kind).rank_rule) is None:
                continue
            other, known = rules.setdefault((kind, rule.slug()), (name, rule))
            if known != rule:
                yield (
                    f"methods.{name}.denoise: {other} has the same rule with another "
                    "allow_full_rank; one artefact cannot serve both"
                )


def check_same_languages(config: RunSettings[Any]) -> Iterator[str]:
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


def check_systems(config: RunSettings[Any]) -> Iterator[str]:
    """Systems, the reference among them, and groups of languages."""
    for name, system in config.systems.items():
        if system.task not in config.methods:
            yield unknown(f"systems.{name}.task", system.task, config.methods, "method")
            continue
        if system.language != NONE and system.language not in config.methods:
            known = [*config.methods, NONE]
            yield unknown(f"systems.{name}.language", system.language, known, "method")
            continue
        yield from _check_pair(config, name, system)
    if config.reference is not None and config.reference not in config.systems:
        yield unknown("reference", config.reference, config.systems, "system")
    elif config.compared_with not in (config.evaluated_systems or config.systems):
        yield f"reference: {config.reference} is evaluated on no task"
    for name, languages in config.groups.items():
        for language in languages:
            if language not in config.languages:
                yield unknown(f"groups.{name}", language, config.languages, "language")


def _check_pair(config: RunSettings[Any], name: str, system: System) -> Iterator[str]:
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
        for name_of_field, is_given in (
            ("combine", system.combine is not None),
            ("task_start", system.task_start is not None),
            ("task_scale or language_scale", scales != (1.0, 1.0)),
        ):
            if is_given:
                yield f"{key}: {name_of_field} has no effect on adapters"
    if system.combine is not None and language is None:
        yield f"{key}.combine: needs a method for the language vectors"
    for task in config.evaluated_tasks:
        several = config.tasks[task].more_sources and name in config.task_systems(task)
        if several and row.is_trained and not row.takes_several_sources:
            yield (
                f"{key}: {system.task} cannot train on several sources, as "
                f"tasks.{task}.more_sources asks; list those that can in tasks.{task}.systems"
            )
