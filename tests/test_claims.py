"""Claims: the verdict's rule, every statistic beside a plain count, and what a run may say."""

import csv
import tempfile
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from test_tables import save_evaluation

from deftx.report import claim_statistics
from deftx.report import evidence as library
from deftx.report.claim_statistics import MEASURES, embeddings_lead, embeddings_share, layer_shape
from deftx.report.claims import HOLDS, NOTHING, OPEN, REFUTED, Claim, load_claims
from deftx.report.comparison import Comparison
from deftx.report.evaluations import Evaluation
from deftx.report.evidence import Case, Estimate, Evidence, over_units, rank_correlation
from deftx.report.places import NO_LAYER
from deftx.report.scores import differences, draw
from deftx.stages.claims.run import Params, claims
from deftx.store.errors import ArtefactError
from deftx.store.tensors import TensorFile, save_tensors

AT_PAR = (-PAR, PAR)


@pytest.mark.parametrize(
    ("low", "high", "region", "expected"),
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
        (0.1, 2.0, None, NOTHING),
    ],
)
def test_a_verdict_needs_the_whole_interval_on_one_side(low, high, region, expected):
    assert verdict(Estimate(0.0, low, high, ""), region) == expected


def test_one_training_decides_nothing():
    assert verdict(Estimate(1.0, 0.5, 1.5, "", decides=False), ABOVE) == OPEN
    skills = {"a": {"qaa": [0.9]}, "b": {"qaa": [0.1]}}
    found = claim_statistics.difference(evidence(skills), "mood", ["a", "b"], ["qaa"])
    assert found.low > 0
    assert verdict(found, ABOVE) == OPEN
    skills = {"a": {"qaa": [0.9, 0.9]}, "b": {"qaa": [0.1, 0.2]}}
    found = claim_statistics.difference(evidence(skills), "mood", ["a", "b"], ["qaa"])
    assert verdict(found, ABOVE) == HOLDS


# Units


def test_interval_over_units_is_students():
    values = [0.3, 1.4, 0.9, -0.2]
    oracle = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    found = over_units(values, "language")
    assert found.value == pytest.approx(np.mean(values))
    assert (found.low, found.high) == pytest.approx((oracle.low, oracle.high))
    assert found.n == "4 languages"


def test_one_unit_has_no_interval():
    assert over_units([0.5], "seed") == Estimate(0.5, None, None, "1 seed")


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


def constructed(system: str, language: str, seed: int, right: np.ndarray) -> Evaluation:
    """Two classes; `right` tells which items are predicted as they are labelled."""
    labels = torch.arange(len(right)) % 2
    predictions = torch.where(torch.tensor(right), labels, 1 - labels)
    ids = "\n".join(f"item-{i:04}" for i in range(len(right))).encode()
    with tempfile.TemporaryDirectory() as folder:
        save_tensors(
            Path(folder) / "seed.safetensors",
            {
                "logits": torch.nn.functional.one_hot(predictions, 2).float(),
                "labels": labels,
                "ids": torch.frombuffer(bytearray(ids), dtype=torch.uint8),
            },
            stage="evaluate",
            **{"system": system, "task": "mood", "language": language, "seed": seed},
            params={"classes": ["bad", "good"]},
        )
        return load_evaluation(Path(folder) / "seed.safetensors")


LANGUAGES = ["qaa", "qab", "qac"]


def comparison(systems: list[str], **changes) -> Comparison:
    task = {"metric": "accuracy", "source": "eng", "languages": LANGUAGES, **changes}
    return Comparison.model_validate({"systems": systems, "tasks": {"mood": task}})


def evidence(skills: dict[str, dict[str, list[float]]], items: int = 400, **parts) -> Evidence:
    """system → language → skill with each seed; the same noise for all systems."""
    evaluations = []
    for system, languages in skills.items():
        for language, each in languages.items():
            for seed, skill in enumerate(each):
                noise = np.random.default_rng([LANGUAGES.index(language), seed]).random(items)
                evaluations.append(constructed(system, language, seed, noise < skill))
    found = Comparison.model_validate(
        {
            "systems": list(skills),
            "tasks": {
                "mood": {
                    "metric": "accuracy",
                    "source": "eng",
                    "languages": list(next(iter(skills.values()))),
                }
            },
        }
    )
    return Evidence(found, evaluations, parts.get("diagnostics", rows([])), parts.get("words", {}))


def rows(lines: list[tuple], system: str = "lt-sft") -> pd.DataFrame:
    """Diagnostics of a system on the task `mood`: (seed, measure, a, b, layer, part, value)."""
    columns = ["seed", "measure", "a", "b", "layer", "part", "value"]
    return pd.DataFrame(lines, columns=columns).assign(system=system, task="mood")


def test_with_one_seed_a_difference_is_the_tables():
    skills = {
        "a": {key: [0.6] for key in LANGUAGES},
        "b": {key: [0.5 + 0.1 * i] for i, key in enumerate(LANGUAGES)},
    }
    mine = evidence(skills)
    evaluations = [
        constructed(s, key, 0, np.random.default_rng([LANGUAGES.index(key), 0]).random(400) < skill)
        for s, languages in skills.items()
        for key, (skill,) in languages.items()
    ]
    table = comparison(["a", "b"])
    (gap,) = (g for g in differences(table, draw(table, evaluations)) if g.language == "mean")
    found = MEASURES["difference"](Case(mine, "mood", ["b", "a"], LANGUAGES))
    expected = 100 * np.array([gap.difference, gap.low, gap.high])
    assert found[:3] == pytest.approx(expected)
    assert found.n == "3 languages, 400 items, 1 seed"


def test_systems_share_the_draws_of_seeds():
    skills = {"a": {"qaa": [0.0, 1.0, 0.0]}, "b": {"qaa": [0.0, 1.0, 0.0]}}
    found = claim_statistics.difference(evidence(skills), "mood", ["a", "b"], ["qaa"])
    assert found[:3] == (0, 0, 0)


def test_wins_count_languages_and_ties_by_half():
    skills = {
        "a": {"qaa": [0.9], "qab": [0.5], "qac": [0.3]},
        "b": {"qaa": [0.2], "qab": [0.5], "qac": [0.8]},
    }
    found = MEASURES["wins"](Case(evidence(skills), "mood", ["a", "b"], LANGUAGES))
    assert found[:3] == (0.5, 0.5, 0.5)


def test_gain_and_corpus_leave_out_languages_without_text():
    skills = {
        "a": {"qaa": [0.9], "qab": [0.7], "qac": [0.8]},
        "b": {"qaa": [0.5], "qab": [0.5], "qac": [0.5]},
    }
    words = {"qaa": 10, "qab": 1000, "qac": 100}
    mine = evidence(skills, words=words)
    found = MEASURES["gain_and_corpus"](Case(mine, "mood", ["a", "b"], LANGUAGES))
    assert found[:3] == (pytest.approx(-1), None, None)
    fewer = evidence(skills, words={"qaa": 10, "qab": 1000})
    assert MEASURES["gain_and_corpus"](Case(fewer, "mood", ["a", "b"], LANGUAGES)) is None


def test_loss_and_score_average_the_loss_over_seeds():
    losses = {"qaa": (1.0, 1.2), "qab": (5.0, 0.9), "qac": (2.0, 2.0)}
    lines = [
        (str(seed), "held_out_loss", f"lang-{key}", "", "", "", loss)
        for key, each in losses.items()
        for seed, loss in enumerate(each)
    ]
    skills = {"lt-sft": {"qaa": [0.9], "qab": [0.5], "qac": [0.7]}}
    mine = evidence(skills, diagnostics=rows(lines))
    found = MEASURES["loss_and_score"](Case(mine, "mood", ["lt-sft"], LANGUAGES))
    assert found.value == pytest.approx(-1)


# Vectors

AYMARA = [1.25, *(0.52, 0.47, 0.44, 0.42, 0.38, 0.40, 0.42, 0.47, 0.51, 0.61, 0.85, 0.95)]
NLI = [1.40, *(1.01, 0.97, 1.03, 1.05, 1.13, 1.20, 1.29, 1.29, 1.24, 1.06, 0.75, 0.74)]
SENTIMENT = [0.45, *(1.27, 1.28, 1.33, 1.27, 1.30, 1.34, 1.30, 1.14, 0.94, 0.76, 0.64, 1.15)]
"""Millions of entries of the released vectors: embeddings, then the layers (read off a plot)."""


def layers(millions: list[float]) -> dict[str, float]:
    return {NO_LAYER if i == 0 else str(i - 1): value for i, value in enumerate(millions)}


def test_published_shapes_are_what_the_statistics_give():
    assert bend(layers(AYMARA)) == pytest.approx(1.43, abs=0.005)
    assert bend(layers(NLI)) == pytest.approx(0.80, abs=0.005)
    assert bend(layers(SENTIMENT)) == pytest.approx(0.85, abs=0.005)
    assert embeddings_lead(layers(AYMARA)) == pytest.approx(3.9, abs=0.1)
    assert embeddings_lead(layers(NLI)) == pytest.approx(0.8, abs=0.1)
    assert embeddings_lead(layers(SENTIMENT)) == pytest.approx(-6.3, abs=0.1)
    assert embeddings(layers([19.7, 40.0, 40.3])) == pytest.approx(19.7)


@pytest.mark.parametrize(
    ("count", "middle"),
    [(3, [1]), (4, [1, 2]), (6, [2, 3]), (12, [4, 5, 6, 7]), (24, range(8, 16))],
)
def test_thirds_are_symmetric_and_the_middle_one_is_a_third(count, middle):
    flat = [0.0, *(2.0 if i in middle else 3.0 for i in range(count))]
    assert bend(layers(flat)) == 1.5


def test_fewer_than_three_layers_have_no_shape():
    assert bend(layers([1.0, 2.0, 3.0])) is None
    assert bend(layers([1.0, 2.0, 0.0, 3.0])) is None


SKILLS = {"lt-sft": {key: [0.5] for key in LANGUAGES}}


def test_shapes_of_languages_are_means_over_seeds_and_of_tasks_over_languages():
    def entry(target, seed, layer, part, value):
        return seed, "entries", target, "", layer, part, value

    lines = []
    for target, seed, outer in [
        ("lang-qaa", "0", 2.0),
        ("lang-qaa", "1", 4.0),
        ("lang-qab", "0", 1.0),
        ("task-mood", "0", 0.5),
        ("task-mood", "1", 0.7),
        ("lang-eng", "0", 100.0),
    ]:
        for layer, whole in (("0", outer), ("1", 1.0), ("2", outer)):
            lines.append(entry(target, seed, layer, "attention", 0.25 * whole))
            lines.append(entry(target, seed, layer, "other", 0.75 * whole))
    mine = evidence(SKILLS, diagnostics=rows(lines))

    def found(kind):
        return claim_statistics.of_targets(
            mine, "mood", ["lt-sft"], LANGUAGES, kind=kind, statistic=bend
        )

    assert found("language") == over_units([3.0, 1.0], "language")
    assert found("task")[:3] == pytest.approx(over_units([0.5, 0.7], "seed")[:3])
    assert found("task").n == "2 seeds"


def test_pairs_and_stability_are_paired_by_language():
    def both(first, second, measure, b="task-mood"):
        frames = [
            rows([("0", measure, a, b, "", "", v) for a, v in each.items()], system)
            for system, each in (("deft-x", first), ("lt-sft", second))
        ]
        return evidence(
            dict.fromkeys(("deft-x", "lt-sft"), SKILLS["lt-sft"]),
            diagnostics=pd.concat(frames),
        )

    first = {"lang-qaa": 0.2, "lang-qab": 0.4, "lang-qac": 0.5}
    second = {"lang-qaa": 0.3, "lang-qab": 0.1}
    mine = both(first, second, "overlap")
    systems = ["deft-x", "lt-sft"]
    found = claim_statistics.pairs(mine, "mood", systems, LANGUAGES, measure="overlap")
    assert found[:3] == pytest.approx(over_units([-0.1, 0.3], "language")[:3])
    other = both(first, second, "overlap", b="lang-qac")
    assert claim_statistics.pairs(other, "mood", systems, LANGUAGES, measure="overlap") is None
    mine = both({**first, "task-mood": 0.9}, {**second, "task-mood": 0.5}, "jaccard", b="")
    found = MEASURES["stability"](Case(mine, "mood", systems, LANGUAGES))
    assert found[:3] == pytest.approx(over_units([0.4, -0.1, 0.3], "target")[:3])
    alone = MEASURES["stability"](Case(mine, "mood", ["lt-sft"], LANGUAGES))
    assert alone[:3] == pytest.approx(over_units([0.5, 0.3, 0.1], "target")[:3])


def test_between_languages_the_overlap_with_the_task_does_not_count():
    lines = [
        ("0", "overlap", "lang-qaa", "lang-qab", "", "", 0.2),
        ("0", "overlap", "lang-qaa", "lang-qac", "", "", 0.4),
        ("0", "overlap", "lang-qaa", "task-mood", "", "", 0.9),
    ]
    mine = evidence(SKILLS, diagnostics=rows(lines))
    found = MEASURES["between_languages"](Case(mine, "mood", ["lt-sft"], LANGUAGES))
    assert found[:4] == (pytest.approx(0.3), None, None, "2 pairs")


def test_alignment_is_the_lead_of_translations():
    lines = [
        ("0", f"similarity_{kind}", key, "eng", "", "", value)
        for key, matched, others in (("qaa", 0.9, 0.5), ("qab", 0.8, 0.6))
        for kind, value in (("matched", matched), ("mismatched", others))
    ]
    mine = evidence(SKILLS, diagnostics=rows(lines))
    found = MEASURES["alignment"](Case(mine, "mood", ["lt-sft"], LANGUAGES))
    assert found[:3] == pytest.approx(over_units([0.4, 0.2], "language")[:3])


# The table of claims


def test_claims_are_distinct_and_about_known_languages_and_real_intervals():
    assert len({claim.says for claim in CLAIMS}) == len(CLAIMS)
    for claim in CLAIMS:
        assert claim.published, claim.says
        for published in claim.published:
            assert set(published.languages) <= set(TEST_SETS[published.test_set]), claim.says
        assert claim.region is None or claim.region[0] < claim.region[1]
        assert set(claim.roles) <= set(ROLES)


# The stage


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory) -> list[Path]:
    """As test_tables has them: zero-shot is bad, lt-sft and deft-x are about equal."""
    folder = tmp_path_factory.mktemp("results")
    return [
        save_evaluation(folder, system, "mood", language, seed)
        for system, language, seed in product(
            ["zero-shot", "lt-sft", "deft-x"], ["eng", "ace", "ban"], range(2)
        )
    ]


def stage_params(**changes) -> Params:
    task = {"metric": "macro_f1", "source": "eng", "languages": ["eng", "ace", "ban"]}
    systems = ["zero-shot", "lt-sft", "deft-x"]
    return Params.model_validate({"systems": systems, "tasks": {"mood": task}, **changes})


def found_by(path: Path) -> dict[str, dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return {row["claim"]: row for row in csv.DictReader(file)}


def run(tmp_path, evaluated, diagnostics=(), coverage=None, **changes) -> dict[str, dict[str, str]]:
    out = tmp_path / "claims.csv"
    claims(
        stage_params(**changes),
        evaluated=evaluated,
        diagnostics=list(diagnostics),
        coverage=coverage,
        out=out,
    )
    return found_by(out)


def test_claims_about_systems_that_are_not_in_the_run_are_left_out(evaluated, tmp_path):
    found = run(tmp_path, evaluated)
    assert list(found) == [
        "DeFT-X is above LT-SFT",
        "DeFT-X is at par with LT-SFT or above it (within 2 points below)",
    ]
    assert (
        found["DeFT-X is above LT-SFT"]["published"] == "+1.2"
    )  # a task of NusaX, by its languages
    assert found["DeFT-X is above LT-SFT"]["n"] == "2 languages, 120 items, 2 seeds"


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
        ({"mad-x": "mine"}, "roles.mad-x: there is no system 'mine'"),
    ],
)
def test_roles_and_systems_that_there_are_not_are_refused(evaluated, tmp_path, roles, message):
    with pytest.raises(ValueError, match=message):
        run(tmp_path, evaluated, roles=roles)


def test_on_a_published_test_set_only_its_claims_and_languages_count(evaluated, tmp_path):
    found = run(tmp_path, evaluated, roles={"sc-sft": "deft-x", "rand-sft": "zero-shot"})
    assert not any("inference" in claim for claim in found)  # AmericasNLI's
    # English is of NusaX, but not of the languages of the paper; and it is the source here.
    assert found["Rand-SFT is worse than LT-SFT"]["n"].startswith("2 languages")


def test_a_task_of_no_published_test_set_is_measured_over_all_its_languages(evaluated, tmp_path):
    table = stage_params().model_dump()["tasks"]
    table["mood"]["languages"] = ["qaa", "qab"]
    renamed = [
        save_evaluation_of(tmp_path, system, language, seed)
        for system, language, seed in product(["lt-sft", "deft-x"], ["qaa", "qab"], range(2))
    ]
    found = run(
        tmp_path, renamed, systems=["lt-sft", "deft-x"], tasks=table, roles={"sc-sft": "deft-x"}
    )
    assert found["DeFT-X is above LT-SFT"]["published"] == "+1.2 (NusaX); +0.3 (AmericasNLI)"
    assert (
        found["SC-SFT is above LT-SFT (with the shares for inference)"]["published"]
        == "+1.8 (AmericasNLI)"
    )
    assert "DeFT-X is above LT-SFT in Minangkabau" not in found


def save_evaluation_of(folder: Path, system: str, language: str, seed: int) -> Path:
    """An evaluation in a language that test_tables does not have."""
    path = save_evaluation(folder, system, "mood", {"qaa": "ace", "qab": "ban"}[language], seed)
    file = TensorFile(path)
    tensors = {name: file[name].clone() for name in file}
    save_tensors(path, tensors, **{**file.provenance, "language": language, "version": None})
    return path


def save_diagnostics(path: Path, lines: pd.DataFrame) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines.to_csv(path, index=False)
    return path


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
    paths = [
        save_diagnostics(tmp_path / "lt-sft.csv", rows(entries + overlaps["lt-sft"])),
        save_diagnostics(tmp_path / "deft-x.csv", rows(overlaps["deft-x"], "deft-x")),
        save_diagnostics(tmp_path / "zero-shot.csv", rows([], "zero-shot")),
    ]
    found = run(tmp_path, evaluated, diagnostics=paths)
    shape = found["Language masks are U-shaped over the layers"]
    assert (shape["verdict"], shape["n"]) == (HOLDS, "2 languages")
    assert float(shape["ours"]) == pytest.approx(3.05)
    share = found["Share of a language mask's entries in the embeddings"]
    assert (share["verdict"], float(share["ours"])) == (NOTHING, 0)
    overlap = found["DeFT-X's language and task vectors overlap less than LT-SFT's"]
    assert (overlap["verdict"], float(overlap["ours"])) == (HOLDS, pytest.approx(-0.1))
    assert "Task masks have the inverted shape" not in found  # no row about it


def test_words_are_those_of_unlabelled_text(tmp_path):
    from deftx.stages.claims.run import _words

    path = tmp_path / "coverage.csv"
    path.write_text(
        "language,dataset,split,labelled,words\n"
        "ace,text,train,False,100\nace,nusax,train,True,7\nace,nusax,test,True,5\n"
        "ban,text,train,False,30\n"
    )
    assert _words(path) == {"ace": 100, "ban": 30}
    assert _words(None) == {}
    path.write_text("language,split\nace,train\n")
    with pytest.raises(ArtefactError, match="no column 'labelled'"):
        _words(path)


def test_markdown_says_what_the_csv_says_and_bytes_repeat(evaluated, tmp_path):
    found = run(tmp_path, evaluated, roles={"mad-x": "zero-shot"})
    files = [tmp_path / "claims.csv", tmp_path / "claims.md"]
    first = [path.read_bytes() for path in files]
    text = first[1].decode()
    for row in found.values():
        ours, low, high = (
            f"{float(row[k]):.2f}".replace("-", "−") for k in ("ours", "low", "high")
        )
        cells = f"| {ours} | {low} to {high} | {row['n']} |"
        (line,) = (line for line in text.splitlines() if line.startswith(f"| {row['claim']} |"))
        assert cells in line
        assert row["verdict"] in line
    run(tmp_path, evaluated[::-1], roles={"mad-x": "zero-shot"})
    assert [path.read_bytes() for path in files] == first
