"""Sheets for speakers, the statistics of small scores, alarms, and the choice of a strength."""

import csv
import io
import json
from dataclasses import replace
from math import comb, sqrt

import numpy as np
import pytest
from conftest import PROJECT
from scipy.stats import binom, norm
from sklearn.metrics import confusion_matrix, f1_score

from deftx.adapt import alarms, strength
from deftx.adapt.filled import Labelled, read_filled, read_labelled, read_sheet
from deftx.adapt.score import (
    compared,
    macro_f1_interval,
    markdown,
    mcnemar,
    needed_above,
    needed_between,
    paired_difference,
    reading,
    score,
    score_tables,
    shown,
    wilson,
    write_score,
)
from deftx.adapt.sheet import (
    FEWEST,
    LARGEST_SHARE,
    Sheet,
    draw,
    hold_out,
    make_sheet,
    remaining,
    write_sheet,
)
from deftx.adapt.strength import best, choose_strength, stratified, write_choice
from deftx.adapt.uses import RECORDS
from deftx.stages.clean.math import words
from deftx.store.errors import ArtefactError, DataError, InputError

CLASSES = ["negative", "neutral", "positive"]
SYLLABLES = "ba be bi bo da de di do ka ke ki ko la le li lo ma me mi mo".split()


def lines(count, seed=0, of=8):
    """Items of random words, all with different words."""
    rng = np.random.default_rng(seed)
    texts = ["".join(w) for w in rng.choice(SYLLABLES, (count * of, 3))]
    return [
        {"id": str(n), "text": " ".join(texts[n * of : (n + 1) * of]).capitalize() + "."}
        for n in range(count)
    ]


def labelled(count, seed=0):
    rng = np.random.default_rng(seed)
    drawn = rng.choice(CLASSES, count, p=[0.2, 0.6, 0.2])
    return [
        {**item, "label": str(name)} for item, name in zip(lines(count, seed), drawn, strict=True)
    ]


# --- drawing ---------------------------------------------------------------------------------


def test_a_draw_depends_on_the_seed_only_and_hardly_on_more_text():
    items = lines(500)
    drawn = draw(items, 50, seed=1)
    assert len(drawn) == 50 and drawn == draw(items[::-1], 50, seed=1)
    assert drawn != draw(items, 50, seed=2)
    assert [i["id"] for i in drawn] != sorted((i["id"] for i in drawn), key=int)
    longer = draw([*items, *lines(50, seed=9)], 50, seed=1)
    assert sum(item in longer for item in drawn) >= 35


def test_every_item_is_drawn_equally_often():
    items = lines(40)
    counts = np.zeros(40)
    for seed in range(400):
        counts[[int(item["id"]) for item in draw(items, 10, seed)]] += 1
    # Each count is binomial (400, 1/4); with 40 of them 4.5 standard deviations are rare.
    assert np.abs(counts - 100).max() < 4.5 * sqrt(400 * 0.25 * 0.75)


def test_no_line_that_is_drawn_is_left_for_training_nor_any_that_holds_it():
    items = lines(100, of=12)
    copies = [{"id": f"c{i['id']}", "text": i["text"].upper().replace(" ", " – ")} for i in items]
    longer = [{"id": f"l{i['id']}", "text": f"Ka {i['text']} Lo"} for i in items]
    mixed = [*items, *copies, *longer, {"id": "blank", "text": "…"}]
    drawn, rest = hold_out(mixed, 30)
    assert len(drawn) == 30 and rest == remaining(mixed, drawn)

    def shares_ten_words(a, b):
        a, b = words(a), words(b)
        starts = [(i, j) for i in range(len(a) - 9) for j in range(len(b) - 9)]
        return any(a[i : i + 10] == b[j : j + 10] for i, j in starts)

    for item in mixed:
        clash = any(
            words(d["text"]) == words(item["text"]) or shares_ten_words(d["text"], item["text"])
            for d in drawn
        )
        assert (item in rest) != clash
    assert len({tuple(words(d["text"])) for d in drawn}) == 30


def test_what_is_drawn_from_a_text_can_be_read_and_is_at_most_a_fifth():
    unfit = [{"id": "n", "text": "2024: 1, 2, 3, 4, 5"}]
    drawn, rest = hold_out([*lines(100), *unfit] * 2, 50)
    assert len(drawn) == 100 * LARGEST_SHARE and not any(item in unfit for item in drawn)
    assert len(rest) == 2 * (100 - 20) + 2
    assert hold_out(lines(49)) == ([], lines(49))
    with pytest.raises(DataError, match=r"0 items to label; at least 10 are needed"):
        sheet_of([])


def test_of_a_line_that_is_too_long_a_sentence_is_drawn_and_the_line_does_not_train():
    sentences = [item["text"] for item in lines(2000)]
    items = [{"id": str(n), "text": " ".join(sentences[20 * n : 20 * n + 20])} for n in range(100)]
    assert min(len(item["text"]) for item in items) > 500
    drawn, rest = hold_out(items, 15)
    assert len(drawn) == 15 and all(10 <= len(item["text"]) <= 500 for item in drawn)
    held = {item["id"] for item in drawn}
    assert held.isdisjoint(item["id"] for item in rest)


@pytest.mark.parametrize(("count", "expected"), [(50, {16, 17}), (12, {4})])
def test_a_translation_sheet_has_as_many_of_each_class(count, expected):
    drawn = draw(labelled(600), count, classes=CLASSES)
    counts = [sum(item["label"] == name for item in drawn) for name in CLASSES]
    assert {*counts} == expected and sum(counts) == count
    order = [item["label"] for item in drawn]
    assert order != sorted(order)


def test_a_class_with_too_few_items_gives_all_of_them():
    items = [*labelled(300)[:40], {"id": "r", "text": "Kala bode lima", "label": "rare"}]
    drawn = draw(items, 30, classes=["rare", *CLASSES])
    assert sum(item["label"] == "rare" for item in drawn) == 1 and len(drawn) < 30


# --- the file --------------------------------------------------------------------------------


def sheet_of(drawn, kind="label", **changes):
    given = {"language": "mad", "task": "sentiment", "classes": CLASSES, "origin": "my-text.txt"}
    return make_sheet(kind, drawn, **given | changes)


def rows_of(text, delimiter=","):
    return list(csv.reader(io.StringIO(text.removeprefix("\ufeff")), delimiter=delimiter))


def test_a_sheet_has_nothing_but_the_items_and_no_cell_is_a_formula(tmp_path):
    texts = ["=1+1", "+62 812", "-", "@kala", '"Kala", lo;\nma', "ʼaeng", "'aeng", "＝lo", *"abcd"]
    sheet = sheet_of([{"id": str(n), "text": text} for n, text in enumerate(texts)])
    path = tmp_path / "to-label.csv"
    assert write_sheet(path, sheet)
    data = path.read_bytes()
    assert data.startswith(b"\xef\xbb\xbfid,text,label\r\n")
    _, *rows = rows_of(data.decode("utf-8"))
    assert [row[1] for row in rows[:8]] == [
        "'=1+1", "'+62 812", "'-", "'@kala", '"Kala", lo; ma', "ʼaeng", "'aeng", "'＝lo",
    ]  # fmt: skip
    assert {row[2] for row in rows} == {""} and rows[0][0] == "s001"
    filled = fill(sheet, lambda n: "neutral")
    path.write_text(filled, encoding="utf-8")
    assert [item["text"] for item in read_sheet(path, sheet).items] == texts
    assert all(name in path.with_suffix(".txt").read_text() for name in CLASSES)
    assert Sheet.load(path.with_suffix(".json")) == sheet


def test_a_sheet_with_labels_is_never_overwritten(tmp_path):
    path = tmp_path / "to-label.csv"
    first, second = sheet_of(lines(12)), sheet_of(lines(12, seed=5))
    assert write_sheet(path, first, ";") and write_sheet(path, second)
    path.write_text(fill(second, lambda n: "neutral"))
    assert not write_sheet(path, second)
    with pytest.raises(DataError, match="somebody has changed this sheet"):
        write_sheet(path, first)
    path.with_suffix(".json").unlink()
    with pytest.raises(DataError, match="somebody has changed this sheet"):
        write_sheet(path, second)
    with pytest.raises(ArtefactError, match="not the record of a sheet"):
        path.with_suffix(".json").write_text("{}")
        write_sheet(path, second)


def fill(sheet, label, delimiter=",", head=None, order=None, tail="", end="\r\n", extra=False):
    """The sheet as a person gives it back; `label(n)` fills row n."""
    header, *rows = rows_of(sheet.csv())
    rows = [[*row[: len(header) - 1], label(n)] for n, row in enumerate(rows)]
    if extra:
        header, rows = [*header, "my notes", ""], [[*row, "hm", ""] for row in rows]
    columns = order or range(len(header))
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter, lineterminator=end)
    writer.writerow([(head or {}).get(header[c], header[c]) for c in columns])
    writer.writerows([[row[c] for c in columns] for row in rows])
    return out.getvalue() + tail


@pytest.fixture
def sheet():
    texts = lines(20)
    texts[3] = {"id": "3", "text": 'Kata "lola", me; ʼaeng é ñ.'}
    texts[4] = {"id": "4", "text": "=kala - beda"}
    return sheet_of(texts)


def answer(n):
    """Every fifth row is left empty."""
    return "" if n % 5 == 4 else CLASSES[n % 3]


SAVED = {
    "as it was": {},
    "Excel, decimal comma": {"delimiter": ";", "tail": ";;\r\n;;\r\n"},
    "LibreOffice": {"end": "\n"},
    "Google Sheets": {"tail": ",,"},
    "Excel, Unicode text": {"delimiter": "\t"},
    "columns moved": {"order": [2, 0, 1]},
    "columns added": {"extra": True},
    "names in capitals": {"head": {"id": "ID", "label": " Label "}},
    "blank lines": {"tail": "\r\n\r\n"},
}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("way", SAVED.values(), ids=SAVED.keys())
def test_a_sheet_comes_back_from_any_spreadsheet_program(sheet, tmp_path, way, encoding):
    path = tmp_path / "back.csv"
    path.write_bytes(fill(sheet, answer, **way).encode(encoding))
    found = read_sheet(path, sheet)
    expected = [i | {"label": answer(n)} for n, i in enumerate(sheet.items) if answer(n)]
    assert found.items == expected and found.given == 20 and found.notes == []


def test_an_excel_separator_line_and_reordered_rows_are_read(sheet, tmp_path):
    path = tmp_path / "back.csv"
    header, *rows = fill(sheet, answer, ";").splitlines()
    path.write_text("\r\n".join(["sep=;", header, *rows[::-1]]))
    assert [item["label"] for item in read_sheet(path, sheet).items] == [
        answer(n) for n in range(20) if answer(n)
    ]


def test_labels_in_another_case_and_typographic_changes_are_accepted_and_stated(sheet, tmp_path):
    path = tmp_path / "back.csv"
    text = fill(sheet, lambda n: "  NEUTRAL" if n == 2 else answer(n))
    path.write_text(text.replace('""lola""', "“lola”").replace("'=kala - beda", "=kala – beda"))
    found = read_sheet(path, sheet)
    assert found.items[2]["label"] == "neutral" and found.items[3]["text"] == sheet.items[3]["text"]
    assert found.notes == ["Labels in another spelling: 1, such as 'NEUTRAL' as 'neutral'."]
    path.write_text("\n".join(text.splitlines()[:-4]))
    assert read_sheet(path, sheet).notes[1] == (
        "Rows that are gone from the sheet and count as not filled: 4."
    )


def test_classes_that_differ_in_case_only_are_read_exactly(tmp_path):
    path = tmp_path / "few.csv"
    path.write_text("text,label\nKala,a\nBeda,A\n")
    assert [i["label"] for i in read_labelled(path, ["A", "a"]).items] == ["a", "A"]


FAULTS = {
    "unknown label": (
        lambda t: t.replace("neutral", "neutrel", 1),
        r"row 3: the label 'neutrel' is none of 'negative', .*; is it 'neutral'\?",
    ),
    "missing id": (lambda t: t.replace("s003", " ", 1), r"row 4: no id; expected one of s001 to"),
    "unknown id": (lambda t: t.replace("s003", "s999", 1), r"row 4: the id 's999' is not one of"),
    "id twice": (
        lambda t: t.replace("s003", "s002", 1),
        r"row 4: the id 's002' is that of row 3 too",
    ),
    "changed text": (
        lambda t: t.replace("Kata", "Kota"),
        r"row 5: text is 'Kota .* this row was 'Kata",
    ),
    "letters lost": (lambda t: t.replace("ʼaeng é ñ", "?aeng ? ?"), "letters became “\\?”: save"),
    "no column": (lambda t: t.replace("label", "labels", 1), "no column 'label'; found 'id', "),
    "column twice": (lambda t: t.replace("id,text", "id,label", 1), "no column 'text'"),
    "comma without quotes": (
        lambda t: t.replace("s002,", "s002,me, ", 1),
        r"row 3: 4 cells, expected 3: is a text with ',' not in quotes",
    ),
    "open quote": (lambda t: t + '"', r"after row 21: unexpected end"),
    "all in one column": (
        lambda t: "\n".join(f'"{x.replace(chr(34), chr(34) * 2)}";' for x in t.splitlines()),
        "All columns are in one: import the sheet",
    ),
    "empty": (lambda t: "", "no column 'id', 'text', 'label'; found"),
}


@pytest.mark.parametrize(("change", "message"), FAULTS.values(), ids=FAULTS.keys())
def test_what_does_not_fit_a_sheet_is_an_error_with_its_row(sheet, tmp_path, change, message):
    path = tmp_path / "back.csv"
    path.write_text(change(fill(sheet, answer)))
    with pytest.raises(DataError, match=message):
        read_sheet(path, sheet)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"PK\x03\x04rest", "a spreadsheet; save it as CSV"),
        ("id,text,label\r\ns001,é,".encode("cp1252"), "line 2: not UTF-8. Save the sheet again"),
        (b"id," + b"x" * 200_000, "no column 'text', 'label'; found 'id', 'x{60}'"),
        (None, "cannot be read"),
    ],
)
def test_a_file_that_is_no_csv_is_an_error(sheet, tmp_path, data, message):
    path = tmp_path / "back.csv"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(DataError, match=message):
        read_sheet(path, sheet)


def test_all_faults_are_in_one_message_and_long_lists_are_cut(sheet, tmp_path):
    path = tmp_path / "back.csv"
    path.write_text(fill(sheet, lambda n: "good"))
    with pytest.raises(DataError) as error:
        read_sheet(path, sheet)
    assert str(error.value).count("row ") == 10 and "and 10 more" in str(error.value)


def test_translations_are_scored_with_the_labels_of_their_source(tmp_path):
    drawn = [{**item, "text_pair": f"Lo {item['text']}"} for item in draw(labelled(200), 12)]
    sheet = sheet_of(drawn, "translate")
    header, *rows = rows_of(sheet.csv())
    assert header == [
        "id", "source_text", "source_text_pair", "label", "translation", "translation_pair"
    ]  # fmt: skip
    assert [row[3] for row in rows] == [item["label"] for item in drawn]
    path = tmp_path / "to-translate.csv"

    def write(rows):
        out = io.StringIO()
        csv.writer(out).writerows([header, *rows])
        path.write_text(out.getvalue())

    write([[*row[:4], "Saya  suka", "lo"] if n else row for n, row in enumerate(rows)])
    found = read_sheet(path, sheet)
    assert [i["label"] for i in found.items] == [item["label"] for item in drawn[1:]]
    assert {(i["text"], i["text_pair"]) for i in found.items} == {("Saya suka", "lo")}
    write([[*row[:4], row[1], row[2]] for row in rows])
    assert read_sheet(path, sheet).notes == [
        "Translations with the same words as their source: 12."
    ]
    write([[*row[:4], "Saya", ""] for row in rows])
    with pytest.raises(DataError, match="row 2: only one text of the pair is translated"):
        read_sheet(path, sheet)
    write([[*row[:3], "other", "Saya", "lo"] for row in rows])
    with pytest.raises(DataError, match="row 2: label is 'other', but this row was"):
        read_sheet(path, sheet)


def test_a_sheet_is_recognised_wherever_it_was_saved(sheet, tmp_path):
    home, other = tmp_path / "madurese", tmp_path / "downloads"
    other.mkdir()
    write_sheet(home / "to-label.csv", sheet)
    saved = other / "to-label (1).csv"
    saved.write_text(fill(sheet, answer))
    assert read_filled(saved, home, CLASSES).kind == "label"
    with pytest.raises(DataError, match="its labels are negative, neutral, positive; the model's"):
        read_filled(saved, home, ["a", "b"])
    mine = other / "mine.csv"
    mine.write_text("id;text;label\n1;Kala; Positive\n2;Beda;\n3;Lola, me;neutral\n")
    found = read_filled(mine, home, CLASSES)
    assert (found.kind, found.given, len(found.items)) == ("file", 3, 2)
    mine.write_text("text,label\nKala,positive\nkala!,POSITIVE\n")
    found = read_filled(mine, home, CLASSES)
    assert (
        len(found.items) == 1 and "text of an earlier row, which are left out: 1" in found.notes[1]
    )
    mine.write_text("text,label\nKala,positive\nkala!,neutral\n,neutral\n")
    message = r"row 3: the text of row 2 with the label 'neutral', not 'positive'\n.*row 4: a label"
    with pytest.raises(DataError, match=message):
        read_filled(mine, home, CLASSES)


# --- statistics ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("right", "count", "low", "high"),
    # Newcombe 1998, "Two-sided confidence intervals for the single proportion", table I, method 3
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_intervals_are_newcombes(right, count, low, high):
    found = wilson(right, count)
    assert (found.low, found.high) == (
        pytest.approx(low, abs=5e-5),
        pytest.approx(high, abs=5e-5),
    )


@pytest.mark.parametrize("count", [10, 50, 200])
def test_wilson_interval_holds_the_shares_that_a_normal_test_keeps(count):
    """Oracle: the ends solve (p̂ − p)² = z² p (1 − p)/n."""
    for right in range(count + 1):
        found = wilson(right, count)
        for end in (found.low, found.high):
            assert (right / count - end) ** 2 == pytest.approx(
                norm.isf(0.025) ** 2 * end * (1 - end) / count, abs=1e-12
            )


def test_mcnemar_is_the_sum_of_binomial_terms():
    for gained in range(12):
        for lost in range(12):
            n, few = gained + lost, min(gained, lost)
            p = min(1, 2 * sum(comb(n, k) for k in range(few + 1)) / 2**n) if n else 1
            assert mcnemar(gained, lost) == pytest.approx(p, abs=1e-12)
    assert mcnemar(1, 8) == pytest.approx(0.0390625)


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_macro_f1_is_that_of_scikit_learn_over_the_classes_that_occur(classes):
    rng = np.random.default_rng(classes)
    for _ in range(20):
        truth = rng.integers(0, max(2, classes - 1), 30)
        answers = np.where(rng.random(30) < 0.6, truth, rng.integers(0, classes, 30))
        table = confusion_matrix(truth, answers, labels=range(classes))
        found = macro_f1_interval(table, draws=50)
        expected = f1_score(truth, answers, labels=np.unique(truth), average="macro")
        assert found.value == pytest.approx(expected, abs=1e-12)
        assert found.low <= found.value <= found.high


def test_interval_of_macro_f1_is_that_of_a_plain_loop_over_weighted_items():
    """With weights of items instead of cells: Dirichlet(1, …, 1) over items, and the one item that
    is spread over all cells."""
    rng = np.random.default_rng(1)
    truth = rng.integers(0, 2, 80)
    answers = np.where(rng.random(80) < 0.75, truth, 1 - truth)
    scores = []
    for _ in range(1_000):
        weights = rng.gamma(1, size=80)
        spread = rng.gamma(1 / 4, size=4)
        scores.append(
            f1_score(
                [*truth, 0, 0, 1, 1],
                [*answers, 0, 1, 0, 1],
                sample_weight=[*weights, *spread],
                average="macro",
            )
        )
    found = macro_f1_interval(confusion_matrix(truth, answers))
    # A quantile of 1,000 draws has a standard error of 0.004 here.
    assert [found.low, found.high] == pytest.approx(np.quantile(scores, [0.025, 0.975]), abs=0.015)


@pytest.mark.parametrize(("accuracy", "count"), [(0.5, 50), (0.7, 50), (0.98, 50), (0.8, 200)])
def test_intervals_hold_the_truth_in_about_95_of_100_sheets(accuracy, count):
    rng = np.random.default_rng(count)
    cells = np.full((3, 3), (1 - accuracy) / 6) + np.eye(3) * (accuracy / 3 - (1 - accuracy) / 6)
    held = np.zeros(2)
    for _ in range(400):
        table = rng.multinomial(count, cells.ravel()).reshape(3, 3)
        share, f1 = wilson(int(np.trace(table)), count), macro_f1_interval(table, draws=400)
        held += [share.low <= accuracy <= share.high, f1.low <= accuracy <= f1.high]
    # 400 sheets: a standard error of 1.1 points, and Wilson's coverage itself varies by two.
    assert (held / 400 > 0.91).all() and (held / 400 <= 1).all()


@pytest.mark.parametrize(("gained", "lost"), [(0.1, 0.1), (0.2, 0.05), (0.02, 0.02)])
def test_interval_of_a_difference_holds_the_truth_in_about_95_of_100_sheets(gained, lost):
    rng = np.random.default_rng(0)
    tables = rng.multinomial(50, [gained, lost, 1 - gained - lost], size=2_000)
    found = [paired_difference(int(a), int(b), 50) for a, b, _ in tables]
    held = np.mean([each.low <= gained - lost <= each.high for each in found])
    assert held > 0.93
    empty = paired_difference(0, 0, 50)
    assert empty.low == -empty.high < 0


def exact_power_above(count, share, chance):
    k = np.arange(count + 1)
    rejected = binom.sf(k - 1, count, chance) < 0.05
    return binom.pmf(k, count, share)[rejected].sum()


@pytest.mark.parametrize(("share", "chance"), [(0.6, 0.5), (0.5, 0.4), (0.45, 1 / 3), (0.9, 0.8)])
def test_needed_items_have_the_power_to_show_that_a_model_beats_chance(share, chance):
    needed = needed_above(share, chance)
    assert 0.76 < exact_power_above(needed, share, chance) < 0.86
    assert exact_power_above(needed // 2, share, chance) < 0.65


def exact_power_between(count, gained, lost):
    changed = np.arange(count + 1)
    power = 0.0
    for number, weight in zip(changed, binom.pmf(changed, count, gained + lost), strict=True):
        if weight > 1e-9 and number:
            a = np.arange(number + 1)
            p = np.minimum(1, 2 * binom.cdf(np.minimum(a, number - a), number, 0.5))
            power += weight * binom.pmf(a, number, gained / (gained + lost))[p < 0.05].sum()
    return power


@pytest.mark.parametrize(("gained", "lost"), [(0.2, 0.1), (0.1, 0.05), (0.05, 0.15), (0.3, 0.1)])
def test_needed_items_have_the_power_to_show_a_difference(gained, lost):
    """The exact test is a little weaker than the formula's normal approximation."""
    needed = needed_between(gained, lost)
    assert 0.7 < exact_power_between(needed, gained, lost) < 0.85
    assert exact_power_between(needed // 2, gained, lost) < 0.6


def test_where_a_test_cannot_tell_more_items_are_asked_for_than_there_are():
    for count in (10, 50, 100):
        for gained in range(10):
            for lost in range(gained):
                if mcnemar(gained, lost) >= 0.05:
                    assert needed_between(gained / count, lost / count) > count
    assert needed_between(0.1, 0.1) is needed_above(0.4, 0.4) is needed_above(1.0, 1.0) is None


# --- the score -------------------------------------------------------------------------------


class Project:
    """An adapted model whose answers are given."""

    language, name, task, classes = "mad", "Madurese", "sentiment", CLASSES

    def __init__(self, folder, answers=None, without=None):
        self.folder, self.answers = folder, answers or {}
        self.without = self.answers if without is None else without
        self.asked = []

    def predict(self, texts, with_language=True):
        assert all(item.keys() == {"id", "text"} for item in texts), "no label leaks"
        self.asked.append(with_language)
        known = self.answers if with_language else self.without
        return np.eye(len(self.classes))[[self.classes.index(known[i["text"]]) for i in texts]]


def filled_sheet(folder, truth, mine, without, rows=None):
    """A project and its filled sheet; the rows after the labels are empty."""
    items = lines(rows or len(truth))
    sheet = sheet_of(items)
    write_sheet(folder / "to-label.csv", sheet)
    text = fill(sheet, lambda n: truth[n] if n < len(truth) else "")
    (folder / "to-label.csv").write_text(text, encoding="utf-8")
    texts = [item["text"] for item in items]
    return Project(folder, dict(zip(texts, mine)), dict(zip(texts, without)))  # noqa: B905


def test_a_score_counts_what_a_plain_loop_counts(tmp_path):
    rng = np.random.default_rng(3)
    truth, mine, without = (list(rng.choice(CLASSES, 40)) for _ in range(3))
    mine = [t if rng.random() < 0.5 else m for t, m in zip(truth, mine, strict=True)]
    project = filled_sheet(tmp_path, truth, mine, without, rows=50)
    found = score(tmp_path / "to-label.csv", project)
    assert (found.items, found.given, project.asked) == (40, 50, [True, False])
    right = sum(t == m for t, m in zip(truth, mine, strict=True))
    assert found.with_language.right == right
    assert found.with_language.accuracy == wilson(right, 40)
    assert found.with_language.confusion == confusion_matrix(truth, mine, labels=CLASSES).tolist()
    triples = list(zip(truth, mine, without, strict=True))
    assert found.gained == sum(t == m != o for t, m, o in triples)
    assert found.lost == sum(t == o != m for t, m, o in triples)
    most = max(truth.count(name) for name in CLASSES)
    assert found.chance == most / 40
    expected = sum(
        comb(40, k) * found.chance**k * (1 - found.chance) ** (40 - k) for k in range(right, 41)
    )
    assert found.p_chance == pytest.approx(expected)
    write_score(tmp_path / "score.json", found)
    stored = json.loads((tmp_path / "score.json").read_text())
    assert stored["with_language"]["accuracy"]["value"] == right / 40
    assert stored["reading"] == reading(found) and len(stored["marks"]) == 40


def test_too_few_to_tell_is_said_exactly_where_the_tests_cannot_tell(tmp_path):
    items = lines(60)
    truth = [CLASSES[n % 2] for n in range(60)]
    given = Labelled([i | {"label": t} for i, t in zip(items, truth, strict=True)], 60, "label", "")
    gold = given.truth(CLASSES)
    for wrong in range(0, 60, 6):
        for lost in (0, 3, 10):
            mine, without = gold.copy(), gold.copy()
            mine[:wrong] = 2
            without[60 - lost :] = 2
            found = compared(given, Project(tmp_path), mine, without)
            _, _, chance, vector, *_ = reading(found)
            assert ("better than that (p" in chance) == (found.p_chance < 0.05)
            assert ("too few to tell" in vector) == (found.p_difference >= 0.05)
            above = found.with_language.accuracy.value > 0.5
            assert ("too few to tell" in chance) == (found.p_chance >= 0.05 and above)
            assert ("not better" in chance) == (not above)
            if found.p_difference >= 0.05 and found.gained != found.lost:
                assert f"about {found.needed_difference:,} items" in vector


def test_a_score_says_what_people_need_in_words(tmp_path):
    truth = ["negative"] * 20 + ["positive"] * 20 + ["neutral"] * 2
    mine = [*truth[:32], *["negative"] * 10]
    project = filled_sheet(tmp_path, truth, mine, ["negative"] * 42, rows=50)
    found = score(tmp_path / "to-label.csv", project, trained=lines(50)[:2])
    assert reading(found) == [
        "42 of 50 rows have a label; only these count.",
        "With the language vector the model is right on 32 of 42 items. Accuracy on many more such "
        "texts would be between 61 and 87 % (95 % interval).",
        "Against chance: always answering 'negative' is right on 20 of 42 items (48 %). "
        "The model is better than that (p < 0.001).",
        "The language vector makes 12 wrong answers right and 0 right answers wrong: +29 points "
        "(+13 to +42). It helps (p < 0.001).",
        "Items with the label 'neutral': only 2.",
        "Items in the text that the model was trained on, without their labels: 2. The figures may "
        "be too good.",
    ]
    text = markdown(replace(found, classes=["a|b", "<i>", "c"], most_frequent="a|b"))
    assert "a\\|b" in text and "<i>" not in text.replace("\\<i", "")
    assert "| with the language vector |" in text and "32 of 42" in text
    from rich.console import Console

    console = Console(width=150, record=True, file=io.StringIO())
    console.print(shown(found))
    terminal = console.export_text()
    assert "32 of 42" in terminal and "61 to 87" in terminal and "It helps" in terminal
    assert score_tables(found)[0].cells.loc["always 'negative'", "right"] == "20 of 42"


def test_fewer_than_ten_labels_give_no_figure_and_ask_no_model(tmp_path):
    truth = ["neutral"] * (FEWEST - 1)
    project = filled_sheet(tmp_path, truth, truth, truth, rows=50)
    with pytest.raises(DataError, match="9 of 50 rows are filled; no figure is given for fewer"):
        score(tmp_path / "to-label.csv", project)
    assert project.asked == []


def test_a_class_without_labels_is_left_out_and_named(tmp_path):
    truth = ["negative", "positive"] * 10
    project = filled_sheet(tmp_path, truth, truth, truth)
    found = score(tmp_path / "to-label.csv", project)
    assert found.with_language.macro_f1.value == 1 > found.with_language.macro_f1.low
    assert "Items with the label 'neutral': only 0; macro F1 is the mean over the other" in str(
        found.notes
    )


# --- alarms ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after", "raised", "text"),
    [
        (4.0, 3.0, False, "2.7 times the probability"),
        (4.0, 3.99, True, "hardly learnt"),
        (4.0, 4.5, True, "worse than before"),
        (4.0, float("nan"), True, "training failed"),
    ],
)
def test_loss_is_an_alarm_unless_it_falls(before, after, raised, text):
    found = alarms.loss_alarm(before, after)
    assert found.raised == raised and text in found.reading


@pytest.mark.parametrize(
    ("counts", "raised", "text"),
    [
        ((30, 40, 30), False, "Nothing unusual"),
        ((2, 95, 3), True, "answers 'neutral' for 95% of the texts"),
        ((0, 60, 40), True, "never answers 'negative'"),
        ((75, 15, 10), True, "distributed otherwise"),
    ],
)
def test_shares_of_answers_are_an_alarm_far_from_the_sources(counts, raised, text):
    source = dict(zip(CLASSES, (33, 34, 33), strict=True))
    found = alarms.share_alarm(np.repeat([0, 1, 2], counts), source, CLASSES)
    assert found.raised == raised and text in found.reading
    assert f"neutral {counts[1]}%" in found.found and "neutral 34% in" not in found.found
    constant = alarms.share_alarm(np.ones(50, dtype=int), {"neutral": 99}, CLASSES)
    assert not constant.raised


def test_agreement_is_an_alarm_if_all_or_few_answers_agree():
    one = np.zeros(10, dtype=int)
    for changed, raised in [(0, True), (3, False), (6, True)]:
        other = one.copy()
        other[:changed] = 1
        found = alarms.agreement_alarm(one, other)
        assert found.raised == raised and found.found == f"{100 - 10 * changed}%"


def test_no_alarm_is_called_accuracy_or_score():
    answers = np.array([0, 1, 2, 1] * 5)
    found = [
        alarms.loss_alarm(4, 3),
        alarms.share_alarm(answers, dict.fromkeys(CLASSES, 1), CLASSES),
        alarms.agreement_alarm(answers, answers[::-1]),
    ]
    table = alarms.alarm_table(found)
    assert "not a score" in table.title and list(table.cells["alarm"]).count("ALARM") == sum(
        each.raised for each in found
    )
    text = table.cells.to_string() + str(found)
    assert "accura" not in text.lower() and "F1" not in text


# --- a labelled few --------------------------------------------------------------------------


def few(folder, count=100, seed=0, rates=None):
    """A table of labelled texts, and answers that are right at these rates by strength."""
    rates = rates or dict.fromkeys(strength.STRENGTHS, 0.6)
    rng = np.random.default_rng(seed)
    items = lines(count, seed)
    truth = rng.integers(0, 3, count)
    path = folder / "few.csv"
    rows = [f"{i['text']},{CLASSES[t]}" for i, t in zip(items, truth, strict=True)]
    path.write_text("\n".join(["text,label", *rows]))
    answers = {
        s: np.where(rng.random(count) < rate, truth, (truth + 1) % 3) for s, rate in rates.items()
    }

    def predict(texts, strength):
        assert all("label" not in item for item in texts)
        return np.eye(3)[answers[strength]]

    return path, predict, truth, answers


@pytest.mark.parametrize("seed", [0, 3, 4, 5])
def test_held_out_figure_is_that_of_a_plain_nested_loop(tmp_path, seed):
    path, predict, truth, answers = few(tmp_path, seed=seed)
    found = choose_strength(path, Project(tmp_path), predict, folds=5, seed=2)
    parts = stratified(truth, 5, seed=2)

    def chosen(rows):
        scores = {}
        for s in strength.STRENGTHS:
            gain = [float(answers[s][n] == truth[n]) - (answers[1.0][n] == truth[n]) for n in rows]
            mean = sum(gain) / len(gain)
            error = sqrt(sum((g - mean) ** 2 for g in gain) / (len(gain) - 1) / len(gain))
            if mean > error + 1e-12:
                scores[s] = mean
        return max(scores, key=lambda s: (scores[s], -abs(s - 1))) if scores else 1.0

    right = 0
    for part in range(5):
        assert found.folds[part] == chosen([n for n in range(100) if parts[n] != part])
        inside = np.flatnonzero(parts == part)
        right += sum(answers[found.folds[part]][n] == truth[n] for n in inside)
    assert found.held_out.right == right and found.strength == chosen(range(100))
    assert found.usual.right == (answers[1.0] == truth).sum()
    assert found.right == [int((answers[s] == truth).sum()) for s in strength.STRENGTHS]
    assert seed == 0 or len({*found.folds}) > 1, "cases in which the folds matter"


def test_folds_are_even_in_size_and_in_classes():
    truth = np.repeat([0, 1, 2], [50, 37, 13])
    parts = stratified(truth, 10, seed=0)
    assert {*np.bincount(parts)} == {10}
    for name in range(3):
        counts = np.bincount(parts[truth == name], minlength=10)
        assert counts.max() - counts.min() <= 1
    assert not np.array_equal(parts, stratified(truth, 10, seed=1))


def test_held_out_figure_is_honest_where_the_best_of_many_is_not(tmp_path):
    """All strengths are right on 60 % of the items."""
    held, top = [], []
    for seed in range(40):
        path, predict, *_ = few(tmp_path, seed=seed)
        found = choose_strength(path, Project(tmp_path), predict)
        held.append(found.held_out.accuracy.value)
        top.append(max(found.right) / found.items)
    # The mean of 40 has a standard error of 0.8 points.
    assert abs(np.mean(held) - 0.6) < 0.024 and np.mean(top) > 0.63


def test_usual_strength_stays_unless_another_is_clearly_better():
    right = np.zeros((3, 100), dtype=bool)
    right[1, :50] = True
    right[0, :51] = True
    assert best(right, [0.0, 1.0, 2.0]) == 1.0  # better by one item, exactly one error
    right[0, :60] = True
    assert best(right, [0.0, 1.0, 2.0]) == 0.0
    right[2, :60] = True
    assert best(right, [-0.5, 1.0, 2.0]) == 2.0  # the nearer to 1 among equals
    assert best(np.ones((2, 9), dtype=bool), [0.0, 1.0]) == 1.0


def test_items_that_chose_cannot_score_nor_the_reverse(tmp_path):
    path, predict, _, answers = few(tmp_path)
    named = {i["text"]: CLASSES[a] for i, a in zip(lines(100), answers[1.0], strict=True)}
    project = Project(tmp_path, named)
    choice = choose_strength(path, project, predict)
    write_choice(tmp_path / RECORDS["choose"], choice)
    with pytest.raises(DataError, match=r"100 of its 100 items were used before: the strength of"):
        score(path, project)
    (tmp_path / RECORDS["choose"]).unlink()
    write_score(tmp_path / RECORDS["score"], score(path, project))
    with pytest.raises(DataError, match=r"100 of its 100 items .* the model was scored with them"):
        choose_strength(path, project, predict)
    # Others than those that were scored may choose, in whatever spelling the scored ones are.
    other, predict, *_ = few(tmp_path, seed=7)
    choose_strength(other, project, predict)
    other.write_text(other.read_text() + f"\n{lines(100)[0]['text'].upper()} !,neutral")
    with pytest.raises(DataError, match=r"1 of its 101 items were used before"):
        choose_strength(other, project, predict)
    (tmp_path / RECORDS["score"]).write_text("[]")
    with pytest.raises(DataError, match="damaged"):
        choose_strength(path, project, predict)


def test_a_choice_needs_fifty_items_and_the_usual_strengths(tmp_path):
    path, predict, *_ = few(tmp_path, count=49)
    with pytest.raises(DataError, match="49 rows have a label; to choose takes at least 50"):
        choose_strength(path, Project(tmp_path), predict)
    with pytest.raises(InputError, match="0 and 1 must be among them"):
        choose_strength(path, Project(tmp_path), predict, strengths=[0.5, 1.0])


def test_a_choice_reports_the_held_out_figure(tmp_path):
    path, predict, *_ = few(tmp_path, rates={0.0: 0.9, 0.5: 0.6, 1.0: 0.5, 1.5: 0.4})
    found = choose_strength(path, Project(tmp_path), predict)
    said = strength.reading(found)
    assert "Strength 0 of the language vector" in said[0]
    assert f"right on {found.held_out.right} of 100" in said[1] and "Report this" in said[1]
    assert "Choosing helps" in said[2]


# --- the documentation -----------------------------------------------------------------------


def documented(first):
    """The rows of the documentation's table whose header has this first cell, as lists of cells."""
    text = "".join(path.read_text() for path in sorted(PROJECT.glob("docs/adapt*.md")))
    table = text[text.index(f"\n| {first} |") :].strip().split("\n\n")[0].splitlines()
    return [[cell.strip().rstrip(" %") for cell in row.strip("|").split("|")] for row in table[2:]]


def test_tables_of_the_documentation_are_computed():
    for count, *cells in documented("texts"):
        found = [wilson(round(int(count) * p), int(count)) for p in (0.6, 0.8, 0.9)]
        assert cells == [f"{100 * e.low:.0f} to {100 * e.high:.0f}" for e in found]
    for chance, *cells in documented("share of that label"):
        share = {"33": 1 / 3, "50": 1 / 2}[chance]
        assert cells == [str(needed_above(share + more, share)) for more in (0.1, 0.2, 0.3)]
    for gained, lost, cell in documented("puts right"):
        assert cell == str(needed_between(int(gained) / 100, int(lost) / 100))
