"""Stage `claims`: what was published, beside what this run says of it."""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd
from pydantic import Field

from deftx.report.claims import HOLDS, NOTHING, OPEN, REFUTED, Finding, judge
from deftx.report.evidence import Evidence
from deftx.report.published_claims import ROLES
from deftx.report.results import Comparison, load_evaluations
from deftx.store.artefact import write_text
from deftx.store.errors import ArtefactError, InputError

CAPTION = (
    "Each published claim that this run can re-measure; definitions in docs/diagnostics.md. "
    f"“{HOLDS}”: the whole 95 % interval lies where the claim says. “{REFUTED}”: all of it lies "
    f"elsewhere. “{OPEN}”: it does both, the units are too few for an interval, or scores are of "
    f"a single seed. “{NOTHING}”: a number without a statement about it. A verdict is about this "
    "run's base, data and settings. Not corrected for the number of claims.\n"
)


class Params(Comparison):
    """Which systems are compared on what, and which of them a claim means."""

    roles: dict[str, str] = Field(
        default={},
        description="the system that a claim means by a name; default: the one of that name",
    )


def claims(
    params: Params,
    *,
    evaluated: list[Path],
    diagnostics: list[Path],
    coverage: Path | None = None,
    out: Path,
) -> None:
    """Write a CSV with the fields of `Finding`, a line per claim and task, and the same as
    Markdown beside it. Claims whose systems, languages or measurements are not in the run are left
    out.

    Raises ArtefactError if an input cannot be read; InputError if an evaluation is missing, or if
    `roles` names a role or a system that there is not.
    """
    evidence = Evidence(
        params, load_evaluations(evaluated, params), _diagnostics(diagnostics), _words(coverage)
    )
    findings = judge(evidence, _roles(params))
    frame = pd.DataFrame(findings, columns=list(Finding._fields))
    write_text(out.with_suffix(".md"), _markdown(findings))
    write_text(out, frame.to_csv(index=False, float_format="%.6f", lineterminator="\n"))


def _roles(params: Params) -> dict[str, str]:
    for role, system in params.roles.items():
        if role not in ROLES:
            raise InputError(f"roles: no claim is about {role!r}, but about {', '.join(ROLES)}")
        if system not in params.systems:
            raise InputError(f"roles.{role}: there is no system {system!r}")
    return {**{role: role for role in ROLES if role in params.systems}, **params.roles}


def _diagnostics(paths: Iterable[Path]) -> pd.DataFrame:
    columns = {"system", "task", "seed", "measure", "a", "b", "layer", "part", "value"}
    frames = [pd.DataFrame({name: [] for name in sorted(columns)})]
    for path in paths:
        frame = _table(path, columns)
        frames.append(frame.astype({"value": float}))
    return pd.concat([frame for frame in frames if len(frame)] or frames)


def _words(path: Path | None) -> dict[str, int]:
    """Language → words of its text, labelled items left out."""
    if path is None:
        return {}
    table = _table(path, {"language", "split", "labelled", "words"})
    text = table[(table.labelled == "False") & (table.split == "train")]
    words = text.astype({"words": int}).groupby("language")["words"].sum()
    return {str(language): int(count) for language, count in words.items()}


def _table(path: Path, columns: set[str]) -> pd.DataFrame:
    if not path.is_file():
        raise ArtefactError(f"{path}: no such file")
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    if missing := sorted(columns - set(table.columns)):
        raise ArtefactError(f"{path}: no column {missing[0]!r}; it has {', '.join(table.columns)}")
    return table


def _markdown(findings: Iterable[Finding]) -> str:
    header = ["claim", "task", "source", "published", "ours", "95 % interval", "n", "verdict"]
    lines = [header, [":--"] * 4 + ["--:"] * 2 + [":--"] * 2]
    for f in findings:
        ends = "" if f.low is None or f.high is None else f"{_short(f.low)} to {_short(f.high)}"
        source = f"{f.source}, {f.place}"
        verdict = f"**{f.verdict}**" if f.verdict in (HOLDS, REFUTED) else f.verdict
        row = [f.claim, f.task, source, f.published, _short(f.ours), ends, f.n, verdict]
        lines.append([part.replace("|", "\\|") for part in row])
    grid = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"## Claims\n\n{grid}\n\n{CAPTION}"


def _short(value: float) -> str:
    return f"{value:.2f}".replace("-", "−")
