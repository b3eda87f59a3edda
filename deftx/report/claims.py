"""Published claims, and their verdicts on a run."""

from collections.abc import Mapping
from functools import cache
from itertools import product
from math import inf
from pathlib import Path

import pandas as pd
import yaml
from pydantic import Field

from deftx.report.claim_statistics import MEASURES
from deftx.report.evidence import Case, Estimate, Evidence
from deftx.store.strict import Strict

HOLDS, REFUTED, OPEN, NOTHING = "holds", "refuted", "inconclusive", "no claim"


class Published(Strict):
    """The published value on a test set, in words, and its languages (default: all of the set)."""

    test_set: str
    value: str
    languages: list[str] = Field(default=[])


class Claim(Strict):
    """A published claim: a row of claims.yaml, where the fields are explained."""

    claim: str
    source: str
    place: str
    statistic: str
    measure: str
    systems: list[str]
    above: float | None = None
    below: float | None = None
    elsewhere: bool = True
    published: list[Published]

    def verdict(self, estimate: Estimate) -> str:
        """HOLDS if the whole 95 % interval is between `above` and `below`, REFUTED if all of it is
        outside, OPEN if it overlaps both, if there is none, or if it is about single trainings;
        NOTHING if neither bound is given."""
        low, high = estimate.low, estimate.high
        if self.above is None and self.below is None:
            return NOTHING
        if low is None or high is None or not estimate.decides:
            return OPEN
        above = -inf if self.above is None else self.above
        below = inf if self.below is None else self.below
        if above < low and high < below:
            return HOLDS
        return REFUTED if high <= above or low >= below else OPEN


class Claims(Strict):
    """The file of claims: test set → its languages, and the claims."""

    test_sets: dict[str, list[str]]
    claims: list[Claim]

    @property
    def systems(self) -> list[str]:
        """All systems that claims are about, sorted."""
        return sorted({system for claim in self.claims for system in claim.systems})


@cache
def load_claims() -> Claims:
    """The claims that come with the package."""
    text = Path(__file__).with_name("claims.yaml").read_text(encoding="utf-8")
    return Claims.model_validate(yaml.safe_load(text))


FINDINGS = [
    *("claim", "task", "source", "place", "statistic", "published"),
    *("ours", "low", "high", "n", "verdict"),
]
"""The columns of `judge`."""


def judge(evidence: Evidence, roles: Mapping[str, str]) -> pd.DataFrame:
    """Every claim on every task on which the run can re-measure it. Columns: FINDINGS.

    On one of the published test sets, only claims about it are measured, over the languages of the
    published number. On any other, such as an artificial world, all languages count that the run
    averages over.

    Args:
        roles: system of a claim → system of the run, for those that the run has.
    """
    rows = []
    for claim, task in product(load_claims().claims, evidence.comparison.tasks):
        systems = [roles[system] for system in claim.systems if system in roles]
        known = set(systems) <= set(evidence.comparison.systems_of(task))
        languages, published = _setting(evidence, claim, task)
        if len(systems) < len(claim.systems) or not known or not languages:
            continue
        estimate = MEASURES[claim.measure](Case(evidence, task, systems, languages))
        if estimate is not None:
            row = {**claim.model_dump(), **estimate._asdict(), "ours": estimate.value}
            row |= {"task": task, "published": published, "verdict": claim.verdict(estimate)}
            rows.append(row)
    return pd.DataFrame(rows, columns=FINDINGS).astype({"low": float, "high": float})


def _setting(evidence: Evidence, claim: Claim, task: str) -> tuple[list[str], str]:
    """The languages of a task that a claim is measured over, and the published value; no languages
    if the claim is not about the task's test set."""
    averaged = evidence.comparison.averaged(task)
    languages, sets = set(evidence.comparison.tasks[task].languages), load_claims().test_sets
    test_set = next((name for name, known in sets.items() if languages & set(known)), None)
    if test_set is None:
        values = {published.value for published in claim.published}
        named = [f"{published.value} ({published.test_set})" for published in claim.published]
        value = values.pop() if len(values) < len(named) else "; ".join(named)
        return (averaged if claim.elsewhere else []), value
    for published in claim.published:
        if published.test_set == test_set:
            wanted = published.languages or sets[test_set]
            return [key for key in averaged if key in wanted], published.value
    return [], ""
