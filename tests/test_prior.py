"""A prior on the classes: the bias beside slow, plain ways to it, what it may not know, and where
the systems with it are shown."""

import copy
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.optimize import brentq
from scipy.special import expit, softmax
from test_tables import (
    SYSTEMS,
    Page,
    markdown_tables,
    params,
    rows,
    save_evaluation,
    save_evaluations,
)
from tiny_config import TINY, with_change, with_key
from workspace import Workspace, plan_of, stale

from deftx.models import tokens as tokens_module
from deftx.models.tokens import load_tokens, load_unlabelled
from deftx.plan.artefact import Artefact
from deftx.plan.config import check_config
from deftx.report.comparison import MEAN, SUFFIX
from deftx.report.evaluations import load_evaluations
from deftx.report.figures.transfer import prior_figure
from deftx.report.prior import with_prior
from deftx.report.statistics import interval
from deftx.stages.claims.run import Params as ClaimsParams
from deftx.stages.claims.run import claims
from deftx.stages.data.plan import others
from deftx.stages.prior.math import mean_probabilities, prior_bias, uniform
from deftx.stages.tables.run import tables
from deftx.stages.tokens.run import Params as TokensParams
from deftx.stages.tokens.run import tokens
from deftx.store.errors import ArtefactError, ConfigError, InputError
from deftx.store.items import write_items
from deftx.store.tensors import TensorFile, save_tensors

# The bias


def drawn(items: int, classes: int, scale: float = 2.0, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(items, classes)) * scale


def with_sum_zero(bias: np.ndarray) -> np.ndarray:
    return bias - bias.mean()


def test_bias_of_two_classes_is_the_root_of_one_equation():
    logits = drawn(50, 2)
    gap = logits[:, 1] - logits[:, 0]
    for share in (0.5, 0.03, 0.8):
        shift = brentq(lambda x, s=share: expit(gap + x).mean() - s, -60, 60, xtol=1e-13)
        found = prior_bias(logits, np.array([1 - share, share]))
        assert found == pytest.approx([-shift / 2, shift / 2], abs=1e-7)


def test_bias_of_three_classes_is_that_of_a_search_by_halves():
    """Brute force: for each bias of the second class that of the third is a root, and so is its
    own, since either share rises with its bias."""
    logits, target = drawn(30, 3), np.array([0.2, 0.5, 0.3])

    def share(second: float, third: float) -> np.ndarray:
        return softmax(logits + np.array([0, second, third]), axis=1).mean(axis=0)

    def third_of(second: float) -> float:
        return brentq(lambda x: share(second, x)[2] - target[2], -60, 60, xtol=1e-13)

    second = brentq(lambda x: share(x, third_of(x))[1] - target[1], -30, 30, xtol=1e-13)
    expected = with_sum_zero(np.array([0, second, third_of(second)]))
    assert prior_bias(logits, target) == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("scale", [0.1, 5, 40])
@pytest.mark.parametrize("classes", [2, 3, 7])
@pytest.mark.parametrize("items", [1, 3, 400])
def test_mean_prediction_is_the_target_even_where_almost_all_are_certain(scale, classes, items):
    logits, random = drawn(items, classes, scale), np.random.default_rng(1)
    for target in (uniform(classes), random.dirichlet(np.ones(classes)) * 0.99 + 0.01 / classes):
        bias = prior_bias(logits, target)
        assert abs(mean_probabilities(logits + bias) - target).max() < 1e-9
        assert abs(bias.sum()) < 1e-9


def test_bias_is_zero_if_the_mean_is_the_target_already():
    logits = drawn(40, 3)
    assert (prior_bias(logits, mean_probabilities(logits)) == 0).all()


def test_constants_added_to_an_item_and_the_order_of_items_do_not_matter():
    logits, random = drawn(60, 4), np.random.default_rng(2)
    bias = prior_bias(logits, uniform(4))
    moved = logits + random.normal(size=(60, 1)) * 20
    assert prior_bias(moved, uniform(4)) == pytest.approx(bias, abs=1e-7)
    assert prior_bias(random.permutation(logits), uniform(4)) == pytest.approx(bias, abs=1e-7)
    order = [2, 0, 3, 1]
    assert prior_bias(logits[:, order], uniform(4)) == pytest.approx(bias[order], abs=1e-7)


def test_a_bias_that_logits_have_already_is_taken_out():
    logits, shift = drawn(60, 3), np.array([3.0, -1.0, -2.0])
    moved = prior_bias(logits + shift, uniform(3))
    assert moved + shift == pytest.approx(prior_bias(logits, uniform(3)), abs=1e-7)


def test_what_has_no_bias_is_refused():
    logits = drawn(5, 3)
    absent = logits - [0, 2000, 0]
    for broken, target, message in (
        (absent, uniform(3), "class 1 has probability 0 in all items"),
        (logits * np.inf, uniform(3), "finite logits"),
        (logits[:0], uniform(3), "0 items"),
        (logits, uniform(2), "not a distribution over 3 classes"),
        (logits, [0.5, 0.5, 0.0], "positive probability"),
        (logits, [0.5, 0.5, 0.5], "not a distribution"),
    ):
        with pytest.raises(InputError, match=message):
            prior_bias(broken, np.array(target))


# What it reads


def labelled(count: int, pair: bool = False) -> list[dict[str, str]]:
    items = [{"id": str(i), "text": f"ba be {'bi ' * (i % 5)}"} for i in range(count)]
    return [
        {**item, **({"text_pair": "do du"} if pair else {}), "label": "ab"[int(item["id"]) % 2]}
        for item in items
    ]


@pytest.mark.parametrize("pair", [False, True])
@pytest.mark.parametrize("form", ["parquet", "tokens"])
def test_labels_of_the_items_are_never_read(base, tmp_path, monkeypatch, pair, form):
    """The tokens are those of labelled items, with a label, with another, and without one."""

    def saved(name: str, items: list[dict[str, str]]):
        path = tmp_path / name / "items.parquet"
        write_items(path, items)
        if form == "parquet":
            return path
        out = tmp_path / name / "tokens.safetensors"
        tokens(TokensParams(length=16), base=base.folder, data=path, out=out)
        return out

    items = labelled(9, pair)
    expected = load_tokens(saved("labelled", items), base, 16, ["a", "b"])
    paths = [
        saved("same", items),
        saved("other", [{**item, "label": "of no task"} for item in items]),
        saved("none", [{k: v for k, v in item.items() if k != "label"} for item in items]),
    ]

    def fail(*_):
        raise AssertionError("a label was read")

    monkeypatch.setattr(tokens_module, "_labels", fail)
    monkeypatch.setattr(tokens_module, "load_labelled", fail)
    for path in paths:
        found = load_unlabelled(path, base, 16)
        assert found.labels is None
        assert torch.equal(found.ids, expected.ids)
        for mine, theirs in zip(found, expected, strict=True):
            theirs.pop("labels")
            sentence = theirs.pop("token_type_ids", None)  # for one sentence they are all zero
            assert sentence is None or pair == bool(sentence.any()) or not sentence.any()
            mine.pop("token_type_ids", None)
            assert mine.keys() == theirs.keys()
            assert all(torch.equal(mine[name], theirs[name]) for name in mine)


# The config and the plan

PRIOR = {"items": {"dataset": "sentiment", "split": "valid"}, "languages": ["qta"]}


def prior_config(**changes):
    return with_key("tasks/sentiment/prior", {**PRIOR, **changes})


def test_a_prior_makes_its_own_artefacts_and_pages_and_nothing_stale():
    before, after = plan_of(TINY), plan_of(prior_config())
    found = stale(before, after)
    assert found["prior"] == 3  # one language, three systems, one seed
    pages = {"config", "tables", "claims", "figures", "costs", "cards", "summary"}
    assert set(found) == {"prior", "world", "tokens", *pages}  # the items in a target language
    paths = [after.path(each) for each in after.artefacts if each.stage == "prior"]
    assert {path.split("/")[-2] for path in paths} == {"qta"}


def test_the_source_is_predicted_once_for_each_system_and_seed():
    plan = plan_of(prior_config(target="source", languages=["qta", "qtb"]))
    priors = [each for each in plan.artefacts if each.stage == "prior"]
    sources = [each for each in priors if each["language"] == "qaa"]
    assert len(priors) == 9 and len(sources) == 3
    for each in priors:
        expected = [] if each in sources else [s for s in sources if s["system"] == each["system"]]
        assert plan.inputs(each)["source"] == expected


def _pairs(raw):
    raw["datasets"]["pairs"] = {"files": "{language}/{split}.csv", "columns": {"text_pair": "b"}}
    raw["tasks"]["sentiment"]["prior"] = {"items": {"dataset": "pairs", "split": "train"}}


def _of_files(**changes):
    def change(raw):
        files = {"files": "{language}/{split}.csv", "columns": {"label": "y"}}
        raw["datasets"] |= {"mine": files, "theirs": {**copy.deepcopy(files), **changes}}
        raw["tasks"]["sentiment"]["test"] = {"dataset": "mine", "split": "test"}
        raw["tasks"]["sentiment"]["prior"] = {"items": {"dataset": "theirs", "split": "train"}}

    return with_change(change)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (prior_config(items={"dataset": "sentiment", "split": "test"}), "what the task is tested"),
        (_of_files(splits={"train": "test"}), "what the task is tested on"),
        (_of_files(labels={"1": None}), "leaves items out by their label"),
        (with_change(_pairs), "has pairs of texts"),
        (prior_config(languages=[]), "prior.languages: empty"),
        (prior_config(languages=["qba"]), "no language of the task 'qba'"),
        (prior_config(items={"dataset": "text", "split": "train"}), "does not fit here"),
        (prior_config(items={"dataset": "sentimnt", "split": "valid"}), "sentiment"),
        (prior_config(target="gold"), "uniform"),
    ],
)
def test_what_is_no_prior_is_an_error_of_the_config(raw, message):
    with pytest.raises(ConfigError, match=message):
        check_config(raw)


def test_items_without_a_column_of_labels_are_enough():
    check_config(_of_files(columns={}))


def test_test_items_among_the_items_are_warned_of_as_among_training_data():
    plan = plan_of(_of_files(files="other/{language}/{split}.csv"))
    items, test = (
        Artefact.of("data", dataset=name, language="qta", split=split)
        for name, split in (("theirs", "train"), ("mine", "test"))
    )
    assert [(o["role"], o["name"]) for o in others(plan, items)] == [("test", "mine (test of qta)")]
    assert ("train", "theirs (train of qta)") in [
        (o["role"], o["name"]) for o in others(plan, test)
    ]


# Tables, claims, cards, the figure

BIASES = {"zero-shot": [1.0, -1.0, 0.0], "lt-sft": [0.0, 4.0, -4.0], "deft-x": [0.0, 0.0, 0.0]}
LANGUAGES = ["eng", "ace", "ban"]


def save_priors(folder, seeds: int, classes=("a", "b", "c"), languages=LANGUAGES):
    """Files of the stage `prior`: for each system a bias that grows with the seed."""
    for system in SYSTEMS:
        for language in languages:
            for seed in range(seeds):
                save_tensors(
                    folder / "prior" / system / "mood" / language / f"seed{seed}.safetensors",
                    {"bias": torch.tensor(BIASES[system], dtype=torch.float64) * (1 + seed)},
                    stage="prior",
                    **{"system": system, "task": "mood", "language": language, "seed": seed},
                    params={"classes": list(classes), "target": "uniform"},
                )
    return [folder / "prior"]


def assumed(**changes):
    prior = {"items": "moods (train)", "languages": LANGUAGES, "target": "uniform", **changes}
    task = {**params().tasks["mood"].model_dump(), "prior": prior}
    return params(tasks={"mood": task}, groups={"two": ["ace", "ban"]})


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Evaluations, biases, and tables made from them, with two seeds."""
    folder = tmp_path_factory.mktemp("prior")
    evaluated, priors = save_evaluations(folder, seeds=2), save_priors(folder, 2)
    tables(assumed(), evaluated=evaluated, priors=priors, out=folder / "tables/transfer.csv")
    return folder, evaluated, priors


def shifted(evaluated):
    """The evaluations with the bias, by plain addition, by system, language and seed."""
    found = {}
    for e in load_evaluations(evaluated, params()):
        logits = e.logits + np.array(BIASES[e.system]) * (1 + e.seed)
        found[e.system + SUFFIX, e.language, e.seed] = replace(e, logits=logits)
    return found


def test_systems_with_a_prior_have_the_scores_of_biased_logits_and_a_name_of_their_own(run):
    folder, evaluated, _ = run
    expected = shifted(evaluated)
    scores = {
        (r["system"], r["language"], int(r["seed"])): r for r in rows(folder / "tables/scores.csv")
    }
    mine = {key: row for key, row in scores.items() if key[0].endswith(SUFFIX)}
    assert mine.keys() == {key for key in expected if key[1] in LANGUAGES}  # nah has no items
    for key, row in mine.items():
        assert float(row["macro_f1"]) == pytest.approx(expected[key].metrics.macro_f1, abs=1e-6)
    for row in rows(folder / "tables/prior.csv"):
        members = {MEAN: ["ace", "ban"], "two": ["ace", "ban"]}.get(
            row["language"], [row["language"]]
        )
        after = [float(mine[row["system"], key, s]["macro_f1"]) for key in members for s in (0, 1)]
        name = row["system"].removesuffix(SUFFIX)
        before = [float(scores[name, key, s]["macro_f1"]) for key in members for s in (0, 1)]
        assert float(row["mean"]) == pytest.approx(np.mean(after), abs=1e-6)
        assert float(row["before"]) == pytest.approx(np.mean(before), abs=1e-6)
        assert float(row["change"]) == pytest.approx(np.mean(after) - np.mean(before), abs=1e-6)


def test_a_system_with_a_prior_is_compared_only_with_others_that_have_it(run):
    folder, *_ = run
    for row in rows(folder / "tables/differences.csv"):
        assert row["system"].endswith(SUFFIX) == row["versus"].endswith(SUFFIX)
        assert row["language"] != "nah" or not row["system"].endswith(SUFFIX)
    assert not any(SUFFIX in row["system"] for row in rows(folder / "tables/transfer.csv"))
    for grid in markdown_tables(folder / "tables/transfer.md"):
        names = {line[0] for line in grid[1:]} - {"(labels)"}
        assert len({name.endswith(SUFFIX) for name in names}) == 1
        assert not any("nah" in head.lower() for head in grid[0] if SUFFIX in "".join(names))
    families = pd.read_csv(folder / "tables/differences.csv")
    after = families["system"].str.endswith(SUFFIX)
    assert set(families[~after & (families.language == MEAN)].comparisons) == {3}
    assert set(families[after & (families.language == MEAN)].comparisons) == {3}


def test_change_by_a_prior_is_paired(run):
    _, evaluated, priors = run
    comparison = assumed()
    found = with_prior(comparison, load_evaluations(evaluated, comparison), priors)
    draws = found.draws["mood"]
    for row in found.table().to_dict("records"):
        name = row["system"].removesuffix(SUFFIX)
        gap = draws[row["system"], row["language"]] - draws[name, row["language"]]
        assert (row["change_low"], row["change_high"]) == interval(gap)
        if name == "deft-x":  # its bias is 0
            assert row["change_low"] == row["change_high"] == 0


def test_score_without_the_prior_is_beside_the_score_with_it(run):
    folder, *_ = run
    grids = Page(folder / "tables/transfer.html").tables
    grid = next(g for g in grids if "without" in g[1][1])
    known = {(r["system"], r["language"]): r for r in rows(folder / "tables/prior.csv")}
    columns = [*LANGUAGES, MEAN, "two"]
    for system, *cells in grid[1:]:
        for column, cell in zip(columns, cells, strict=True):
            row = known[system, column]
            assert cell.startswith(f"{100 * float(row['mean']):.1f} ±")
            assert cell.endswith(f"without {100 * float(row['before']):.1f}")


def test_shares_are_those_of_labels_and_predictions(run):
    folder, evaluated, _ = run
    expected, every = shifted(evaluated), load_evaluations(evaluated, params())
    grids = [g for g in markdown_tables(folder / "tables/transfer.md") if g[1][0] == "(labels)"]
    assert len(grids) == 2
    for grid, suffix in zip(grids, ("", SUFFIX), strict=True):
        languages = LANGUAGES if suffix else [*LANGUAGES, "nah"]
        for name, *cells in grid[1:]:
            for language, cell in zip(languages, cells, strict=True):
                if name == "(labels)":
                    of = [e.labels for e in every if e.language == language][:1]
                elif suffix:
                    of = [expected[name, language, seed].logits.argmax(1) for seed in (0, 1)]
                else:
                    of = [
                        e.predictions for e in every if (e.system, e.language) == (name, language)
                    ]
                shares = [np.mean([(each == c).mean() for each in of]) for c in range(3)]
                assert cell == " / ".join(f"{100 * share:.0f}" for share in shares)


def test_run_without_a_prior_has_the_tables_that_it_had(run, tmp_path):
    folder, evaluated, _ = run
    tables(params(groups={"two": ["ace", "ban"]}), evaluated=evaluated, out=tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_bytes() == (folder / "tables/transfer.csv").read_bytes()
    assert rows(tmp_path / "prior.csv") == []
    page = (tmp_path / "t.md").read_text()
    assert SUFFIX not in page
    assert (folder / "tables/transfer.md").read_text().startswith(page)


def test_a_task_or_a_system_without_a_prior_has_no_row(run, tmp_path):
    _, evaluated, priors = run
    other = [
        save_evaluation(tmp_path, "lt-sft", "plain", key, s) for key in LANGUAGES for s in (0, 1)
    ]
    mood = {**assumed().tasks["mood"].model_dump(), "systems": ["zero-shot", "deft-x"]}
    plain = {"metric": "accuracy", "source": "eng", "languages": LANGUAGES, "systems": ["lt-sft"]}
    tables(
        params(tasks={"mood": mood, "plain": plain}),
        evaluated=[*(path for path in evaluated if "lt-sft" not in str(path)), *other],
        priors=priors,
        out=tmp_path / "transfer.csv",
    )
    found = {(row["task"], row["system"]) for row in rows(tmp_path / "prior.csv")}
    assert found == {("mood", "zero-shot + prior"), ("mood", "deft-x + prior")}
    page = (tmp_path / "transfer.md").read_text()
    assert "## mood + prior: differences from zero-shot + prior" in page
    assert "plain + prior" not in page and "lt-sft + prior" not in page


def test_missing_bias_and_one_of_other_classes_are_named(run, tmp_path):
    _, evaluated, _ = run
    comparison = assumed()
    evaluations = load_evaluations(evaluated, comparison)
    few = save_priors(tmp_path / "few", 2, languages=["eng", "ace"])
    with pytest.raises(InputError, match="no prior of zero-shot on mood in ban with seed 0"):
        with_prior(comparison, evaluations, few)
    other = save_priors(tmp_path / "other", 2, classes="bca")
    with pytest.raises(ArtefactError, match="its classes are b, c, a, expected a, b, c"):
        with_prior(comparison, evaluations, other)
    with pytest.raises(ArtefactError, match="made by evaluate, expected prior"):
        with_prior(comparison, evaluations, evaluated[:1])


def test_each_claim_about_scores_is_judged_with_the_prior_too(run, tmp_path):
    folder, evaluated, priors = run
    comparison = ClaimsParams.model_validate(assumed().model_dump())
    diagnostics = tmp_path / "diagnostics.csv"
    diagnostics.write_text("system,task,seed,measure,a,b,layer,part,value\n")
    given = {"evaluated": evaluated, "diagnostics": [diagnostics]}
    claims(comparison, **given, priors=priors, out=tmp_path / "c.csv")
    found = pd.read_csv(tmp_path / "c.csv").set_index("claim")
    plain = [name for name in found.index if "+ prior" not in name]
    assert [f"{name} (+ prior)" for name in plain] == list(found.index[len(plain) :])
    differences = pd.read_csv(folder / "tables/differences.csv")
    gap = differences[(differences.language == MEAN) & (differences.system == "deft-x + prior")]
    gap = float(gap[gap.versus == "lt-sft + prior"].difference.iloc[0])
    assert found.ours["DeFT-X is above LT-SFT (+ prior)"] == pytest.approx(100 * gap, abs=1e-4)
    text = (tmp_path / "c.md").read_text()
    assert "“(+ prior)”" in text
    without = comparison.model_copy(update={"tasks": params().tasks})
    claims(without, **given, out=tmp_path / "d.csv")
    assert "prior" not in (tmp_path / "d.md").read_text()


def test_figure_has_both_marks_of_each_system_where_there_are_items(run):
    _, evaluated, priors = run
    comparison = assumed()
    found = with_prior(comparison, load_evaluations(evaluated, comparison), priors)
    figure = prior_figure(found)
    panels = [axes for part in figure.subfigs for axes in part.axes if axes.get_visible()]
    titles = [axes.get_title(loc="left") for axes in panels]
    assert len(titles) == 5 and not any("Nahuatl" in title for title in titles)
    assert [label.get_text() for label in panels[0].get_yticklabels()] == SYSTEMS
    table = found.table()
    for axes, column in zip(panels, [*LANGUAGES, MEAN, "two"], strict=True):
        marks = [line for line in axes.lines if line.get_marker() not in ("None", None, "")]
        hollow = [m.get_xdata()[0] for m in marks if m.get_markerfacecolor() == "white"]
        filled = [m.get_xdata()[0] for m in marks if m.get_markerfacecolor() != "white"]
        mine = table[table.language == column]
        assert hollow == pytest.approx((100 * mine.before).tolist())
        assert filled == pytest.approx((100 * mine["mean"]).tolist())
        for line in marks:
            low, high = (-0.25, -0.15) if line.get_markerfacecolor() == "white" else (0.15, 0.25)
            row = line.get_ydata()[0] % 1
            assert low < row - (row > 0.5) < high
    words = figure._supxlabel.get_text().replace("\n", " ")
    assert "moods (train), all classes equally often" in words
    assert re.match("No prior: ", prior_figure(None).texts[0].get_text())


# A run


@pytest.mark.workflow
def test_a_run_shows_a_prior_where_a_language_has_items(finished, tmp_path):
    made = Workspace(tmp_path, finished=finished)
    before = made.artefacts()
    made.config["tasks"]["sentiment"]["prior"] = {**PRIOR, "target": "source"}
    made.write_config()

    ran = made.run()

    systems = made.config["systems"]
    assert ran["prior"] == 2 * len(systems)  # in the language and in the source
    assert "evaluate" not in ran or ran["evaluate"] == 0
    assert not {"full", "sparse", "denoise", "mask", "base"} & ran.keys()
    after = made.artefacts()
    assert all(after[name] == before[name] for name in before if name.endswith(".safetensors"))
    found = pd.read_csv(made.results / "tables/prior.csv")
    assert set(found.system) == {f"{name} + prior" for name in systems}
    assert set(found.language) == {"qta", "mean"}
    for system in systems:
        paths = {
            key: TensorFile(made.results / f"prior/{system}/sentiment/{key}/seed0.safetensors")
            for key in ("qta", "qaa")
        }
        source, target = paths["qaa"], paths["qta"]
        assert source["bias"].abs().max() < 1e-12
        mean = mean_probabilities(source["logits"].numpy())
        assert target["target"].numpy() == pytest.approx(mean, abs=1e-12)
        biased = target["logits"].numpy() + target["bias"].numpy()
        assert mean_probabilities(biased) == pytest.approx(mean, abs=1e-9)
        logits = TensorFile(made.results / f"evaluate/{system}/sentiment/qta/seed0.safetensors")
        label = logits["labels"].numpy()
        predicted = (logits["logits"].numpy() + target["bias"].numpy()).argmax(1)
        scores = pd.read_csv(made.results / "tables/scores.csv").set_index(["system", "language"])
        expected = (predicted == label).mean()
        assert scores.accuracy[f"{system} + prior", "qta"] == pytest.approx(expected, abs=1e-6)
    claims = pd.read_csv(made.results / "tables/claims.csv")
    assert "DeFT-X is above LT-SFT (+ prior)" in set(claims.claim)
    card = made.results / "sparse/deft-x/lang-qta/seed0/README.md"
    assert "deft-x + prior" in card.read_text() and "sentiment (valid)" in card.read_text()
    assert "notice" not in (made.results / "figures/prior.svg").read_text()
    assert "sentiment + prior" in (made.results / "summary/index.html").read_text()
