"""Sentences of words with tags: every format, the traps of real files, and every fault."""

import gzip
import json
import lzma
import re
from collections import Counter

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from tiny_config import with_key
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from deftx.data.contradictions import disagreements, leaked
from deftx.data.read import read_items
from deftx.plan.config import check_config
from deftx.report.coverage import count
from deftx.stages.clean.run import Params as CleanParams
from deftx.stages.clean.run import clean
from deftx.stages.data.run import Params, data
from deftx.stages.data.settings import Columns, Dataset, Layout
from deftx.stages.trim.run import Params as TrimParams
from deftx.stages.trim.run import trim
from deftx.stages.world.math import labelled, tagged
from deftx.stages.world.settings import TAGS, World
from deftx.store.errors import ConfigError, DataError, InputError
from deftx.store.items import load_items, texts_of, write_items
from deftx.tasks.tagging.rows import with_predictions
from deftx.tasks.tagging.tags import mapped, strange

NER = {"ner": ["B-LOC", "B-PER", "I-LOC", "I-PER", "O"]}
UPOS = "ADJ ADP ADV AUX CCONJ DET INTJ NOUN NUM PART PRON PROPN PUNCT SCONJ SYM VERB X".split()


def read(tmp_path, content, name="x.conll", *, limit=None, classes=None, **layout):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    columns = Columns(**layout.pop("columns", {}))
    return read_items(path, Layout(columns=columns, **layout), limit, classes=classes)


def pairs(items):
    return [list(zip(item["words"], item["tags"], strict=True)) for item in items]


def conllu(*rows, misc="_"):
    """Lines of CoNLL-U from (number, word, UPOS)."""
    return "".join(f"{n}\t{w}\tl\t{t}\tXX\t_\t0\troot\t_\t{misc}\n" for n, w, t in rows)


TWO = [[("Ana", "B-PER"), ("runs", "O")], [("Oslo", "B-LOC")]]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.conll", "Ana B-PER\nruns O\n\nOslo B-LOC\n\n"),
        ("x.conll", "Ana\tB-PER\nruns\tO\n\nOslo\tB-LOC\n"),
        ("x.conll", "Ana\tB-PER\r\nruns\tO\r\n\r\nOslo\tB-LOC"),
        ("x.conll", "\ufeff\n\n \nAna  X B-PER\nruns X O \n\t\n\n\nOslo X B-LOC\n\n\n"),
        ("x.conll", "-DOCSTART- -X- O\n\nAna X B-PER\nruns X O\n\n-DOCSTART-\n\nOslo X B-LOC\n"),
        ("x.iob2", "# a\n1\tAna\tB-PER\t-\tk\n2\truns\tO\t-\t-\n\n1\tOslo\tB-LOC\t-\tk\n\n"),
        (
            "x.jsonl",
            '{"words": ["Ana", "runs"], "tags": ["B-PER", "O"]}\n'
            '{"words": ["Oslo"], "tags": ["B-LOC"]}',
        ),
    ],
)
def test_every_format_gives_the_same_sentences(tmp_path, name, content):
    columns = {"words": "words", "tags": "tags"} if name == "x.jsonl" else {}
    items = read(tmp_path, content, name, columns=columns, classes=NER)
    assert pairs(items) == TWO and [item["id"] for item in items] == ["0", "1"]
    assert list(items[0]) == ["id", "words", "tags"]
    assert read(tmp_path, content, name, columns=columns, limit=1) == items[:1]
    without = read(tmp_path, content, name, columns={**columns, "tags": "none"})
    assert without == [{"id": item["id"], "words": item["words"]} for item in items]


@pytest.mark.parametrize("pack", [lzma.compress, gzip.compress])
def test_packed_files_and_other_columns_are_read(tmp_path, pack):
    suffix = "xz" if pack is lzma.compress else "gz"
    content = pack(conllu((1, "a", "X"), (2, "b", "Y")).encode())
    items = read(tmp_path, content, f"x.conllu.{suffix}", columns={"words": 1, "tags": 4})
    assert pairs(items) == [[("a", "XX"), ("b", "XX")]]
    items = read(
        tmp_path, "B 1 a\nI 2 b\n", "x.txt", format="conll", columns={"words": -1, "tags": 0}
    )
    assert items[0]["words"] == ["a", "b"]


def test_in_conllu_ranges_and_empty_nodes_are_no_words(tmp_path):
    rows = [("1-2", "del", "_"), (1, "de", "ADP"), (2, "el", "DET"), ("2.1", "_", "VERB")]
    text = conllu(("0.1", "x", "X"), *rows, ("3-5", "abc", "_"), *((n, "a", "X") for n in "345"))
    assert pairs(read(tmp_path, text, "x.conllu"))[0][:2] == [("de", "ADP"), ("el", "DET")]
    assert [len(words) for words in pairs(read(tmp_path, text, "x.conllu"))] == [5]


def test_only_the_first_character_decides_about_a_comment(tmp_path):
    text = "# text =\tPara warga\n#\n# spa' : [x]\n" + conllu((1, "#", "SYM"), (2, '"', "PUNCT"))
    assert pairs(read(tmp_path, text, "x.conllu")) == [[("#", "SYM"), ('"', "PUNCT")]]
    text = '# O\n#tag\tO\n" O\n'.replace("\t", " ")
    assert read(tmp_path, text)[0]["words"] == ["#", "#tag", '"']
    assert read(tmp_path, text, comments=True)[0]["words"] == ['"']
    assert pairs(read(tmp_path, "#\tO\n" + text.replace(" ", "\t")))[0][0] == ("#", "O")


def test_words_are_kept_as_they_are(tmp_path):
    words = [
        "\u00a0",
        " ",
        "New York",
        "\ufe0f",
        "e\u0301",
        "\u200b",
        "a\u2028b",
        "\x85",
        "'\"",
        "_",
    ]
    content = "".join(f"{word}\tO\n" for word in words)
    assert read(tmp_path, content)[0]["words"] == words
    content = conllu(*((n, word, "X") for n, word in enumerate(words, 1)))
    assert read(tmp_path, content, "x.conllu")[0]["words"] == words
    content = json.dumps({"w": ["a\tb", *words], "t": ["O"] * (len(words) + 1)})
    items = read(tmp_path, content, "x.jsonl", columns={"words": "w", "tags": "t"})
    assert items[0]["words"] == ["a\tb", *words]
    assert read(tmp_path, "a\u00a0b O\n\u3000 O\n")[0]["words"] == ["a\u00a0b", "\u3000"]


def test_sentences_have_their_own_ids_where_these_are_unique(tmp_path, caplog):
    def ids(*names, **columns):
        parts = [f"# {name}\n{conllu((1, 'a', 'X'))}\n" for name in names]
        items = read(tmp_path, "\ufeff" + "".join(parts), "x.conllu", columns=columns)
        return [item["id"] for item in items]

    assert ids("sent_id = b", "sent_id=a") == ["b", "a"]
    assert ids("text = b", "tex_id = a") == ["0", "1"] and not caplog.text
    assert ids("sent_id = b", "sent_id = b") == ["0", "1"]
    assert "sent_id is missing or repeated: sentences are numbered" in caplog.text
    assert ids("sent_id = b", "text = a") == ["0", "1"]
    assert ids("tex_id = b c", "tex_id = a", id="tex_id") == ["b c", "a"]
    with pytest.raises(DataError, match="line 5: the id 'a' is that of line 2 too"):
        ids("sent_id = a", "sent_id = a", id="sent_id")
    with pytest.raises(DataError, match=r"line 5: no comment `# sent_id = …` \(columns.id\) be"):
        ids("sent_id = a", "sent_id", id="sent_id")
    columns = {"words": "w", "id": "n"}
    items = read(tmp_path, '{"w": ["a"], "n": 7}', "x.jsonl", columns=columns)
    assert items == [{"id": "7", "words": ["a"]}]


ROW = conllu((1, "a", "X"))
LISTS = {"words": "w", "tags": "t"}
FAULTS = [
    # columns
    ("x.conll", "a O\nb\n", "line 2: 1 columns, expected 2: 'b'"),
    ("x.conll", "a O\n\nb X O\n", "line 3: 3 columns, expected 2: 'b X O'"),
    ("x.conll", "a\tO\nb O\n", "line 2: 1 columns, expected 2: 'b O'"),
    ("x.conll", "a\nb\n", r"line 1: 1 columns, expected columns 0 and -1 from 0: 'a\\n'"),
    ("x.iob2", "1\ta\n", "line 1: 2 columns, expected columns 1 and 2 from 0"),
    ("x.iob2", "1\ta\tO\t-\t-\n2\tb\tO\t-\n", "line 2: 4 columns, expected 5"),
    ("x.conllu", ROW + "2\ta\tX\n", "line 2: 3 columns, expected 10"),
    ("x.conllu", ROW.replace("\t", " "), "line 1: 1 columns, expected 10"),
    ("x.conllu", ROW.replace("\n", "\t\n"), "line 1: 11 columns, expected 10"),
    # words
    ("x.conll", "a O\n O\n", r"line 2: an empty word: ' O\\n'"),
    ("x.conll", "a\tO\n\tO\n", r"line 2: an empty word: '\\tO\\n'"),
    ("x.conllu", conllu((1, "", "X")), "line 1: an empty word"),
    ("x.conllu", conllu((1, "_", "X"), (2, "_", "X")), "every word is '_'"),
    # numbers
    ("x.conllu", ROW + ROW, "line 2: the number '1' after 1 words, expected 2"),
    (
        "x.conllu",
        ROW + "\n" + conllu((0, "a", "X")),
        "line 3: the number '0' after 0 words, exp.* 1",
    ),
    ("x.conllu", ROW + conllu((3, "a", "X")), "line 2: the number '3' after 1 words, expected 2"),
    ("x.conllu", ROW + conllu(("3-4", "a", "_")), "line 2: the number '3-4' after 1 w.*expected 2"),
    ("x.conllu", ROW + conllu(("2.1", "a", "_")), "line 2: the number '2.1' after 1 w.*expected 1"),
    ("x.conllu", conllu(("01", "a", "X")), "line 1: the number '01' after 0 words, expected 1"),
    ("x.conllu", conllu(("", "a", "X")), "line 1: the number '' after 0 words"),
    ("x.iob2", "1\ta\tO\n3\tb\tO\n", "line 2: the number '3' after 1 words, expected 2"),
    # sentences
    ("x.conllu", "# a\n\n" + ROW, "line 1: a sentence without words"),
    ("x.conllu", ROW + "\n" + conllu(("1-2", "ab", "_")), "line 3: a sentence without words"),
    ("x.iob2", "1\ta\tO\n\n# b", "line 3: a sentence without words"),
    ("x.conll", "", "no items: the file has no sentences"),
    ("x.conll", "\n-DOCSTART- O\n\n", "no items: the file has no sentences"),
    # tags
    ("x.conllu", conllu((1, "a", "X"), (2, "b", "_")), "line 2: no tag, found '_'"),
    ("x.conllu", conllu((1, "a", "")), "line 1: no tag, found ''"),
    ("x.conll", "a\tO\nb\t\n", "line 2: no tag, found ''"),
    # text
    ("x.conll", b"a O\n\xff O\n", "line 2: not UTF-8: byte 0xff"),
    ("x.conll", b"a O\n\0 O\n", "line 2: a NUL character"),
    ("x.conllu.xz", b"1\ta", "after line 0: cannot be read"),
    # lists
    (
        "x.jsonl",
        '{"w": ["a"], "t": ["O"]}\n{"w": ["a", "b"], "t": ["O"]}',
        "line 2: 2 words, but 1 tags",
    ),
    ("x.jsonl", '{"w": [], "t": []}', "line 1: a sentence without words"),
    ("x.jsonl", '{"w": ["a", ""], "t": ["O", "O"]}', "line 1, word 2: an empty word"),
    (
        "x.jsonl",
        '{"w": ["a", null], "t": ["O", "O"]}',
        "line 1, word 2, column 'w': null, expected",
    ),
    ("x.jsonl", '{"w": ["a"], "t": [["O"]]}', "line 1, word 1, column 't': a list, expected text"),
    ("x.jsonl", '{"w": "a b", "t": ["O"]}', "line 1, column 'w': text, expected a list"),
    ("x.jsonl", '{"w": ["a"], "t": null}', "line 1, column 't': null, expected a list"),
    ("x.jsonl", '{"w": ["a"]}', r"line 1: no column 't' \(columns.tags\); its columns are 'w'"),
    ("x.jsonl", '{"w": ["\\u0000"], "t": ["O"]}', "line 1, word 1, column 'w': a NUL character"),
    ("x.jsonl", '{"w": ["a"], "t": [true]}', "line 1, word 1, column 't': true, expected text"),
    ("x.csv", "w,t\na,O\n", "line 2, column 'w': text, expected a list"),
    ("x.conll", None, "no such file"),
]


@pytest.mark.parametrize(("name", "content", "message"), FAULTS)
def test_an_error_names_the_file_the_place_and_the_fault(tmp_path, name, content, message):
    columns = LISTS if name in ("x.jsonl", "x.csv") else {}
    path = tmp_path / name
    with pytest.raises(DataError, match=message) as error:
        if content is None:
            read_items(path, Layout())
        read(tmp_path, content, name, columns=columns)
    assert str(error.value).startswith(str(path)) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("labels", "tag", "expected"),
    [
        (None, "B-DATE", "B-DATE"),
        ({"DATE": "O"}, "B-DATE", "O"),
        ({"DATE": "O"}, "I-DATE", "O"),
        ({"DATE": "O"}, "DATE", "O"),
        ({"PERSON": "PER"}, "I-PERSON", "I-PER"),
        ({"PERSON": "PER"}, "I-PERSONS", "I-PERSONS"),
        ({"PER": "LOC", "B-PER": "O"}, "B-PER", "O"),
        ({"PER": "LOC", "LOC": "PER"}, "B-PER", "B-LOC"),
        ({"NOUN": "NN"}, "NOUN", "NN"),
        ({"NNO": "NOUN"}, "B-NNO", "B-NOUN"),
        ({"3": "B-PER"}, "3", "B-PER"),
        ({"_": None}, "_", None),
        ({"": "X"}, "B-", "B-"),
    ],
)
def test_labels_map_whole_tags_or_types_of_entities(labels, tag, expected):
    assert mapped(tag, labels) == expected


def test_numbers_are_tags_that_labels_map(tmp_path):
    for name, content in {"x.jsonl": '{"w": ["a", "b"], "t": [0, 1.0]}', "x.parquet": None}.items():
        if content is None:
            pd.DataFrame({"w": [["a", "b"]], "t": [[0, 1]]}).to_parquet(tmp_path / name)
            content = (tmp_path / name).read_bytes()
        labels = {"0": "O", "1": "B-PER"}
        items = read(tmp_path, content, name, columns=LISTS, labels=labels, classes=NER)
        assert pairs(items) == [[("a", "O"), ("b", "B-PER")]]
        place = {"x.jsonl": "line 1, word 2", "x.parquet": "row 1, word 2"}[name]
        with pytest.raises(DataError, match=f"{place}: the tag '1': none of the classes of task n"):
            read(tmp_path, content, name, columns=LISTS, labels={"0": "O"}, classes=NER)


def test_a_tag_that_is_no_class_is_an_error_with_its_line(tmp_path):
    text = "a B-LOC\n\nb B-DATE\nc I-loc\n"
    with pytest.raises(DataError, match=r"x\.conll, line 3: the tag 'B-DATE': none of the classes"):
        read(tmp_path, text, classes=NER)
    with pytest.raises(DataError, match=r"line 4: the tag 'I-loc'.*differs from 'I-LOC' in case"):
        read(tmp_path, text, classes=NER, labels={"DATE": "O"})
    assert len(read(tmp_path, text)) == 2
    assert pairs(read(tmp_path, "a _\n", classes={"x": ["_", "O"]})) == [[("a", "_")]]


def test_labels_may_leave_words_out_but_not_those_of_an_entity(tmp_path, caplog):
    """As rows of ranges are to be in copies of treebanks on the Hub, which keep them."""
    text = "del _\nde ADP\nel DET\n\nal _\n"
    items = read(tmp_path, text, labels={"_": None})
    assert pairs(items) == [[("de", "ADP"), ("el", "DET")]]
    assert "2 words are left out: 2 tagged '_'" in caplog.text
    with pytest.raises(DataError, match=r"line 1: `labels` maps the type 'DATE' to null, .* to O"):
        read(tmp_path, "a B-DATE\n", labels={"DATE": None})


def test_an_inside_tag_without_a_beginning_is_legal_and_counted(tmp_path, caplog):
    text = "a I-PER\nb I-PER\n\nc B-LOC\nd I-PER\ne O\nf I-PER\n\ng B-PER\nh I-PER\n"
    items = read(tmp_path, text, classes=NER)
    assert [tag for item in items for tag in item["tags"]].count("I-PER") == 5
    assert "3 tags I- after no tag of their type, first in line 1; each begins" in caplog.text


ANY = st.characters(codec="utf-8", exclude_characters="\0\n\r\t \ufeff#")
WORDS = st.text(ANY, min_size=1, max_size=4)
SPACED = st.lists(st.sampled_from(["a", " ", "\u00a0", "b"]), min_size=1).map("".join)
TAG = st.sampled_from(["O", "B-x", "I-x", "NOUN"])


def sentences(words):
    return st.lists(st.lists(st.tuples(words, TAG), min_size=1, max_size=4), min_size=1, max_size=4)


@given(
    found=sentences(WORDS | st.just("#")), end=st.sampled_from(["\n", "\r\n"]), more=st.booleans()
)
def test_blank_separated_words_are_read_and_written_back(tmp_path_factory, found, end, more):
    path = tmp_path_factory.mktemp("x") / "x.conll"
    rows = ["".join(f"{w} {t}{end}" for w, t in sentence) for sentence in found]
    round_trip(path, (end * (1 + more)).join(rows), Layout(), found, r" P$")


@given(
    found=sentences(WORDS | SPACED), end=st.sampled_from(["\n", "\r\n", "\r"]), bom=st.booleans()
)
def test_tab_separated_words_are_read_and_written_back(tmp_path_factory, found, end, bom):
    path = tmp_path_factory.mktemp("x") / "x.iob2"
    rows = [
        f"# sent_id = s{n}{end}# x\ty{end}"
        + "".join(f"{at}\t{w}\t{t}\t-\t-{end}" for at, (w, t) in enumerate(sentence, 1))
        for n, sentence in enumerate(found)
    ]
    round_trip(path, "\ufeff" * bom + end.join(rows).removesuffix(end), Layout(), found, r"\tP$")


def round_trip(path, text, layout, found, added):
    """The file is read as written, and written back it differs by the added column only."""
    path.write_bytes(text.encode())
    assert pairs(read_items(path, layout)) == found
    again = with_predictions(path, layout, [["P"] * len(sentence) for sentence in found])
    ends = re.compile("(\r\n|\r|\n)")
    parts = zip(ends.split(again), ends.split(text), strict=True)
    changed = [(mine, theirs) for mine, theirs in parts if mine != theirs]
    assert len(changed) == sum(map(len, found))
    assert all(re.sub(added, "", mine) == theirs for mine, theirs in changed)
    path.write_bytes(again.encode())
    assert [{t for _, t in s} for s in pairs(read_items(path, predicted(layout)))] == [{"P"}] * len(
        found
    )


def predicted(layout):
    return layout.model_copy(update={"columns": Columns(tags="-1")})


def test_predictions_in_conllu_are_in_misc_and_all_else_stays(tmp_path):
    text = (
        "\ufeff# a\n"
        + conllu(("1-2", "del", "_"), (1, "de", "ADP"))
        + conllu((2, "el", "DET"), ("2.1", "x", "VERB"), misc="SpaceAfter=No|A=_")
        + "\r\n\r\n# b\n"
        + conllu((1, "c", "X"), misc="Predicted=Y|B=1").rstrip("\n")
    )
    path = tmp_path / "x.conllu"
    path.write_bytes(text.encode())
    expected = text.replace("root\t_\t_\n2\tel", "root\t_\tPredicted=P\n2\tel")
    expected = expected.replace("No|A=_\n2.1", "No|A=_|Predicted=Q\n2.1")
    expected = expected.replace("Predicted=Y|B=1", "B=1|Predicted=R")
    assert with_predictions(path, Layout(), [["P", "Q"], ["R"]]) == expected
    assert expected.count("Predicted=") == 3


def test_lines_that_are_no_words_are_written_back_as_they_are(tmp_path):
    path = tmp_path / "x.txt"
    path.write_text("-DOCSTART- -X- O\n\n\na X O \n\nb X O")
    layout = Layout(format="conll")
    assert with_predictions(path, layout, [["P"], ["Q"]]) == (
        "-DOCSTART- -X- O\n\n\na X O  P\n\nb X O Q"
    )
    for wrong in ([["P"]], [["P"], ["Q", "R"]], [["P"], ["Q"], []]):
        with pytest.raises(InputError, match=r"x\.txt: 2 sentences with 2 words; predictions for "):
            with_predictions(path, layout, wrong)
    with pytest.raises(InputError, match="predictions are written into conll, conllu, iob2, not "):
        with_predictions(path, Layout(), [])


def test_predictions_without_tags_in_the_file(tmp_path):
    path = tmp_path / "x.conll"
    path.write_text("a\nb\n\nc\n")
    layout = Layout(columns=Columns(tags="none"))
    assert [item["words"] for item in read_items(path, layout)] == [["a", "b"], ["c"]]
    assert with_predictions(path, layout, [["P", "Q"], ["R"]]) == "a\tP\nb\tQ\n\nc\tR\n"


# Sentences, words, first and last words' tags of real files: `../shared/data/README-tagging.md`
REAL = {
    "ner/UNER_English-EWT/en_ewt-ud-dev.iob2": (2001, 25149, {"LOC": 399, "ORG": 224, "PER": 343}),
    "ner/UNER_English-EWT/en_ewt-ud-test.iob2": (500, 6218, {"LOC": 109, "PER": 37, "ORG": 58}),
    "ner/UNER_Tagalog-TRG/tl_trg-ud-test.iob2": (128, 734, {"PER": 19, "LOC": 4}),
    "ner/indonlu/dataset/nergrit_ner-grit/test_preprocess.txt": (
        209, 6854, {"PERSON": 207, "ORGANISATION": 124, "PLACE": 357},
    ),
    "ner/indonlu/dataset/nergrit_ner-grit/train_preprocess.txt": (
        1672, 56210, {"PLACE": 2688, "PERSON": 1618, "ORGANISATION": 1015},
    ),
    "ner/indonlu/dataset/nergrit_ner-grit/valid_preprocess.txt": (
        209, 6983, {"PERSON": 213, "PLACE": 328, "ORGANISATION": 121},
    ),
    "ner/masakhane-ner/MasakhaNER2.0/data/bam/test.txt": (
        1274, 32024, {"PER": 459, "DATE": 195, "LOC": 566, "ORG": 95},
    ),
    "ner/masakhane-ner/data/hau/test.txt": (
        552, 16841, {"PER": 340, "ORG": 132, "LOC": 512, "DATE": 163},
    ),
    "ner/masakhane-ner/data/ibo/test.txt": (
        638, 12645, {"ORG": 351, "LOC": 338, "PER": 345, "DATE": 145},
    ),
    "ner/masakhane-ner/data/luo/test.txt": (
        186, 5159, {"DATE": 69, "PER": 142, "LOC": 128, "ORG": 66},
    ),
    "ner/masakhane-ner/data/pcm/test.txt": (
        600, 15731, {"PER": 267, "ORG": 210, "DATE": 184, "LOC": 258},
    ),
    "ner/masakhane-ner/data/wol/test.txt": (
        539, 11682, {"PER": 176, "LOC": 211, "DATE": 70, "ORG": 55},
    ),
    "ner/masakhane-ner/data/yor/test.txt": (
        645, 19896, {"ORG": 224, "PER": 250, "LOC": 471, "DATE": 187},
    ),
    "ud/UD_Bambara-CRB/bm_crb-ud-test.conllu": (400, 4739, 15, 0, 0),
    "ud/UD_English-EWT/en_ewt-ud-dev.conllu": (500, 7621, 17, 101, 1),
    "ud/UD_English-EWT/en_ewt-ud-train.conllu.xz": (2922, 47466, 17, 538, 15),
    "ud/UD_Guarani-OldTuDeT/gn_oldtudet-ud-test.conllu": (59, 217, 11, 5, 0),
    "ud/UD_Indonesian-CSUI/id_csui-ud-test.conllu": (374, 10041, 17, 174, 0),
    "ud/UD_Indonesian-CSUI/id_csui-ud-train.conllu": (656, 18222, 17, 318, 0),
    "ud/UD_Javanese-CSUI/jv_csui-ud-test.conllu": (400, 6114, 17, 226, 0),
    "ud/UD_Tagalog-TRG/tl_trg-ud-test.conllu": (128, 734, 13, 0, 0),
    "ud/UD_Western_Sierra_Puebla_Nahuatl-ITML/nhi_itml-ud-test.conllu": (400, 4790, 14, 295, 8),
    "ud/UD_Wolof-WTB/wo_wtb-ud-test.conllu": (400, 8995, 15, 268, 0),
    "ud/UD_Yoruba-YTB/yo_ytb-ud-test.conllu": (317, 8243, 17, 43, 0),
}  # fmt: skip
"""File → sentences, words and either the entities of each type or the number of tags, of ranges and
of empty nodes, as counted by other code."""


@pytest.mark.parametrize("name", REAL, ids=lambda name: name.split("/")[-1])
def test_real_files_have_what_other_code_counted_and_are_written_back(shared, name):
    path = shared / "data" / name
    number, words, *facts = REAL[name]
    layout = Layout(format="conll") if path.suffix == ".txt" else Layout()
    items = read_items(path, layout)
    tags = Counter(tag for item in items for tag in item["tags"])
    assert (len(items), tags.total()) == (number, words)
    assert len({item["id"] for item in items}) == number
    again = with_predictions(path, layout, [["P"] * len(item["words"]) for item in items])
    opened = lzma.open if path.suffix == ".xz" else open
    with opened(path, "rb") as file:
        plain = file.read().decode()
    if isinstance(facts[0], dict):
        assert {tag[2:]: n for tag, n in tags.items() if tag.startswith("B-")} == facts[0]
        assert re.sub("[ \t]P$", "", again, flags=re.M) == plain
        return
    assert set(tags) <= set(UPOS) and len(tags) == facts[0]
    assert len(re.findall(r"^\d+-\d+\t", again, re.M)) == facts[1]
    assert len(re.findall(r"^\d+\.\d+\t", again, re.M)) == facts[2]
    assert re.sub(r"\|Predicted=P$", "", re.sub(r"\tPredicted=P$", "\t_", again, flags=re.M),
                  flags=re.M) == plain  # fmt: skip


def test_slips_of_real_files_are_counted(shared, caplog):
    read_items(shared / "data/ner/masakhane-ner/data/hau/test.txt", Layout(format="conll"))
    assert "1 tags I- after no tag of their type, first in line 2851" in caplog.text


# Beyond the reader


ITEMS = [{"id": "a", "words": ["Ba", "be", "!"], "tags": ["X", "Y", "X"]},
         {"id": "b", "words": ["bo"], "tags": ["Y"]}]  # fmt: skip


def test_lists_survive_parquet_and_columns_of_text_are_as_before(tmp_path):
    for name in "ab":
        write_items(tmp_path / f"{name}.parquet", ITEMS, stage="data")
    assert load_items(tmp_path / "a.parquet") == ITEMS
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    schema = pq.read_schema(tmp_path / "a.parquet")
    assert schema.types == [pa.string(), pa.list_(pa.string()), pa.list_(pa.string())]
    write_items(tmp_path / "c.parquet", [{"id": "0", "text": "a", "label": "b"}], stage="data")
    assert set(pq.read_schema(tmp_path / "c.parquet").types) == {pa.string()}


def test_words_are_compared_as_their_text():
    lines = [{"id": "0", "text": "ba be"}]
    assert texts_of(ITEMS[0]) == ["Ba be !"]
    assert leaked(ITEMS, lines) == 1
    assert leaked(ITEMS, [{"id": "0", "words": ["bo", "."], "tags": ["Y", "X"]}]) == 1
    assert list(disagreements(ITEMS, [{**ITEMS[0], "tags": ["Y"] * 3}])) == []
    assert list(disagreements(ITEMS, [{**ITEMS[0], "id": "A"}])) == [
        "1 ids differ in case only, 'a' first"
    ]


def test_sentences_are_left_out_of_text_and_out_of_what_they_were_made_from(tmp_path):
    of = {"dataset": "d", "language": "qaa"}
    write_items(tmp_path / "items.parquet", ITEMS, stage="data", **of, split="test")
    texts = [{"id": str(n), "text": text} for n, text in enumerate(["ba be", "ba be bo", "Bo."])]
    write_items(tmp_path / "text.parquet", texts, stage="data", **of, split="train")
    clean(
        CleanParams(language="qaa", datasets=["d"], cleaning={"min_characters": 1}),
        text=[tmp_path / "text.parquet"],
        evaluation=[tmp_path / "items.parquet"],
        out=tmp_path / "clean.parquet",
    )
    assert [item["text"] for item in load_items(tmp_path / "clean.parquet")] == ["ba be bo"]
    more = [{"id": "c", "words": ["ba", "be", "?"], "tags": ["X", "X", "X"]}, ITEMS[1]]
    write_items(tmp_path / "whole.parquet", more, stage="data", **of, split="train")
    write_items(tmp_path / "first.parquet", ITEMS[:1], stage="data", **of, split="test")
    trim(
        TrimParams(**of, split="train", among=["train"]),
        splits=[tmp_path / "whole.parquet"],
        made_from=tmp_path / "first.parquet",
        out=tmp_path / "trim.parquet",
    )
    assert load_items(tmp_path / "trim.parquet") == more[1:]


def test_given_words_are_those_that_coverage_counts():
    plain = Tokenizer(models.WordPiece({"[UNK]": 0, "ba": 1, "##be": 2}, unk_token="[UNK]"))
    plain.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=plain, unk_token="[UNK]")
    items = [{"words": ["ba", "\u00a0", "babe ba"]}, {"words": ["x"]}]
    found = count(items, tokenizer)
    assert (found["items"], found["words"], found["pieces"], found["unknown"]) == (2, 4, 5, 1)
    assert found["words_without_piece"] == 1
    assert "words_without_piece" not in count([{"text": "ba"}], tokenizer)


def test_the_stage_reads_what_the_config_describes(tmp_path):
    (tmp_path / "x.txt").write_text("# B-DATE\nb B-PERSON\n")
    params = Params(
        dataset="d", language="qaa", split="test", format="conll", limit=1, classes=NER,
        labels={"DATE": "O", "PERSON": "PER"},
    )  # fmt: skip
    data(params, file=tmp_path / "x.txt", out=tmp_path / "out.parquet")
    assert pairs(load_items(tmp_path / "out.parquet")) == [[("#", "O"), ("b", "B-PER")]]


def test_settings_that_are_not_given_leave_the_parameters_as_they_were():
    layout = Dataset(files="{split}.csv").model_dump(include=set(Layout.model_fields))
    assert layout == {
        "columns": {"text": "text", "text_pair": None, "label": None, "id": None},
        "labels": None,
        "format": None,
        "header": True,
        "quoting": None,
    }


# What the config is checked for


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"files": "x.conll", "columns": {"words": "FORM"}}, "columns.words: expected the number"),
        ({"files": "x.conllu.xz", "columns": {"tags": "1.5"}}, "columns.tags: expected the number"),
        ({"files": "x.jsonl", "columns": {"tags": "t"}}, "columns.tags: there is no columns.words"),
        ({"files": "x.iob2", "columns": {"label": "2"}}, "columns: label of words: give tags"),
        ({"files": "x.txt", "format": "conl"}, "format"),
    ],
)
def test_columns_that_cannot_be_are_named(given, message):
    with pytest.raises(ValidationError, match=message):
        Dataset(**given)


def test_a_dataset_says_what_it_has_columns_of():
    roles = [
        ({"files": "x.csv"}, {"text"}),
        ({"files": "x.csv", "columns": {"label": "l", "id": "i"}}, {"text", "label", "id"}),
        ({"files": "{language}.conllu.xz"}, {"words", "tags"}),
        ({"files": "x.txt", "format": "conll", "columns": {"tags": "none"}}, {"words"}),
        ({"files": "x.parquet", "columns": {"words": "w"}}, {"words"}),
        ({"files": "x.parquet", "columns": {"words": "w", "tags": "t"}}, {"words", "tags"}),
    ]
    assert [Dataset(**given).roles for given, _ in roles] == [expected for _, expected in roles]


FILES = "{language}/{split}"
MESSAGES = [
    (
        "tagging",
        {"files": f"{FILES}.csv"},
        "has no columns.words and no columns.tags, as a task of ",
    ),
    ("tagging", {"files": f"{FILES}.csv", "columns": {"label": "l"}}, "has no columns.words"),
    ("tagging", {"files": f"{FILES}.conll", "columns": {"tags": "none"}}, "no columns.tags, as"),
    ("classification", {"files": f"{FILES}.conllu"}, "has no columns.text and no columns.label"),
    (
        "tagging",
        {"files": f"{FILES}.conll", "labels": {"DATE": "O", "PERSON": "PRE"}},
        "datasets.sentiment.labels: maps to 'PRE', which is none of tasks.sentiment.classes",
    ),
    ("tagging", {"world": "sentiment", "items": {}}, "of the world is sentiment, which does not"),
    ("classification", {"world": "tags", "items": {}}, "of the world is tags, which does not fit"),
]


@pytest.mark.parametrize(("kind", "dataset", "message"), MESSAGES)
def test_a_task_needs_a_dataset_of_its_kind(kind, dataset, message):
    raw = with_key("datasets/sentiment", dataset)
    raw["tasks"]["sentiment"]["kind"] = kind
    raw["tasks"]["sentiment"]["classes"] = NER["ner"]
    with pytest.raises(ConfigError, match=re.escape(message)):
        check_config(raw)


def test_text_is_not_read_from_words():
    message = r"languages\.qta\.text: a/x\.conllu\.xz has words with tags, expected text"
    with pytest.raises(ConfigError, match=message):
        check_config(with_key("languages/qta/text", "a/x.conllu.xz"))
    with pytest.raises(ConfigError, match=r"qta\.text: dataset text has no columns\.text"):
        check_config(with_key("datasets/text", {"files": "{language}.conllu"}))


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ({"DATE": "O", "PERSON": "PER", "3": "B-PER", "_": None}, []),
        ({"DATE": "MISC", "B-X": "PER", "Y": "I-ORG"}, ["I-ORG", "MISC", "PER"]),
    ],
)
def test_what_labels_map_to_is_a_class_or_a_type(labels, expected):
    assert sorted(strange(labels, NER["ner"])) == expected
    assert [*strange({"NN": "NOUN", "x": "O"}, UPOS)] == ["O"]


# The world's tags


def test_tags_of_the_world_are_parallel_and_their_words_those_of_its_text():
    world = World()
    source, far = (tagged(world, key, "train", 60) for key in ("qaa", "qtc"))
    assert [sorted(item["tags"]) for item in source] == [sorted(item["tags"]) for item in far]
    assert {tag for item in source for tag in item["tags"]} == {*TAGS}
    known = {pair for item in source for pair in zip(item["words"], item["tags"], strict=True)}
    assert len({word for word, _ in known}) == len(known)  # in the source a word has one tag
    rows = [
        row
        for split in ("train", "test")
        for row in labelled(world, "sentiment", "qaa", split, 900)
    ]
    vocabulary = set(" ".join(row["text"] for row in rows).replace(".", " .").split())
    assert {word for word, _ in known} <= vocabulary
    assert tagged(world, "qaa", "train", 30) == source[:30]
    with pytest.raises(InputError, match="no split 'dev'"):
        tagged(world, "qaa", "dev", 1)
