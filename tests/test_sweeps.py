"""Which systems of a config differ in one setting only."""

import copy

from tiny_config import TINY

from deftx.plan.config import check_config
from deftx.plan.sweeps import sweeps


def found(methods, systems, **changes):
    raw = copy.deepcopy(TINY)
    raw["methods"] |= methods
    raw["systems"] = systems
    raw.update(changes)
    return {sweep["name"]: sweep["points"] for sweep in sweeps(check_config(raw))}


RANKS = {f"rank-{rank}": {"denoise": {"rank": rank}} for rank in (2, 4, 8)}


def test_systems_that_differ_in_the_rank_are_a_sweep_in_order():
    systems = {name: {"task": name} for name in reversed(RANKS)}
    assert found(RANKS, {**systems, "lt-sft": {"task": "lt-sft"}}) == {
        "rank": [(2, "rank-2"), (4, "rank-4"), (8, "rank-8")]
    }


def test_a_sweep_of_one_vector_leaves_the_other_alone():
    tasks = {name: {"task": name, "language": "lt-sft"} for name in RANKS}
    languages = {f"l-{name}": {"task": "lt-sft", "language": name} for name in RANKS}
    assert found(RANKS, {**tasks, **languages}) == {
        "rank of the task vector": [(2, "rank-2"), (4, "rank-4"), (8, "rank-8")],
        "rank of the language vector": [(2, "l-rank-2"), (4, "l-rank-4"), (8, "l-rank-8")],
    }


def test_two_systems_or_a_second_difference_are_no_sweep():
    methods = copy.deepcopy(RANKS)
    methods["rank-8"]["choose_from"] = "layer"
    assert found(methods, {name: {"task": name} for name in methods}) == {}
    two = {name: {"task": name} for name in list(RANKS)[:2]}
    assert found(RANKS, two) == {}
    scaled = {name: {"task": name, "task_scale": 1 + i} for i, name in enumerate(RANKS)}
    assert found(RANKS, scaled) == {}


def test_a_budget_takes_its_learning_rate_along_and_counts_in_parts_of_k():
    methods = {
        f"k-{part}": {
            "budget": {"task": 0.1 * part, "language": 0.1 * part},
            "learning_rate": 1e-3 / part,
        }
        for part in (0.1, 0.5)
    }
    systems = {name: {"task": name} for name in [*methods, "lt-sft"]}
    points = found(methods, systems)["budget as a share of K"]
    assert [name for _, name in points] == ["k-0.1", "k-0.5", "lt-sft"]
    assert [round(value, 9) for value, _ in points] == [0.1, 0.5, 1.0]
