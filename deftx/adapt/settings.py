"""The config that `deftx adapt` writes: readable, and a start for whoever goes on by hand."""

from collections.abc import Mapping
from typing import Any

import yaml

SMALL = 100_000_000
"""Bases with fewer parameters learn with the higher rates. Design choice: those of docs/findings.md
for a small encoder, else those of the papers for XLM-R base."""

RATES = {True: {"language": 3e-4, "task": 2e-4}, False: {"language": 5e-5, "task": 2e-5}}
"""Whether the base is small → learning rates."""

TEMPLATE = """\
# Written by `deftx adapt`; yours to change. `deftx run config.yaml`, started in this folder, makes what has
# changed, and keeps the rest. Every key: docs/config.md of deftx.
run: {run}

# Paths start here, in this folder.
data_dir: .

seeds: [{seed}]

base: {base}

datasets:
  # The text in {name}: a line an item. Lines that are in to-label.csv are not in it.
  text: {{files: data/text-{language}.txt}}
  # The labelled data of the task, in {source}: one part trains, the other chooses the best state.
  labelled: {{files: "data/{task}-{{split}}.jsonl", columns: {columns}}}

# Doubles and very short lines are left out of the text: look/index.html shows which.
cleaning: {{}}

languages:
  {language}: {{name: {name}, text: text}}
  {source}: {{name: {source_name}, text: none}}

tasks:
  {task}:
    classes: {classes}
    source: {source}
    train: {{dataset: labelled, split: train}}
    valid: {{dataset: labelled, split: valid}}
    test: {{dataset: labelled, split: valid}}
    languages: {languages} # where labelled test items exist; here those that chose the best state
    models_for: [{language}] # and where there are none: a model is made, and not scored
    training: {task_training}

language_training: {language_training}

engine: {{precision: {precision}}}

# Add a method or a system, and only what is new is computed.
methods: {methods}

systems:
  {method}: {{task: {task_method}, language: {method}}}

threads: {{base: {threads}, full: {threads}, denoise: {threads}, mask: {threads}, sparse: {threads}, compose: 1, evaluate: {threads}}}
"""


def config_text(values: Mapping[str, Any]) -> str:
    """The text of a config. Values are put in as YAML on one line."""
    written = {name: in_yaml(value) for name, value in values.items()}
    return TEMPLATE.format(**written)


def in_yaml(value: Any) -> str:
    """A value as YAML on one line."""
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10**9)
    return text.removesuffix("\n").removesuffix("\n...").strip()


def rates(parameters: int) -> dict[str, float]:
    """The learning rates for a base of so many parameters."""
    return RATES[parameters < SMALL]
