"""Systems of a run that differ in one setting: what a figure can draw as a line. Free of torch."""

from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

from deftx.plan.artefact import NONE
from deftx.plan.method import Kind
from deftx.plan.schema import RunSettings
from deftx.store.artefact import canonical

FEWEST = 3
"""Systems that make a sweep: two are a comparison."""

Value = float | None


def sweeps(config: RunSettings[Any]) -> list[dict[str, Any]]:
    """`deftx.report.figures.curves.Sweep` as plain data, its points ascending in the value, of
    systems that are equal in all but one setting of the method: for tasks, for
    languages or for both."""
    found = []
    for setting, read in SETTINGS.items():
        for sides in (("task", "language"), ("task",), ("language",)):
            of = "" if len(sides) == 2 else f" of the {sides[0]} vector"
            for points in _families(config, read, sides):
                found.append({"name": f"{setting}{of}", "label": setting, "points": points})
    return found


def _families(
    config: RunSettings[Any],
    read: Callable[[dict[str, Any], RunSettings[Any], Kind], Value],
    sides: tuple[Kind, ...],
) -> Iterator[list[tuple[float, str]]]:
    families: dict[str, dict[float, str]] = {}
    for name in config.evaluated_systems:
        system = config.systems[name]
        methods: dict[Kind, str] = {"task": system.task}
        if system.language != NONE:
            methods["language"] = system.language
        if not set(sides) <= methods.keys():
            continue
        rows = {
            kind: config.row(method, kind).model_dump(mode="json")
            for kind, method in methods.items()
        }
        # Reading takes the setting out, so that what is left over is what a family shares.
        values = {read(rows[side], config, side) for side in sides}
        if len(values) != 1 or (value := values.pop()) is None:
            continue
        others = system.model_dump(mode="json", exclude={"task", "language"})
        families.setdefault(canonical([rows, others]), {}).setdefault(value, name)
    for points in families.values():
        if len(points) >= FEWEST:
            yield sorted(points.items())


def _of_rule(name: str) -> Callable[[dict[str, Any], RunSettings[Any], Kind], Value]:
    def read(row: dict[str, Any], config: RunSettings[Any], kind: Kind) -> Value:
        rule = row.get("denoise")
        value: Value = rule.pop(name) if rule is not None else None
        return value

    return read


def _budget(row: dict[str, Any], config: RunSettings[Any], kind: Kind) -> Value:
    """The budget as a share of the run's K. A sparser choice wants a higher learning rate, so the
    two go together."""
    row.pop("learning_rate", None)
    budget, usual = row.pop("budget", None), config.budget.of(kind)
    if budget is None or isinstance(budget, int) != isinstance(usual, int):
        return None
    return float(Fraction(str(budget)) / Fraction(str(usual)))


SETTINGS: dict[str, Callable[[dict[str, Any], RunSettings[Any], Kind], Value]] = {
    "rank": _of_rule("rank"),
    "share of the rank": _of_rule("rank_share"),
    "energy": _of_rule("energy"),
    "share of the residual": _of_rule("residual_keep"),
    "budget as a share of K": _budget,
}
