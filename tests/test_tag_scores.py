"""The laws of the scores of tagging: of words, of entities, of resampled sentences, and where they
are shown."""

import json
from collections import Counter
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from test_tables import LANGUAGES, markdown_tables, rows, save_evaluations
from tiny_config import TINY, with_change
from workspace import plan_of

from deftx.plan.artefact import Artefact
from deftx.report.comparison import Comparison
from deftx.report.evaluations import load_evaluations
from deftx.report.figures.transfer import transfer_figure
from deftx.report.metrics import Answers
from deftx.report.scores import draw, transfer
from deftx.report.statistics import Resamples
from deftx.stages.table import PAGES
from deftx.stages.tables.run import tables
from deftx.store.errors import ArtefactError, InputError
from deftx.store.items import write_items
from deftx.store.tensors import encode_ids, save_tensors
from deftx.tasks.measures import MEASURES
from deftx.tasks.tagging.measures import CONTEXT, EXAMPLES, LONGEST

TAGGING = MEASURES["tagging"]
ENTITIES = "B-LOC B-ORG B-PER I-LOC I-ORG I-PER O".split()
UPOS = "ADJ ADP ADV AUX CCONJ DET INTJ NOUN NUM PART PRON PROPN PUNCT SCONJ SYM VERB X".split()

Tags = list[list[str]]


def answers(labels: Tags, predictions: Tags, classes: list[str] = ENTITIES) -> Answers:
    """Sentences of tags as numbers."""
    flat = (
        np.array([classes.index(tag) for s in each for tag in s]) for each in (labels, predictions)
    )
    return Answers(*flat, np.cumsum([len(sentence) for sentence in labels]), tuple(classes))


def score(metric: str, found: Answers) -> float:
    used = TAGGING.metrics[metric]
    return float(used.score(used.counts(found).sum(axis=0)))


def drawn(seed: int, classes: list[str] = ENTITIES, sentences: int = 8) -> tuple[Tags, Tags]:
    """Random sentences, of one word or more, in any order of tags; half of the tags are right."""
    draw = np.random.default_rng(seed)
    weights = draw.dirichlet(np.full(len(classes), 0.6))

    def tags(n: int) -> list[str]:
        return draw.choice(classes, n, p=weights).tolist()

    labels = [tags(draw.integers(1, draw.choice([2, 4, 30]))) for _ in range(sentences)]
    predictions = [
        [a if draw.random() < 0.5 else b for a, b in zip(s, tags(len(s)), strict=True)]
        for s in labels
    ]
    return labels, predictions


# Entities


def by_rules(tags: list[str]) -> set[tuple[int, int, str]]:
    """The oracle: entities of one sentence by the two rules of conlleval, word by word. A chunk
    ends before B and O, and where the type changes; it starts at B, at I after O, and where the
    type changes."""
    found, begin = set(), None
    for at, (now, kind) in enumerate([(t[0], t[2:]) for t in [*tags, "O"]]):
        before, former = (tags[at - 1][0], tags[at - 1][2:]) if at else ("O", "")
        ends = before != "O" and (now in "BO" or former != kind)
        starts = now != "O" and (now == "B" or before == "O" or former != kind)
        if ends:
            found.add((begin, at, former))
        if starts:
            begin = at
    return found


def plain_counts(labels: Tags, predictions: Tags) -> dict[str, Counter]:
    """Type → numbers of entities found, labelled and predicted."""
    counts = {kind: Counter() for kind in ("LOC", "ORG", "PER")}
    for sentence, predicted in zip(labels, predictions, strict=True):
        ours, theirs = by_rules(sentence), by_rules(predicted)
        for what, spans in (("right", ours & theirs), ("gold", ours), ("predicted", theirs)):
            for *_, kind in spans:
                counts[kind][what] += 1
    return counts


def f1(count: Counter) -> float:
    return 2 * count["right"] / max(1, count["gold"] + count["predicted"])


HOSTILE = [
    ([["I-PER"]], [["B-PER"]]),
    ([["B-PER", "I-LOC", "I-LOC"]], [["B-PER", "B-LOC", "I-LOC"]]),
    ([["B-PER", "I-PER"], ["I-PER"]], [["B-PER", "I-PER"], ["B-PER"]]),
    ([["B-PER"], ["I-PER"]], [["B-PER"], ["I-PER"]]),
    ([["B-PER", "B-PER", "I-PER"]], [["B-PER", "I-PER", "I-PER"]]),
    ([["B-PER", "I-PER", "O", "B-LOC"]], [["B-PER", "I-PER", "I-LOC", "B-LOC"]]),
    ([["O", "O"]], [["O", "O"]]),
    ([["O", "O"]], [["I-ORG", "O"]]),
    ([["B-ORG", "O"]], [["O", "O"]]),
    ([["I-ORG", "I-PER", "I-ORG"]], [["I-ORG", "I-PER", "I-ORG"]]),
]
CASES = [*HOSTILE, *map(drawn, range(200))]


def test_entities_are_those_of_the_rules_of_conlleval_word_by_word():
    for labels, predictions in CASES:
        found, counts = answers(labels, predictions), plain_counts(labels, predictions)
        more, types = TAGGING.more(found), TAGGING.classes(found)
        total = sum(counts.values(), Counter())
        assert score("entity_f1", found) == more["entity_f1"] == f1(total)
        assert more["entity_precision"] == total["right"] / max(1, total["predicted"])
        assert more["entity_recall"] == total["right"] / max(1, total["gold"])
        assert more["entity_macro_f1"] == pytest.approx(np.mean([*map(f1, counts.values())]))
        for kind, count in counts.items():
            one = types[kind]
            assert (one.support, one.predicted) == (count["gold"], count["predicted"])
            assert one.f1 == f1(count)


def test_entity_scores_are_those_of_seqeval_in_its_default_mode():
    seqeval = pytest.importorskip("seqeval.metrics")
    for labels, predictions in CASES:
        more = TAGGING.more(answers(labels, predictions))
        types = TAGGING.classes(answers(labels, predictions))
        for name in ("precision", "recall", "f1"):
            theirs = getattr(seqeval, f"{name}_score")(labels, predictions, zero_division=0)
            assert more[f"entity_{name}"] == pytest.approx(theirs, abs=1e-12)
        if not any(one.support + one.predicted for one in types.values()):
            continue  # seqeval averages over no type then
        report = seqeval.classification_report(
            labels, predictions, output_dict=True, zero_division=0
        )
        for kind, one in types.items():
            theirs = report.get(kind, dict.fromkeys(("precision", "recall", "f1-score"), 0))
            assert one[:3] == pytest.approx([*theirs.values()][:3], abs=1e-12)
        assert score("accuracy", answers(labels, predictions)) == pytest.approx(
            seqeval.accuracy_score(labels, predictions)
        )


def test_an_entity_ends_with_its_sentence():
    split, joined = [["B-PER"], ["I-PER"]], [["B-PER", "I-PER"]]
    assert TAGGING.classes(answers(split, split))["PER"].support == 2
    assert TAGGING.classes(answers(joined, joined))["PER"].support == 1


def test_without_an_entity_f1_is_0_and_a_type_that_is_nowhere_counts_as_0():
    nothing = answers([["O", "O"]], [["O", "O"]])
    assert score("entity_f1", nothing) == TAGGING.more(nothing)["entity_f1"] == 0
    one = answers([["B-PER", "O"]], [["B-PER", "O"]])
    assert TAGGING.more(one)["entity_f1"] == 1
    assert TAGGING.more(one)["entity_macro_f1"] == pytest.approx(1 / 3)


def test_invalid_tags_are_predicted_insides_without_a_beginning():
    labels = [["O"] * 4, ["O"] * 4, ["O"], ["B-PER", "I-PER"]]
    predictions = [
        ["I-PER", "I-PER", "I-LOC", "O"],  # the first and the third
        ["B-PER", "I-PER", "O", "I-PER"],  # the last
        ["O"],
        ["B-PER", "I-PER"],
    ]
    more = TAGGING.more(answers(labels, predictions))
    assert (more["invalid_tags"], more["invalid_sentences"]) == (3, 2 / 4)
    swapped = TAGGING.more(answers(predictions, labels))
    assert (swapped["invalid_tags"], swapped["invalid_sentences"]) == (0, 0)


def test_entity_f1_of_other_tags_is_refused_by_name():
    words = answers([["NOUN"]], [["VERB"]], UPOS)
    with pytest.raises(InputError, match="needs the tags O, B-X and I-X of types X, found ADJ"):
        score("entity_f1", words)
    assert TAGGING.more(words) == {"words": 1}
    assert TAGGING.classes(words) is None


# Words


def conll_2018(labels: Tags, predictions: Tags) -> float:
    """The oracle: UPOS F1 of the CoNLL 2018 script. With the words of the labels every word is
    aligned with itself, and F1 is 2·correct / (labelled words + predicted words)."""
    correct = 0
    for sentence, predicted in zip(labels, predictions, strict=True):
        correct += sum(a == b for a, b in zip(sentence, predicted, strict=True))
    return 2 * correct / (sum(map(len, labels)) + sum(map(len, predictions)))


@pytest.mark.parametrize("seed", range(20))
def test_accuracy_of_words_is_the_f1_of_the_conll_2018_script(seed):
    labels, predictions = drawn(seed, UPOS, sentences=30)
    found = answers(labels, predictions, UPOS)
    assert score("accuracy", found) == conll_2018(labels, predictions)


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1", "entity_f1"])
def test_the_bootstrap_resamples_whole_sentences(metric):
    labels, predictions = drawn(5, sentences=30)
    found, ids = answers(labels, predictions), np.array([f"s{i:02}" for i in range(30)])
    used, resamples = TAGGING.metrics[metric], Resamples([ids], times=50)
    scores = resamples.scores([(ids, used.counts(found))], used.score)[0]
    for weights, one in zip(resamples.weights, scores, strict=True):
        which = np.repeat(np.arange(30), weights.astype(int))
        again = answers([labels[i] for i in which], [predictions[i] for i in which])
        assert one == pytest.approx(score(metric, again), abs=1e-12)


# Tables


def words_of(tags: list[str]) -> list[str]:
    return [f"{tag.lower()}{number}" for number, tag in enumerate(tags)]


def save_items(folder: Path, language: str, labels: Tags, dataset: str = "set") -> Path:
    """Test items as the stage `data` writes them."""
    items = [{"id": f"s{i}", "words": words_of(t), "tags": t} for i, t in enumerate(labels)]
    path = folder / "data" / dataset / language / "test.parquet"
    write_items(path, items, stage="data", dataset=dataset, language=language, split="test")
    return path


def save_tagged(
    folder: Path,
    system: str,
    task: str,
    language: str,
    seed: int,
    tags: tuple[Tags, Tags],
    classes: list[str] = ENTITIES,
) -> Path:
    """An artefact as the stage `evaluate` writes it for tagging."""
    found = answers(*tags, classes)
    path = folder / "evaluate" / system / task / language / f"seed{seed}.safetensors"
    tensors = {
        "logits": 9 * torch.eye(len(classes))[found.predictions],
        "labels": torch.tensor(found.labels),
        "ends": torch.tensor(found.ends),
        "ids": encode_ids(f"s{i}" for i in range(len(found.ends))),
    }
    where = {"system": system, "task": task, "language": language, "seed": seed}
    kind = {"classes": classes, "kind": "tagging"}
    save_tensors(path, tensors, stage="evaluate", **where, params=kind)
    return path


SYSTEMS = ["zero-shot", "lt-sft", "deft-x"]


def comparison(**changes: object) -> Comparison:
    ner = {"kind": "tagging", "metric": "entity_f1", "source": "eng", "languages": LANGUAGES}
    pos = {**ner, "metric": "accuracy", "dataset": "pos-set"}
    mood = {"metric": "macro_f1", "source": "eng", "languages": LANGUAGES}
    tasks = {"mood": mood, "ner": {**ner, "dataset": "ner-set"}, "pos": pos}
    return Comparison.model_validate({"systems": SYSTEMS, "tasks": tasks, **changes})


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """Evaluations and test items of three tasks."""
    folder = tmp_path_factory.mktemp("run")
    save_evaluations(folder)
    for number, language in enumerate(LANGUAGES):
        for task, classes in (("ner", ENTITIES), ("pos", UPOS)):
            labels = drawn(number, classes, 20)[0]
            save_items(folder, language, labels, f"{task}-set")
            for system in SYSTEMS:
                draw = np.random.default_rng([number, SYSTEMS.index(system)])
                predictions = [
                    [t if draw.random() < 0.6 else draw.choice(classes) for t in s] for s in labels
                ]
                tags = (labels, predictions)
                save_tagged(folder, system, task, language, 0, tags, classes)
    return folder


@pytest.fixture(scope="module")
def written(run) -> Path:
    items = sorted((run / "data").rglob("*.parquet"))
    tables(comparison(), evaluated=[run / "evaluate"], test=items, out=run / "tables/transfer.csv")
    return run / "tables"


def evaluated(run: Path, task: str, system: str, language: str) -> Answers:
    key = (task, system, language, 0)
    every = load_evaluations([run / "evaluate"], comparison())
    return next(e.answers for e in every if e.key == key)


def test_the_csv_files_have_the_columns_of_all_tasks_and_classification_has_its_own_only(
    run, written, tmp_path
):
    own = ["accuracy", "macro_f1", "nll", "brier", "ece"]
    more = ["words", "entity_precision", "entity_recall", "entity_f1", "entity_macro_f1"]
    more += ["invalid_tags", "invalid_sentences"]
    found = rows(written / "scores.csv")
    assert [*found[0]] == ["task", "system", "language", "seed", "items", *own, *more]
    for row in found:
        if row["task"] == "mood":
            assert [row[name] for name in more] == [""] * len(more)
            continue
        expected = TAGGING.more(evaluated(run, row["task"], row["system"], row["language"]))
        assert row["items"] == "20" and row["words"] == str(expected["words"])
        for name in more[1:]:
            assert row[name] == "" or float(row[name]) == pytest.approx(expected[name], abs=1e-6)
        assert (row["entity_f1"] == "") == (row["task"] == "pos")
    alone = comparison(tasks={"mood": comparison().tasks["mood"].model_dump()})
    tables(alone, evaluated=[run / "evaluate"], out=tmp_path / "transfer.csv")
    assert [*rows(tmp_path / "scores.csv")[0]][5:] == own
    alone = markdown_tables(tmp_path / "transfer.md")
    assert markdown_tables(written / "transfer.md")[: len(alone)] == alone


def test_the_rows_of_classes_are_types_of_entities_counted_in_entities(run, written):
    found = [r for r in rows(written / "classes.csv") if r["task"] == "ner"]
    for system, language in product(SYSTEMS, LANGUAGES):
        mine = [r for r in found if (r["system"], r["language"]) == (system, language)]
        types = TAGGING.classes(evaluated(run, "ner", system, language))
        assert [row["class_name"] for row in mine] == [*types] == ["LOC", "ORG", "PER"]
        for row, one in zip(mine, types.values(), strict=True):
            assert (int(row["support"]), int(row["predicted"])) == one[3:]
            assert float(row["f1"]) == pytest.approx(one.f1, abs=1e-6)
    words = [r["class_name"] for r in rows(written / "classes.csv") if r["task"] == "pos"]
    assert words[: len(UPOS)] == UPOS


def test_the_wide_table_has_the_entity_f1_and_its_caption_the_convention(run, written):
    text = (written / "transfer.md").read_text(encoding="utf-8")
    assert "entity F1 (micro, exact words and type, conlleval's convention) in percent" in text
    assert "accuracy over all words in percent" in text
    for row in rows(written / "transfer.csv"):
        if row["task"] == "ner" and row["language"] in LANGUAGES:
            found = evaluated(run, "ner", row["system"], row["language"])
            assert float(row["mean"]) == pytest.approx(score("entity_f1", found), abs=1e-6)


def test_shares_are_of_words_by_type_of_entity(run, written):
    text = (written / "transfer.md").read_text(encoding="utf-8")
    assert "Shares of LOC / ORG / PER / O in percent" in text
    assert "interval over sentences" in text
    table = [t for t in markdown_tables(written / "transfer.md") if t[1][0] == "(labels)"][1]
    types = [tag.removeprefix("B-").removeprefix("I-") for tag in ENTITIES]
    for column, language in enumerate(LANGUAGES, 1):
        of = evaluated(run, "ner", "deft-x", language)
        for line, tags in (("(labels)", of.labels), ("deft-x", of.predictions)):
            count = Counter(types[tag] for tag in tags)
            shares = [f"{100 * count[t] / len(tags):.0f}" for t in ("LOC", "ORG", "PER", "O")]
            assert next(row for row in table if row[0] == line)[column] == " / ".join(shares)


def test_shares_of_many_classes_are_a_row_each_beside_those_of_the_reference(run, written):
    table = next(t for t in markdown_tables(written / "transfer.md") if t[1][0] == UPOS[0])
    assert [line[0] for line in table[1:]] == UPOS
    for column, language in enumerate(LANGUAGES, 1):
        of = evaluated(run, "pos", "lt-sft", language)
        for tag, line in enumerate(table[1:]):
            share, predicted = (100 * (each == tag).mean() for each in of[:2])
            assert line[column] == f"{share:.1f} / {predicted:.1f}"


def test_confusions_are_counted_for_the_best_system_and_the_ten_worst_are_shown(run, written):
    means = {r["system"]: float(r["mean"]) for r in rows(written / "transfer.csv")
             if (r["task"], r["language"]) == ("pos", "mean")}  # fmt: skip
    best = max(means, key=means.get)
    found = [row for row in rows(written / "confusions.csv") if row["task"] == "pos"]
    assert {row["system"] for row in found} == {best}
    expected, targets = Counter(), Counter()
    for language in LANGUAGES:
        mine = evaluated(run, "pos", best, language)
        for label, predicted in zip(mine.labels, mine.predictions, strict=True):
            pair = UPOS[label], UPOS[predicted]
            expected[language, *pair] += 1
            targets[pair] += language != "eng" and label != predicted
    counts = {(r["language"], r["label"], r["predicted"]): int(r["count"]) for r in found}
    assert counts == expected
    shown = next(
        table for table in markdown_tables(written / "transfer.md")
        if table[0][1:3] == ["all", "of the label"] and table[1][0].split(" → ")[0] in UPOS
    )  # fmt: skip
    assert len(shown) == 11
    assert r" $\rightarrow$ " in (written / "transfer.tex").read_text(encoding="utf-8")
    pairs = {tuple(line[0].split(" → ")): int(line[1]) for line in shown[1:]}
    assert [*pairs.values()] == sorted(targets.values(), reverse=True)[:10]
    assert all(targets[pair] == count for pair, count in pairs.items())


def test_a_run_without_tagging_has_no_example_and_no_table_of_confusions(run, tmp_path):
    alone = comparison(tasks={"mood": comparison().tasks["mood"].model_dump()})
    tables(alone, evaluated=[run / "evaluate"], out=tmp_path / "transfer.csv")
    assert json.loads((tmp_path / "examples.json").read_text()) == {"examples": []}
    assert "confusions" not in (tmp_path / "transfer.md").read_text(encoding="utf-8")


def test_a_task_of_another_kind_than_planned_is_refused(run):
    ner = comparison().tasks["ner"].model_dump() | {"kind": "classification", "metric": "accuracy"}
    with pytest.raises(ArtefactError, match="of tagging, expected classification"):
        load_evaluations([run / "evaluate"], comparison(tasks={"ner": ner}))


@pytest.mark.parametrize(
    ("kind", "metric", "message"),
    [
        ("classification", "entity_f1", "classification has accuracy, macro_f1, not entity_f1"),
        ("parsing", "accuracy", "kind: 'parsing', expected one of classification, tagging"),
    ],
)
def test_a_metric_that_a_kind_of_task_has_not_is_refused(kind, metric, message):
    task = {"kind": kind, "metric": metric, "source": "eng", "languages": LANGUAGES}
    with pytest.raises(ValueError, match=message):
        comparison(tasks={"task": task})


def test_a_figure_has_a_line_of_chance_only_for_metrics_with_a_chance(run):
    for task, lines in (("ner", 0), ("pos", 1)):
        one = comparison(tasks={task: comparison().tasks[task].model_dump()})
        draws = draw(one, load_evaluations([run / "evaluate"], one))
        figure = transfer_figure(one, transfer(one, draws), draws, {task: 7})
        dashed = [
            line
            for axes in figure.findobj(lambda each: hasattr(each, "get_lines"))
            for line in axes.get_lines()
            if line.get_linestyle() == "--"
        ]
        assert len(dashed) == lines * len(one.columns(task))
        texts = " ".join(
            text.get_text() for text in figure.findobj(lambda t: hasattr(t, "get_text"))
        )
        assert ("Dashed line: chance." in texts) == bool(lines)


# Examples of errors


def examples(labels: Tags, predictions: Tags, classes: list[str] = ENTITIES) -> list[dict]:
    items = [{"id": f"s{i}", "words": words_of(tags)} for i, tags in enumerate(labels)]
    return TAGGING.examples(answers(labels, predictions, classes), items)


def marked(parts: list[dict]) -> list[tuple[str, str, bool]]:
    return [(p["text"], p["mark"], p["wrong"]) for p in parts]


def test_an_example_marks_the_entities_of_labels_and_predictions():
    labels, predictions = ["O", "B-PER", "I-PER", "B-LOC"], ["O", "B-PER", "O", "B-LOC"]
    (found,) = examples([["O"], labels], [["O"], predictions])
    assert found["id"] == "s1"
    assert marked(found["labels"]) == [
        ("o0", "", False),
        ("b-per1 i-per2", "PER", True),
        ("b-loc3", "LOC", False),
    ]
    assert marked(found["predictions"]) == [
        ("o0", "", False),
        ("b-per1", "PER", True),
        ("i-per2", "", False),
        ("b-loc3", "LOC", False),
    ]


def test_an_example_marks_words_with_a_wrong_tag_where_tags_are_no_entities():
    (found,) = examples([["DET", "NOUN", "VERB"]], [["DET", "VERB", "VERB"]], UPOS)
    assert marked(found["labels"]) == [
        ("det0", "", False),
        ("noun1", "NOUN", True),
        ("verb2", "", False),
    ]
    assert marked(found["predictions"])[1] == ("noun1", "VERB", True)


def test_examples_are_few_and_evenly_spaced_among_sentences_with_errors():
    labels = [["NOUN"]] * 100
    predictions = [["VERB" if number % 10 == 3 else "NOUN"] for number in range(100)]
    assert [e["id"] for e in examples(labels, predictions, UPOS)] == ["s3", "s43", "s93"]
    assert len(examples(labels, predictions, UPOS)) == EXAMPLES
    assert examples(labels, labels, UPOS) == []


def test_a_sentence_of_2000_words_is_shortened_around_its_errors():
    labels = [["NOUN"] * 2000]
    one = [[*["NOUN"] * 1000, "VERB", *["NOUN"] * 999]]
    (found,) = examples(labels, one, UPOS)
    around = [f"noun{n}" for n in range(1000 - CONTEXT, 1001 + CONTEXT)]
    texts = [part["text"] for part in found["labels"]]
    assert texts == ["…", " ".join(around[:CONTEXT]), "noun1000", " ".join(around[-CONTEXT:]), "…"]
    (found,) = examples(labels, [["VERB"] * 2000], UPOS)
    assert [p["text"] for p in found["labels"]] == [*(f"noun{n}" for n in range(LONGEST)), "…"]
    whole = ["B-PER", *["I-PER"] * 1999]
    (found,) = examples([whole], [["O"] * 2000])
    assert len(found["labels"]) == 2 and found["labels"][0]["mark"] == "PER"


def test_examples_of_other_items_are_refused(run, tmp_path):
    only = comparison(tasks={"ner": comparison().tasks["ner"].model_dump()})
    for change, message in (
        (lambda tags: tags[:-1], "not the items on which .* was evaluated on ner"),
        (lambda tags: [[*tags[0], "O"], *([*t, "O"] for t in tags[1:])], "words, evaluated were"),
    ):
        items = save_items(tmp_path, "ace", change(drawn(1, ENTITIES, 20)[0]), "ner-set")
        with pytest.raises(ArtefactError, match=message):
            tables(
                only,
                evaluated=[run / "evaluate"],
                test=[items],
                out=tmp_path / "out/transfer.csv",
            )


def test_examples_are_of_the_best_system_in_each_language(run, written):
    found = json.loads((written / "examples.json").read_text(encoding="utf-8"))["examples"]
    best = {r["task"]: r["system"] for r in rows(written / "confusions.csv")}
    assert {(e["task"], e["system"]) for e in found} == {(t, best[t]) for t in ("ner", "pos")}
    assert {e["language"] for e in found} == {*LANGUAGES}
    assert len(found) == 2 * len(LANGUAGES) * EXAMPLES


def test_tables_read_test_items_of_tagging_tasks_only_and_know_their_kind():
    def add_tagging(raw: dict) -> None:
        raw["datasets"]["tags"] = {"world": "tags", "items": {"train": 9, "valid": 9, "test": 9}}
        parts = {s: {"dataset": "tags", "split": s} for s in ("train", "valid", "test")}
        tags = sorted({"ADJ", "ADV", "DET", "NOUN", "PUNCT", "VERB"})
        raw["tasks"]["pos"] = {"kind": "tagging", "classes": tags, "source": "qaa", **parts}

    before, after = plan_of(TINY), plan_of(with_change(add_tagging))
    tables_of = Artefact.of("tables")
    assert before.inputs(tables_of)["test"] == []
    assert {a["dataset"] for a in after.inputs(tables_of)["test"]} == {"tags"}
    params = after.params(tables_of)
    kinds = {task: of.get("kind") for task, of in params["tasks"].items()}
    assert kinds == {"sentiment": None, "pos": "tagging"}
    shown = Comparison(systems=params["systems"], tasks=params["tasks"])
    assert shown.metric("pos").in_full == "accuracy over all words"
    changed = {a.stage for a in before.artefacts if before.params(a) != after.params(a)}
    assert changed <= {"config", "coverage", *PAGES}
