"""Claims: the verdict's rule, every statistic beside a plain count, and the stage."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from test_tables import markdown_tables, save_evaluations
from test_tables import rows as read_rows

from deftx.report import claims as library
from deftx.report.claims import (
    HOLDS,
    MEASURES,
    NOTHING,
    OPEN,
    REFUTED,
    Case,
    Claim,
    Estimate,
    Evidence,
    embeddings_lead,
    embeddings_share,
    layer_shape,
    load_claims,
    over_units,
    rank_correlation,
)
from deftx.report.comparison import Comparison
from deftx.report.csv_files import DIAGNOSTICS, read_csv
from deftx.report.evaluations import Evaluation
from deftx.report.places import NO_LAYER
from deftx.report.scores import differences, draw
from deftx.stages.claims.run import Params, _words, claims
from deftx.store.errors import ArtefactError
from deftx.store.tensors import TensorFile, save_tensors

ABOVE, BELOW, AT_PAR = {"above": 0}, {"below": 0}, {"above": -2, "below": 2}


def verdict(estimate: Estimate, **bounds: float) -> str:
    words = dict.fromkeys(("claim", "source", "place", "statistic", "measure"), "")
    return Claim(**words, systems=[], published=[], **bounds).verdict(estimate)


@pytest.mark.parametrize(
    ("low", "high", "bounds", "expected"),
    [
        (0.1, 2.0, ABOVE, HOLDS),
        (-0.1, 2.0, ABOVE, OPEN),
        (-2.0, -0.1, ABOVE, REFUTED),
        (0.0, 2.0, ABOVE, OPEN),
        (0.0, 0.0, ABOVE, REFUTED),
        (-2.0, -0.1, BELOW, HOLDS),
        (0.1, 2.0, BELOW, REFUTED),
        (-1.9, 1.9, AT_PAR, HOLDS),
        (-2.1, 1.9, AT_PAR, OPEN),
        (-3.0, 3.0, AT_PAR, OPEN),
        (-4.0, -2.1, AT_PAR, REFUTED),
        (2.1, 4.0, AT_PAR, REFUTED),
        (None, None, ABOVE, OPEN),
        (0.1, 2.0, {}, NOTHING),
    ],
)
def test_a_verdict_needs_the_whole_interval_on_one_side(low, high, bounds, expected):
    assert verdict(Estimate(0.0, low, high, ""), **bounds) == expected


def test_one_training_decides_nothing():
    for seeds, expected in ([0.1], OPEN), ([0.1, 0.2], HOLDS):
        skills = {"a": {"qaa": [0.9] * len(seeds)}, "b": {"qaa": seeds}}
        found = measure("difference", evidence(skills), ["a", "b"], ["qaa"])
        assert found.low > 0
        assert verdict(found, **ABOVE) == expected


# Units


def test_interval_over_units_is_students():
    values = [0.3, 1.4, 0.9, -0.2]
    oracle = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    found = over_units(values, "language")
    assert found[:3] == pytest.approx((np.mean(values), oracle.low, oracle.high))
    assert found.n == "4 languages"
    assert over_units([0.5], "seed") == Estimate(0.5, None, None, "1 seed")
    assert over_units([], "seed") is None


def test_rank_correlation_is_spearmans_and_its_interval_that_of_a_loop(monkeypatch):
    monkeypatch.setattr(library, "RESAMPLES", 300)
    x = [3.0, 1.0, 4.0, 1.0, 5.0, 9.0, 2.0]
    y = [2.0, 7.0, 1.0, 8.0, 2.0, 1.0, 8.0]
    found = rank_correlation(x, y)
    assert found.value == pytest.approx(stats.spearmanr(x, y).statistic)
    drawn = np.random.default_rng(0).integers(0, 7, (300, 7))
    resampled = [
        stats.spearmanr(np.array(x)[rows], np.array(y)[rows]).statistic
        for rows in drawn
        if len({x[i] for i in rows}) > 1 < len({y[i] for i in rows})
    ]
    assert (found.low, found.high) == pytest.approx(np.quantile(resampled, [0.025, 0.975]))
    assert found.n == "7 languages"


def test_few_languages_have_no_interval_of_a_correlation_and_constants_none_at_all():
    assert rank_correlation([1, 2, 3, 4, 5], [2, 1, 3, 5, 4])[1:3] == (None, None)
    assert rank_correlation([1, 2, 3, 4, 5, 6], [1, 1, 1, 1, 1, 1]) is None
    assert rank_correlation([1, 2], [2, 1]) is None


# Scores

LANGUAGES = ["qaa", "qab", "qac"]
ITEMS = 400


def constructed(skills: dict[str, dict[str, list[float]]]) -> list[Evaluation]:
    """Evaluations for system → language → skill with each seed, of two classes; all systems err on
    the same items first."""
    labels, ids = np.arange(ITEMS) % 2, np.array([f"item-{i:04}" for i in range(ITEMS)])
    found = []
    for system, languages in skills.items():
        for language, each in languages.items():
            for seed, skill in enumerate(each):
                noise = np.random.default_rng([LANGUAGES.index(language), seed]).random(ITEMS)
                logits = np.eye(2)[np.where(noise < skill, labels, 1 - labels)]
                facts = (system, "mood", language, seed, ids, labels)
                found.append(Evaluation(*facts, logits, ("bad", "good")))
    return found


def comparison(skills: dict[str, dict[str, list[float]]]) -> Comparison:
    languages = list(next(iter(skills.values())))
    task = {"metric": "accuracy", "source": "eng", "languages": languages}
    return Comparison.model_validate({"systems": list(skills), "tasks": {"mood": task}})


def evidence(skills: dict[str, dict[str, list[float]]], diagnostics=None, words=()) -> Evidence:
    measured = rows([]) if diagnostics is None else diagnostics
    return Evidence(comparison(skills), constructed(skills), measured, dict(words))


def rows(lines: list[tuple], system: str = "lt-sft") -> pd.DataFrame:
    """Diagnostics of a system on the task `mood`: (seed, measure, a, b, layer, part, value)."""
    frame = pd.DataFrame(lines, columns=list(DIAGNOSTICS)[2:])
    return frame.assign(system=system, task="mood")


def measure(name: str, mine: Evidence, systems: list[str], languages=LANGUAGES) -> Estimate | None:
    return MEASURES[name](Case(mine, "mood", systems, languages))


def skilled(a: list[float], b: list[float]) -> dict[str, dict[str, list[float]]]:
    """One seed, a skill per language."""
    return {
        s: {k: [x] for k, x in zip(LANGUAGES, each, strict=True)}
        for s, each in (("a", a), ("b", b))
    }


def test_with_one_seed_a_difference_is_the_tables():
    skills = skilled([0.6, 0.6, 0.6], [0.5, 0.6, 0.7])
    table = comparison(skills)
    gaps = differences(table, draw(table, constructed(skills)))
    (gap,) = (gap for gap in gaps if gap.language == "mean")
    found = measure("difference", evidence(skills), ["b", "a"])
    assert found[:3] == pytest.approx([100 * x for x in (gap.difference, gap.low, gap.high)])
    assert found.n == "3 languages, 400 items, 1 seed"


def test_systems_share_the_draws_of_seeds():
    skills = {"a": {"qaa": [0.0, 1.0, 0.0]}, "b": {"qaa": [0.0, 1.0, 0.0]}}
    assert measure("difference", evidence(skills), ["a", "b"], ["qaa"])[:3] == (0, 0, 0)


def test_wins_count_languages_and_ties_by_half():
    mine = evidence(skilled([0.9, 0.5, 0.3], [0.2, 0.5, 0.8]))
    assert measure("wins", mine, ["a", "b"])[:3] == (0.5, 0.5, 0.5)


def test_gain_and_corpus_leave_out_languages_without_text():
    words = {"qaa": 10, "qab": 1000, "qac": 100}
    skills = skilled([0.9, 0.7, 0.8], [0.5, 0.5, 0.5])
    found = measure("gain_and_corpus", evidence(skills, words=words), ["a", "b"])
    assert found[:3] == (pytest.approx(-1), None, None)
    del words["qac"]
    assert measure("gain_and_corpus", evidence(skills, words=words), ["a", "b"]) is None


def test_loss_and_score_average_the_loss_over_seeds():
    losses = {"qaa": (1.0, 1.2), "qab": (5.0, 0.9), "qac": (2.0, 2.0)}
    lines = [
        (str(seed), "held_out_loss", f"lang-{key}", "", "", "", loss)
        for key, each in losses.items()
        for seed, loss in enumerate(each)
    ]
    skills = {"lt-sft": {"qaa": [0.9], "qab": [0.5], "qac": [0.7]}}
    found = measure("loss_and_score", evidence(skills, rows(lines)), ["lt-sft"])
    assert found.value == pytest.approx(-1)


# Vectors

AYMARA = [1.25, *(0.52, 0.47, 0.44, 0.42, 0.38, 0.40, 0.42, 0.47, 0.51, 0.61, 0.85, 0.95)]
NLI = [1.40, *(1.01, 0.97, 1.03, 1.05, 1.13, 1.20, 1.29, 1.29, 1.24, 1.06, 0.75, 0.74)]
SENTIMENT = [0.45, *(1.27, 1.28, 1.33, 1.27, 1.30, 1.34, 1.30, 1.14, 0.94, 0.76, 0.64, 1.15)]
"""Millions of entries of the released vectors: embeddings, then the layers (read off a plot)."""


def layers(millions: list[float]) -> dict[str, float]:
    return {NO_LAYER if i == 0 else str(i - 1): value for i, value in enumerate(millions)}


@pytest.mark.parametrize(
    ("millions", "shape", "lead"), [(AYMARA, 1.43, 3.9), (NLI, 0.80, 0.8), (SENTIMENT, 0.85, -6.3)]
)
def test_published_shapes_are_what_the_statistics_give(millions, shape, lead):
    assert layer_shape(layers(millions)) == pytest.approx(shape, abs=0.005)
    assert embeddings_lead(layers(millions)) == pytest.approx(lead, abs=0.1)
    assert embeddings_share(layers([19.7, 40.0, 40.3])) == pytest.approx(19.7)


@pytest.mark.parametrize(
    ("count", "middle"),
    [(3, [1]), (4, [1, 2]), (6, [2, 3]), (12, [4, 5, 6, 7]), (24, range(8, 16))],
)
def test_thirds_are_symmetric_and_the_middle_one_is_a_third(count, middle):
    flat = [0.0, *(2.0 if i in middle else 3.0 for i in range(count))]
    assert layer_shape(layers(flat)) == 1.5


def test_fewer_than_three_layers_have_no_shape():
    assert layer_shape(layers([1.0, 2.0, 3.0])) is None
    assert layer_shape(layers([1.0, 2.0, 0.0, 3.0])) is None


SKILLS = {"lt-sft": {key: [0.5] for key in LANGUAGES}}


def test_shapes_of_languages_are_means_over_seeds_and_of_tasks_over_languages():
    outer = {
        **{("lang-qaa", "0"): 2.0, ("lang-qaa", "1"): 4.0, ("lang-qab", "0"): 1.0},
        **{("task-mood", "0"): 0.5, ("task-mood", "1"): 0.7, ("lang-eng", "0"): 100.0},
    }
    lines = [
        (seed, "entries", target, "", str(layer), part, share * whole)
        for (target, seed), ends in outer.items()
        for layer, whole in enumerate((ends, 1.0, ends))
        for part, share in (("attention", 0.25), ("other", 0.75))
    ]
    mine = evidence(SKILLS, rows(lines))
    expected = over_units([3.0, 1.0], "language")
    assert measure("language_layer_shape", mine, ["lt-sft"]) == expected
    found = measure("task_layer_shape", mine, ["lt-sft"])
    assert found[:3] == pytest.approx(over_units([0.5, 0.7], "seed")[:3])
    assert found.n == "2 seeds"


SYSTEMS = ["deft-x", "lt-sft"]


def both(first: dict, second: dict, measure: str, b: str) -> Evidence:
    """Two systems with a measure of each target."""
    lines = [
        rows([("0", measure, a, b, "", "", value) for a, value in each.items()], system)
        for system, each in zip(SYSTEMS, (first, second), strict=True)
    ]
    return evidence(dict.fromkeys(SYSTEMS, SKILLS["lt-sft"]), pd.concat(lines))


@pytest.mark.parametrize("name", ["overlap", "interference"])
def test_measures_with_the_task_are_paired_by_language(name):
    first = {"lang-qaa": 0.2, "lang-qab": 0.4, "lang-qac": 0.5}
    second = {"lang-qaa": 0.3, "lang-qab": 0.1}
    found = measure(f"{name}_with_task", both(first, second, name, "task-mood"), SYSTEMS)
    assert found[:3] == pytest.approx(over_units([-0.1, 0.3], "language")[:3])
    other = both(first, second, name, "lang-qac")
    assert measure(f"{name}_with_task", other, SYSTEMS) is None


def test_stability_is_paired_by_target_and_the_task_is_one():
    first = {"lang-qaa": 0.2, "lang-qab": 0.4, "lang-qac": 0.5, "task-mood": 0.9}
    mine = both(first, {"lang-qaa": 0.3, "lang-qab": 0.1, "task-mood": 0.5}, "jaccard", "")
    for systems, expected in (SYSTEMS, [0.4, -0.1, 0.3]), (["lt-sft"], [0.5, 0.3, 0.1]):
        found = measure("stability", mine, systems)
        assert found[:3] == pytest.approx(over_units(expected, "target")[:3])


def test_between_languages_the_overlap_with_the_task_does_not_count():
    lines = [
        ("0", "overlap", "lang-qaa", "lang-qab", "", "", 0.2),
        ("0", "overlap", "lang-qaa", "lang-qac", "", "", 0.4),
        ("0", "overlap", "lang-qaa", "task-mood", "", "", 0.9),
    ]
    found = measure("between_languages", evidence(SKILLS, rows(lines)), ["lt-sft"])
    assert found[:4] == (pytest.approx(0.3), None, None, "2 pairs")


def test_alignment_is_the_lead_of_translations():
    lines = [
        ("0", f"similarity_{kind}", key, "eng", "", "", value)
        for key, matched, others in (("qaa", 0.9, 0.5), ("qab", 0.8, 0.6))
        for kind, value in (("matched", matched), ("mismatched", others))
    ]
    found = measure("alignment", evidence(SKILLS, rows(lines)), ["lt-sft"])
    assert found[:3] == pytest.approx(over_units([0.4, 0.2], "language")[:3])


# The rows of claims.yaml


def test_claims_are_distinct_and_about_known_statistics_and_languages():
    known = load_claims()
    assert len({claim.claim for claim in known.claims}) == len(known.claims) > 30
    assert {claim.measure for claim in known.claims} == MEASURES.keys()
    for claim in known.claims:
        assert claim.published, claim.claim
        for published in claim.published:
            assert set(published.languages) <= set(known.test_sets[published.test_set].languages)
        if claim.above is not None and claim.below is not None:
            assert claim.above < claim.below


# The stage


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory) -> list[Path]:
    """As in test_tables: zero-shot is bad, lt-sft and deft-x are about equal."""
    systems = ["zero-shot", "lt-sft", "deft-x"]
    return save_evaluations(
        tmp_path_factory.mktemp("results"), systems, ["eng", "ace", "ban"], seeds=2
    )


def run(tmp_path, evaluated, diagnostics=(), **changes) -> dict[str, dict[str, str]]:
    """Claim → its row."""
    task = {"metric": "macro_f1", "source": "eng", "languages": ["eng", "ace", "ban"]}
    task["dataset"] = "nusax"
    systems = ["zero-shot", "lt-sft", "deft-x"]
    params = Params.model_validate({"systems": systems, "tasks": {"mood": task}, **changes})
    out = tmp_path / "claims.csv"
    claims(params, evaluated=evaluated, diagnostics=list(diagnostics), out=out)
    return {row["claim"]: row for row in read_rows(out)}


def test_claims_about_systems_that_are_not_in_the_run_are_left_out(evaluated, tmp_path):
    found = run(tmp_path, evaluated)
    assert list(found) == [
        "DeFT-X is above LT-SFT",
        "DeFT-X is at par with LT-SFT or above it (within 2 points below)",
    ]
    row = found["DeFT-X is above LT-SFT"]
    assert row["published"] == "+1.2"  # on NusaX
    assert row["n"] == "2 languages, 120 items, 2 seeds"


def test_roles_say_which_system_a_claim_means(evaluated, tmp_path):
    found = run(tmp_path, evaluated, roles={"mad-x": "zero-shot"})
    assert {"DeFT-X is above MAD-X", "LT-SFT is above MAD-X"} <= found.keys()
    row = found["LT-SFT is above MAD-X"]
    assert row["verdict"] == HOLDS
    assert 0 < float(row["low"]) <= float(row["ours"]) <= float(row["high"])
    swapped = {"lt-sft": "zero-shot", "mad-x": "lt-sft", "deft-x": "deft-x"}
    assert run(tmp_path, evaluated, roles=swapped)["LT-SFT is above MAD-X"]["verdict"] == REFUTED


@pytest.mark.parametrize(
    ("roles", "message"),
    [
        ({"madx": "lt-sft"}, "roles: no claim is about 'madx'"),
        ({"mad-x": "mine"}, "roles.mad-x: 'mine' is not among systems"),
    ],
)
def test_unknown_roles_and_systems_are_refused(evaluated, tmp_path, roles, message):
    with pytest.raises(ValueError, match=message):
        run(tmp_path, evaluated, roles=roles)


def test_on_a_published_test_set_only_its_claims_and_languages_count(evaluated, tmp_path):
    found = run(tmp_path, evaluated, roles={"sc-sft": "deft-x", "rand-sft": "zero-shot"})
    assert not any("inference" in claim for claim in found)  # AmericasNLI's
    # English is of NusaX, but not of the languages of the paper; and it is the source here.
    assert found["Rand-SFT is worse than LT-SFT"]["n"].startswith("2 languages")


def test_a_task_of_no_published_test_set_is_measured_over_all_its_languages(evaluated, tmp_path):
    for path in evaluated:
        file = TensorFile(path)
        language = {"eng": "eng", "ace": "qaa", "ban": "qab"}[file.provenance["language"]]
        tensors = {name: file[name].clone() for name in file}
        facts = {**file.provenance, "language": language, "version": None}
        facts["system"] = facts["system"].replace("zero-shot", "sc-sft")
        out = tmp_path / "e" / facts["system"] / "mood" / language / path.name
        save_tensors(out, tensors, **facts)
    task = {"metric": "macro_f1", "source": "eng", "languages": ["qaa", "qab"]}
    systems = ["sc-sft", "lt-sft", "deft-x"]
    found = run(tmp_path, [tmp_path / "e"], systems=systems, tasks={"mood": task})
    assert found["DeFT-X is above LT-SFT"]["published"] == "+1.2 (NusaX); +0.3 (AmericasNLI)"
    inference = found["SC-SFT is above LT-SFT (with the shares for inference)"]
    assert inference["published"] == "+1.8 (AmericasNLI)"
    assert "DeFT-X is above LT-SFT in Minangkabau" not in found


def test_diagnostics_and_corpora_are_read_back(evaluated, tmp_path):
    entries = [
        ("0", "entries", f"lang-{key}", "", str(layer), "other", value)
        for key, outer in (("ace", 3), ("ban", 3.1))
        for layer, value in enumerate((outer, 1, outer))
    ]
    overlaps = {
        system: [("0", "overlap", f"lang-{key}", "task-mood", "", "", x) for key in ("ace", "ban")]
        for system, x in (("deft-x", 0.1), ("lt-sft", 0.2))
    }
    frames = {
        "lt-sft": rows(entries + overlaps["lt-sft"]),
        "deft-x": rows(overlaps["deft-x"], "deft-x"),
        "zero-shot": rows([], "zero-shot"),
    }
    for name, frame in frames.items():
        frame.to_csv(tmp_path / f"{name}.csv", index=False)
    found = run(tmp_path, evaluated, diagnostics=[tmp_path / f"{name}.csv" for name in frames])
    shape = found["Language masks are U-shaped over the layers"]
    assert (shape["verdict"], shape["n"]) == (HOLDS, "2 languages")
    assert float(shape["ours"]) == pytest.approx(3.05)
    share = found["Share of a language mask's entries in the embeddings"]
    assert (share["verdict"], float(share["ours"])) == (NOTHING, 0)
    overlap = found["DeFT-X's language and task vectors overlap less than LT-SFT's"]
    assert (overlap["verdict"], float(overlap["ours"])) == (HOLDS, pytest.approx(-0.1))
    assert "Task masks have the inverted shape" not in found  # no row about it


def test_words_are_those_of_unlabelled_text(tmp_path):
    path = tmp_path / "coverage.csv"
    path.write_text(
        "language,dataset,split,labelled,words\n"
        "ace,text,train,False,100\nace,nusax,train,True,7\nace,nusax,test,True,5\n"
        "nan,text,train,False,30\n"
    )
    assert _words(path) == {"ace": 100, "nan": 30}
    assert _words(None) == {}


def test_csv_that_is_not_what_is_read_is_refused(tmp_path):
    path = tmp_path / "coverage.csv"
    with pytest.raises(ArtefactError, match=r"coverage.csv: no such file"):
        read_csv(path, language=str)
    path.write_text("language,words\nnan,many\n")
    with pytest.raises(ArtefactError, match="no column split, found language, words"):
        read_csv(path, split=str)
    with pytest.raises(ArtefactError, match="expected CSV of words: invalid literal"):
        read_csv(path, words=int)


def test_markdown_says_what_the_csv_says_and_bytes_repeat(evaluated, tmp_path):
    found = run(tmp_path, evaluated, roles={"mad-x": "zero-shot"})
    files = [tmp_path / "claims.csv", tmp_path / "claims.md"]
    first = [path.read_bytes() for path in files]
    lines = {line[0]: line for line in markdown_tables(files[1])[0]}
    for name, row in found.items():
        ours, low, high = (
            f"{float(row[key]):.2f}".replace("-", "−") for key in ("ours", "low", "high")
        )
        assert lines[name][4:] == [ours, f"{low} to {high}", row["n"], row["verdict"]]
    run(tmp_path, evaluated[::-1], roles={"mad-x": "zero-shot"})
    assert [path.read_bytes() for path in files] == first


def test_a_task_belongs_to_a_test_set_by_its_data_and_not_by_its_languages():
    """Other data may be in the same languages, such as topics or tags."""
    task = {"metric": "accuracy", "source": "eng", "languages": ["ace", "jav"]}
    claim = next(c for c in load_claims().claims if c.published[0].test_set == "NusaX")
    for dataset, languages in (("nusax", ["ace"]), ("topics", ["ace", "jav"])):
        one = {"systems": ["a"], "tasks": {"t": {**task, "dataset": dataset}}}
        assert library._setting(Comparison.model_validate(one), claim, "t")[0] == languages
