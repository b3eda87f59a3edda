"""Stage `claims`: the papers' claims, and what this run shows of them."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
from pydantic import Field

from deftx.report.claims import HOLDS, NOTHING, OPEN, REFUTED, Evidence, judge, load_claims
from deftx.report.comparison import SUFFIX, Comparison
from deftx.report.csv_files import load_diagnostics, read_csv, write_csv
from deftx.report.evaluations import load_evaluations
from deftx.report.prior import WithPrior, with_prior
from deftx.report.table_formats import MINUS, bars
from deftx.report.template import render
from deftx.store.artefact import write_text
from deftx.store.errors import InputError


class Params(Comparison):
    """Which systems are compared on which tasks, and which of them the claims mean."""

    roles: dict[str, str] = Field(
        default={},
        description="system named in a claim → system of this run; default: that of the same name",
    )


def claims(
    params: Params,
    *,
    evaluated: list[Path],
    priors: list[Path] | None = None,
    diagnostics: list[Path],
    coverage: Path | None = None,
    out: Path,
) -> None:
    """Write a CSV with the columns FINDINGS, a row per claim and task, and the same as Markdown
    beside it. Claims whose systems, languages or measurements are not in the run are left out.
    Where a task has a prior, each claim about scores is also judged between the systems with it.

    Raises ArtefactError if an input cannot be read; InputError if an evaluation is missing, or if
    `roles` names a system that is in no claim or not in the run.
    """
    evaluations, measured = load_evaluations(evaluated, params), load_diagnostics(diagnostics)
    evidence = Evidence(params, evaluations, measured, _words(coverage))
    roles = _roles(params)
    findings = judge(evidence, roles)
    if (found := with_prior(params, evaluations, priors or [])) is not None:
        with_suffix = {role: system + SUFFIX for role, system in roles.items()}
        both = [findings, judge(_after(found, evidence), with_suffix)]
        findings = pd.concat([each for each in both if len(each)] or both[:1], ignore_index=True)
    write_text(out.with_suffix(".md"), _markdown(findings))
    write_csv(out, findings)


def _roles(params: Params) -> Mapping[str, str]:
    known = load_claims().systems
    for role, system in params.roles.items():
        if role not in known:
            raise InputError(f"roles: no claim is about {role!r}, but about {', '.join(known)}")
        if system not in params.systems:
            raise InputError(f"roles.{role}: {system!r} is not among systems: {params.systems}")
    return {**{role: role for role in known if role in params.systems}, **params.roles}


def _after(found: WithPrior, evidence: Evidence) -> Evidence:
    """The evidence of the systems with a prior: their scores, and the diagnostics of their
    vectors, which are those of the systems without."""
    diagnostics = evidence.diagnostics.assign(system=evidence.diagnostics["system"] + SUFFIX)
    return Evidence(found.after, found.evaluations, diagnostics, evidence.words, found.draws)


def _words(path: Path | None) -> dict[str, int]:
    """Language → number of words in its text; labelled items do not count."""
    if path is None:
        return {}
    table = read_csv(path, language=str, split=str, labelled=bool, words=int)
    text = table[~table.labelled & (table.split == "train")]
    words = text.groupby("language")["words"].sum()
    return {str(language): int(count) for language, count in words.items()}


def _markdown(findings: pd.DataFrame) -> str:
    shown = findings.assign(
        source=findings["source"] + ", " + findings["place"],
        ours=findings["ours"].map(_short),
        verdict=[f"**{v}**" if v in (HOLDS, REFUTED) else v for v in findings["verdict"]],
    )
    ends = (
        findings["low"].map(_short).astype(str) + " to " + findings["high"].map(_short).astype(str)
    )
    shown["95 % interval"] = ends.where(findings["low"].notna(), "")
    shown = shown[["claim", "task", "source", "published", "ours", "95 % interval", "n", "verdict"]]
    grid = shown.map(bars).to_markdown(index=False, disable_numparse=True)
    words = {"holds": HOLDS, "refuted": REFUTED, "open": OPEN, "nothing": NOTHING}
    ending = SUFFIX.strip()
    assumed = ending if findings["claim"].str.endswith(f"({ending})").any() else ""
    return render("claims.md.j2", grid=grid, assumed=assumed, **words)


def _short(value: float) -> str:
    return f"{value:.2f}".replace("-", MINUS)
