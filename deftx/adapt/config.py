"""The config that `deftx adapt` writes: readable, and a start for whoever goes on by hand."""

from collections.abc import Mapping
from typing import Any

import yaml

from deftx.adapt.cost import cores, shape_of
from deftx.adapt.identify import language_name
from deftx.adapt.request import Request, Source, pinned
from deftx.plan.config import check_config
from deftx.plan.plan import Plan
from deftx.report.template import render

SMALL = 100_000_000
"""Bases with fewer parameters learn with the higher rates. Design choice: those of docs/findings.md
for a small encoder, else those of the papers for XLM-R base."""

RATES = {True: {"language": 3e-4, "task": 2e-4}, False: {"language": 5e-5, "task": 2e-5}}
"""Whether the base is small → learning rates."""

LENGTH = 128
"""Tokens of an item or of a block of text, where the base has room for so many."""

TASK, LANGUAGE = "deft-x", "deft-x-lower"
"""The methods of the two vectors."""

ROW = {"denoise": {"rank_share": 0.13}}
"""DeFT-X; the rank is the papers' share of XLM-R base's."""

METHODS = {TASK: ROW, LANGUAGE: {**ROW, "keep_lower": 0.5}}
"""The language's vector leaves the upper half of the layers as it is. Design choice: with the small
encoder of docs/findings.md scores vary less over seeds, and are no lower."""


def run_of(request: Request) -> str:
    """The name of the run."""
    return f"{request.task.name}-{request.language.lower()}"


def values_of(
    request: Request, classes: list[str], labelled: Source | None
) -> tuple[dict[str, Any], int]:
    """What the template of a config asks for, with few steps; and the parameters of the base."""
    columns = {"text": "text", "label": "label"}
    columns |= {"text_pair": "text_pair"} if request.columns.text_pair else {}
    methods: dict[str, Any] = METHODS
    if labelled is None:
        task = {**pinned(str(request.task.vector), "source"), "classes": classes}
        given = {"vector": {"task": task}}
        methods = {LANGUAGE: METHODS[LANGUAGE], "given": given}
    values: dict[str, Any] = {
        "run": run_of(request),
        "seed": request.seed,
        "base": request.base,
        "name": request.name,
        "language": request.language,
        "source": request.source,
        "source_name": language_name(request.source),
        "task": request.task.name,
        "columns": columns,
        "classes": classes,
        "languages": [request.source] if labelled else [],
        "methods": methods,
        "language_method": LANGUAGE,
        "task_method": TASK if labelled else "given",
        "threads": max(1, cores() // 2) if labelled else cores(),
        "task_training": {"batch_size": 16, "max_length": 8, "max_steps": 4},
        "language_training": {"batch_size": 8, "max_length": 8, "min_steps": 0, "max_steps": 4},
    }
    parameters, positions = shape_of(plan_of(values))
    rate, length = rates(parameters), min(LENGTH, positions or LENGTH)
    values["task_training"]["max_length"] = values["language_training"]["max_length"] = length
    values["task_training"] |= {"learning_rate": rate["task"], "epochs": 100}
    values["language_training"] |= {
        "learning_rate": rate["language"],
        "epochs": 1000,
        "l1": 0.1,
        "held_out": 0.01,
    }
    return values, parameters


def plan_of(values: dict[str, Any]) -> Plan:
    """The plan of a config with these values."""
    return Plan(check_config(yaml.safe_load(config_text(values))))


def config_text(values: Mapping[str, Any]) -> str:
    """The text of a config. Values are put in as YAML on one line."""
    return render("adapt.yaml.j2", **{name: in_yaml(value) for name, value in values.items()})


def in_yaml(value: Any) -> str:
    """A value as YAML on one line."""
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10**9)
    return text.removesuffix("\n").removesuffix("\n...").strip()


def rates(parameters: int) -> dict[str, float]:
    """The learning rates for a base of so many parameters."""
    return RATES[parameters < SMALL]
