"""Judging published claims by what a run says of them."""

from collections.abc import Sequence
from typing import NamedTuple

from deftx.report.evidence import Estimate, Evidence
from deftx.report.published_claims import CLAIMS, TEST_SETS, Claim, Region

HOLDS, REFUTED, OPEN = "holds", "refuted", "cannot be told at this n"
NOTHING = "nothing claimed"


class Finding(NamedTuple):
    """A claim beside what a run says of it, for one task."""

    claim: str
    task: str
    source: str
    place: str
    statistic: str
    published: str
    ours: float
    low: float | None
    high: float | None
    n: str
    verdict: str


def verdict(estimate: Estimate, region: Region | None) -> str:
    """HOLDS if the whole 95 % interval lies in the region, REFUTED if all of it lies outside, OPEN
    if it does both, if there is none, or if it decides nothing; NOTHING if there is no region."""
    if region is None:
        return NOTHING
    if estimate.low is None or estimate.high is None or not estimate.decides:
        return OPEN
    if region[0] < estimate.low and estimate.high < region[1]:
        return HOLDS
    return REFUTED if estimate.high <= region[0] or estimate.low >= region[1] else OPEN


def judge(evidence: Evidence, roles: dict[str, str]) -> list[Finding]:
    """Every claim on every task that it can be re-measured on.

    On one of the published test sets only the languages of the published number count. On any
    other, such as an artificial world, all languages that the run averages over do.

    Args:
        roles: role → system of the run, for the roles that it has.
    """
    found = []
    for claim in CLAIMS:
        if not roles.keys() >= set(claim.roles):
            continue
        systems = [roles[role] for role in claim.roles]
        for task in evidence.comparison.tasks:
            if not set(systems) <= set(evidence.comparison.systems_of(task)):
                continue
            languages, published = _setting(evidence, claim, task)
            estimate = claim.measure(evidence, task, systems, languages) if languages else None
            if estimate is not None:
                found.append(
                    Finding(
                        claim.says,
                        task,
                        claim.source,
                        claim.place,
                        claim.statistic,
                        published,
                        *estimate[:4],
                        verdict(estimate, claim.region),
                    )
                )
    return found


def _setting(evidence: Evidence, claim: Claim, task: str) -> tuple[list[str], str]:
    """The languages of a task that a claim is measured over, and what was published of them."""
    averaged = evidence.comparison.averaged(task)
    test_set = _test_set(evidence.comparison.tasks[task].languages)
    if test_set is None and not claim.elsewhere:
        return [], ""
    if test_set is None:
        values = {p.value for p in claim.published}
        named = [f"{p.value} ({p.test_set})" for p in claim.published]
        return averaged, values.pop() if len(values) < len(named) else "; ".join(named)
    for published in claim.published:
        if published.test_set == test_set:
            return [key for key in averaged if key in published.languages], published.value
    return [], ""


def _test_set(languages: Sequence[str]) -> str | None:
    return next((n for n, known in TEST_SETS.items() if set(known) & set(languages)), None)
