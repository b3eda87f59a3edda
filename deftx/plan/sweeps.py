"""Systems of a run that differ in one setting: what a figure can draw as a line. Free of torch."""

from fractions import Fraction
from typing import Any

from deftx.plan.artefact import NONE
from deftx.plan.method import KINDS, Kind
from deftx.plan.schema import Config
from deftx.store.artefact import canonical

FEWEST = 3
"""Systems that make a sweep: two are a comparison."""

SETTINGS = {
    "rank": "rank",
    "share of the rank": "rank_share",
    "energy": "energy",
    "share of the residual": "residual_keep",
    "budget as a share of K": "budget",
}
"""Label → a setting of a rank rule, or the budget."""


def sweeps(config: Config) -> list[dict[str, Any]]:
    """`deftx.report.figures.curves.Sweep` as plain data, its points ascending in the value, of
    systems that are equal in all but one setting of the method: for tasks, for
    languages or for both."""
    sides: tuple[tuple[Kind, ...], ...] = (KINDS, ("task",), ("language",))
    return [
        {
            "name": label if kinds == KINDS else f"{label} of the {kinds[0]} vector",
            "label": label,
            "points": sorted(points.items()),
        }
        for label, setting in SETTINGS.items()
        for kinds in sides
        for points in _families(config, setting, kinds)
        if len(points) >= FEWEST
    ]


def _families(config: Config, setting: str, kinds: tuple[Kind, ...]) -> list[dict[float, str]]:
    """Value → system, for each set of systems that differ in nothing else."""
    families: dict[str, dict[float, str]] = {}
    for name in config.evaluated_systems:
        system = config.systems[name]
        methods: dict[Kind, str] = {"task": system.task, "language": system.language}
        rows = {
            kind: config.row(method, kind).model_dump(mode="json")
            for kind, method in methods.items()
            if method != NONE
        }
        if not set(kinds) <= rows.keys():
            continue
        values = {_take(setting, rows[kind], config.budget.of(kind)) for kind in kinds}
        if len(values) == 1 and (value := values.pop()) is not None:
            others = system.model_dump(mode="json", exclude={"task", "language"})
            families.setdefault(canonical([rows, others]), {}).setdefault(value, name)
    return list(families.values())


def _take(setting: str, row: dict[str, Any], usual: int | float | str) -> float | None:
    """Take a setting out of a row, so that what is left is what a family shares. Returns its value,
    for the budget as a share of the run's K."""
    if setting != "budget":
        value: float | None = (row.get("denoise") or {setting: None}).pop(setting)
        return value
    # A sparser choice wants a higher learning rate, so the two go together.
    row.pop("learning_rate", None)
    budget = row.pop("budget", None)
    if budget is None or isinstance(budget, int) != isinstance(usual, int):
        return None
    return float(Fraction(str(budget)) / Fraction(str(usual)))
