"""How many steps fit into a person's time, and what they take."""

import os
from math import prod
from pathlib import Path

from deftx.engine.settings import TaskTraining
from deftx.estimate.sizes import find_shape
from deftx.estimate.speeds import measured
from deftx.estimate.work import Work
from deftx.models.make import architecture_of
from deftx.plan.artefact import Artefact, Target
from deftx.plan.plan import Plan
from deftx.store.errors import InputError

STARTS = 90.0
"""Seconds that are not steps: starting, reading, choosing entries, writing. Measured on two cores
with a small base; see docs/adapt.md."""

SPARE = 1.2
"""By how much a step may take longer than in the trial: two trainings run beside each other."""

TYPICAL = 64
"""Tokens of an item of a task in the trial; its real length is known later."""

FEWEST = 40
"""Fewer steps of a phase than this move nothing. Design choice."""

LANGUAGE_MOST, TASK_EPOCHS = 10_000, 5
"""More steps of a language's phase are not chosen here (the papers' least), nor more epochs of a
task (the papers' number)."""


def cores() -> int:
    """CPU cores that this process may use: those of a cluster's job, not of its whole machine."""
    # Python knows this on Linux only.
    mine = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else ()
    return len(mine) or os.cpu_count() or 1


def trial(plan: Plan, with_task: bool) -> dict[str, float]:
    """Kind of target → seconds of a step on this machine: a few steps on random tokens, through the
    very training. Raises InputError if the shape of the base is unknown."""
    shape, source = find_shape(plan)
    if shape is None:
        raise InputError(f"base: {source}")
    config = plan.config
    text, threads = config.language_training, plan.threads("full")
    works = {"language": Work("language", True, None, text, text.max_length, threads)}
    for name, task in config.tasks.items() if with_task else ():
        length = min(task.training.max_length, TYPICAL)
        works["task"] = Work(name, True, None, task.training, length, threads)
    found = measured(plan, works.values(), shape)
    return {kind: found[work.subject] for kind, work in works.items()}


def chosen(
    minutes: float, seconds: dict[str, float], items: int, settings: TaskTraining, at_once: int
) -> tuple[int, int, float]:
    """Steps of each phase of the language and of the task, and the seconds that all of it takes,
    so that it fits into `minutes` if it can. With `at_once` 2, both train beside each other.

    Raises InputError if the time is too short for FEWEST steps of each.
    """
    time = 60 * minutes - STARTS
    epoch = max(1, -(-items // settings.batch_size))
    task_most = TASK_EPOCHS * epoch if items else 0
    per = {kind: 2 * SPARE * each for kind, each in seconds.items()}  # two phases each
    if at_once > 1 and items:
        language = time / per["language"]
        task = time / per["task"]
    else:
        # Two thirds of the time are the language's, and what the task leaves over.
        task = min(time / 3 / per["task"], task_most) if items else 0
        language = (time - task * per.get("task", 0)) / per["language"]
    language_steps, task_steps = int(min(language, LANGUAGE_MOST)), int(min(task, task_most))
    fewest = min(FEWEST, task_most) if items else 0
    if language_steps < FEWEST or task_steps < fewest:
        least = FEWEST * sum(per.values()) + STARTS
        raise InputError(
            f"--minutes {minutes:g}: too short on this machine, where a step takes "
            + ", ".join(f"{each:.2g} s ({kind})" for kind, each in seconds.items())
            + f"; give at least {least / 60:.0f}, or a smaller base"
        )
    parts = [language_steps * per["language"], task_steps * per.get("task", 0.0)]
    whole = max(parts) if at_once > 1 else sum(parts)
    return language_steps, task_steps, STARTS + whole


def shape_of(plan: Plan) -> tuple[int, int | None]:
    """Parameters of the base's backbone, and how many tokens an item may have; None if nothing
    limits it."""
    shape, source = find_shape(plan)
    if shape is None:
        raise InputError(f"base: {source}")
    known = architecture_of(shape, Path(), {"id": None, "revision": None}, {})
    return sum(map(prod, known.shapes.values())), known.positions


def vectors(plan: Plan) -> dict[str, str]:
    """Kind → path of the vector that the project keeps, relative to the working folder."""
    task, language = plan.vectors(plan.models[0])
    assert language is not None, "a language with text has a vector"
    return {"task": plan.path(task), "language": plan.path(language)}


def trainings(plan: Plan) -> list[Artefact]:
    """What is trained, in order."""
    return [a for a in plan.artefacts if a.stage in ("full", "sparse")]


def label(plan: Plan, artefact: Artefact) -> str:
    """A training in words."""
    target = Target.parse(artefact["target"])
    phase = {"full": "first phase", "sparse": "second phase"}[artefact.stage]
    name = plan.config.language_names.get(target.name, target.name)
    return f"{name}: {phase}"
