"""The config that `deftx adapt` writes: readable, and a start for whoever goes on by hand."""

from collections.abc import Mapping
from typing import Any

import yaml

from deftx.report.template import render

SMALL = 100_000_000
"""Bases with fewer parameters learn with the higher rates. Design choice: those of docs/findings.md
for a small encoder, else those of the papers for XLM-R base."""

RATES = {True: {"language": 3e-4, "task": 2e-4}, False: {"language": 5e-5, "task": 2e-5}}
"""Whether the base is small → learning rates."""


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
