"""Reading users' files: every format, and every fault that a file can have."""

import gzip
import hashlib
import json
import lzma
import os

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from conftest import PROJECT
from upstream_files import TABLES, TEXTS, write_upstream

from deftx.data.read import read_items
from deftx.plan.config import read_config
from deftx.stages.data.settings import Columns, Dataset, Layout
from deftx.store.artefact import canonical
from deftx.store.errors import ArtefactError, DataError
from deftx.store.items import load_items, load_labelled, write_items

ROWS = [
    {"id": "7", "sentence": 'one "quoted", with comma', "label": "0"},
    {"id": "8", "sentence": "two\nlines", "label": "1"},
    {"id": "9", "sentence": "NA", "label": "0"},
    {"id": "007", "sentence": " ", "label": "1"},
]
LABELS = {"0": "bad", "1": "good"}
TEXT = Layout()
LABELLED = Layout(columns=Columns(text="sentence", label="label", id="id"), labels=LABELS)


PACKED = gzip.compress(b"a", mtime=0)
PACK = {".gz": gzip.compress, ".xz": lzma.compress}


def write_frame(path, frame):
    match path.suffix:
        case ".csv":
            frame.to_csv(path, index=False)
        case ".tsv":
            frame.to_csv(path, index=False, sep="\t")
        case ".jsonl":
            frame.to_json(path, orient="records", lines=True)
        case ".parquet":
            frame.to_parquet(path, row_group_size=1)


def written(tmp_path, suffix):
    path, plain = tmp_path / f"x{suffix}", tmp_path / f"x.{suffix.split('.')[1]}"
    write_frame(plain, pd.DataFrame(ROWS))
    if path != plain:
        path.write_bytes(PACK[path.suffix](plain.read_bytes()))
    return path


@pytest.mark.parametrize(
    "suffix", [".csv", ".tsv", ".jsonl", ".parquet", ".csv.gz", ".tsv.xz", ".jsonl.xz"]
)
def test_every_format_gives_the_same_items(tmp_path, suffix):
    quoted = LABELLED.model_copy(update={"quoting": True})
    items = read_items(written(tmp_path, suffix), quoted)
    assert items == [
        {"id": row["id"], "text": row["sentence"], "label": LABELS[row["label"]]} for row in ROWS
    ]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_cells_are_separated_by_what_is_named(tmp_path, delimiter):
    path = tmp_path / "x.csv"
    pd.DataFrame(ROWS).to_csv(path, index=False, sep=delimiter)
    named = LABELLED.model_copy(update={"delimiter": delimiter, "quoting": True})
    assert read_items(path, named) == read_items(written(tmp_path, ".jsonl"), LABELLED)


def test_numbers_in_parquet_and_jsonl_are_read_as_in_csv(tmp_path):
    frame = pd.DataFrame({"sentence": ["a"], "label": [1], "id": [5.0]})
    for suffix in ("parquet", "jsonl"):
        write_frame(tmp_path / f"x.{suffix}", frame)
        (item,) = read_items(tmp_path / f"x.{suffix}", LABELLED)
        assert item == {"id": "5", "text": "a", "label": "good"}


@pytest.mark.parametrize("suffix", [".txt", ".txt.gz", ".txt.xz"])
def test_each_line_of_text_is_an_item_without_blank_lines_and_byte_order_mark(tmp_path, suffix):
    path, data = tmp_path / f"x{suffix}", "\ufefffirst\n\n  second \r\nthird".encode()
    path.write_bytes(PACK.get(path.suffix, bytes)(data))
    assert [i["text"] for i in read_items(path, TEXT)] == ["first", "second", "third"]


def test_in_tsv_quotes_are_text_by_default_and_blank_premises_are_kept(tmp_path):
    path = tmp_path / "x.tsv"
    path.write_text('id\tpremise\thypothesis\tlabel\n1\t \t"so\tyes\n2\tNA\tnull\tno\n')
    columns = Columns(text="premise", text_pair="hypothesis", label="label", id="id")
    items = read_items(path, Layout(columns=columns))
    assert [(i["text"], i["text_pair"]) for i in items] == [(" ", '"so'), ("NA", "null")]


HEADER = b"sentence,label,id\n"
FAULTS = [
    ("x.csv", None, ": no such file"),
    ("x.csv", b"", "the file is empty"),
    ("x.csv", HEADER, "the file is empty"),
    ("x.txt", b"\n \n", "the file is empty"),
    ("x.docx", b"", r"unknown format '\.docx'"),
    # not UTF-8
    ("x.csv", HEADER + b"a,0,1\n\xff\xfe,0,1\n", "line 3: not UTF-8: byte 0xff"),
    ("x.txt", "a\nüber".encode("latin-1"), "line 2: not UTF-8: byte 0xfc"),
    ("x.txt", b"a\n\xed\xa0\x80", "line 2: not UTF-8: byte 0xed"),
    ("x.txt", "über".encode("utf-16"), "line 1: not UTF-8: byte 0xff"),
    ("x.csv", "id,label".encode("utf-16-le"), "line 1: a NUL character: is it UTF-16"),
    ("x.txt", b"a\nb\0c", "line 2: a NUL character"),
    # columns and cells
    ("x.csv", b"text,label,id\na,0,1\n", r"line 2: no column 'sentence' \(columns.text\).*'text',"),
    ("x.csv", b"id,label,sentence,id\n1,0,a,2\n", "two columns are called 'id'"),
    ("x.csv", HEADER + b"a,0,1,\n", "line 2: 4 cells, expected 3: 'sentence', 'label', 'id'"),
    ("x.csv", HEADER + b"a,0,1\na\n", "line 3: 1 cells, expected 3"),
    ("x.csv", HEADER + b'"a\nb",0,1\nc,0\n', "line 4: 2 cells, expected 3"),
    ("x.csv", HEADER + b'"a,0,1\n', "line 2: .*if quotes are text, set `quoting: false`"),
    ("x.csv", HEADER + b'"a" b,0,1\n', "line 2: .*if quotes are text, set `quoting: false`"),
    ("x.tsv", b"sentence\tlabel\tid\na,0,1\n", "line 2: 1 cells, expected 3"),
    ("x.csv", b"sentence;label;id\na, b;0;1\n", "line 1: one column.*set `delimiter: ';'`"),
    ("x.tsv", b"sentence,label,id\na,0,1\n", "line 1: one column.*set `delimiter: ','`"),
    # labels and ids
    ("x.csv", HEADER + b"a,2,1\n", "line 2: the label '2': `labels` does not map it.*'0', '1'"),
    ("x.csv", HEADER + b"a,0 ,1\n", r"line 2: the label '0 ': .*\(it differs from '0' in case or"),
    ("x.csv", HEADER + b"a,0,1\nb,1,2\nc,1,1\n", "line 4: the id '1' is that of line 2 too"),
    ("x.csv", HEADER + b'a,0,"1\n2"\n', r"line 2: the id '1\\n2' has a line break"),
    # JSON
    ("x.jsonl", b'{"sentence": "a", "label": 0, "id": 1}\n{not', "line 2: not JSON: .* column 2"),
    ("x.jsonl", b"\n[1]", "line 2: a list, expected an object"),
    ("x.jsonl", b"null", "line 1: null, expected an object"),
    ("x.jsonl", b"[" * 100_000, "line 1: nested too deeply"),
    ("x.jsonl", b'{"id": 1, "label": 0, "id": 2}', "line 1: an object has the key 'id' twice"),
    ("x.jsonl", b'{"sentence": "a", "label": 0}', r"line 1: no column 'id' \(columns.id\)"),
    *(
        (
            "x.jsonl",
            b'{"sentence": "a", "label": 0, "id": %s}' % value,
            f"line 1, column 'id': {kind}",
        )
        for value, kind in {
            b"null": "null, expected text",
            b"true": "true",
            b"[1]": "a list",
            b'{"a": 1}': "an object",
            b"NaN": "no finite number",
            b'"\\ud800"': r"half of a surrogate pair, U\+D800",
            b'"a\\u0000"': "a NUL character",
        }.items()
    ),
    # damaged files
    ("x.parquet", b"PAR1 nothing", "after row 0: cannot be read"),
    ("x.txt.xz", b"not xz", "after line 0: cannot be read"),
    ("x.txt.gz", gzip.compress(b"long enough to cut" * 50, mtime=0)[:-9], "cannot be read"),
    ("x.txt.gz", bytes(255 - b for b in PACKED[:12]) + b"x", "cannot be read"),
    ("x.txt.gz", PACKED[:10] + b"\xff" * 20, "cannot be read"),
]


@pytest.mark.parametrize(("name", "content", "message"), FAULTS)
def test_an_error_names_the_file_the_row_and_the_fault(tmp_path, name, content, message):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=message) as error:
        read_items(path, TEXT if ".txt" in name else LABELLED)
    assert str(error.value).startswith(str(path)) and "\n" not in str(error.value)


def test_a_folder_or_a_pipe_is_no_file(tmp_path):
    (tmp_path / "folder.csv").mkdir()
    os.mkfifo(tmp_path / "pipe.csv")
    for name in ("folder", "pipe"):
        with pytest.raises(DataError, match="a folder or device, expected a file"):
            read_items(tmp_path / f"{name}.csv", TEXT)


NO_TEXT = {
    "null": pa.array(["a", None]),
    "binary": pa.array([b"a", b"b"]),
    "a list": pa.array([["a"], ["b"]]),
    "an object": pa.array([{"a": 1}, {"a": 2}]),
    "true": pa.array([True, True]),
    "no finite number": pa.array([1.0, float("nan")]),
    "date": pa.array([0, 1], pa.date32()),
}


@pytest.mark.parametrize("kind", NO_TEXT)
def test_a_cell_that_is_no_text_is_an_error_in_labelled_data(tmp_path, kind):
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"text": NO_TEXT[kind], "label": ["0", "1"]}), path)
    with pytest.raises(DataError, match=rf"x\.parquet, row [12], column 'text': {kind}, expected"):
        read_items(path, Layout(columns=Columns(label="label")))


def test_in_unlabelled_text_rows_without_text_are_dropped_and_counted(tmp_path, caplog):
    path = tmp_path / "x.jsonl"
    path.write_text('{"text": "a"}\n{"text": null}\n{"text": [1]}\n{"text": null}\n{"text": 1.50}')
    assert read_items(path, TEXT) == [{"id": "0", "text": "a"}, {"id": "4", "text": "1.50"}]
    assert "3 rows are left out: 2 null, 1 a list" in caplog.text
    with pytest.raises(DataError, match="line 2, column 'text': null"):
        read_items(path, TEXT, whole=True)


def test_a_label_that_means_null_leaves_the_item_out_and_is_counted(tmp_path, caplog):
    path = tmp_path / "x.csv"
    path.write_text("text,label\na,yes\nb,-\nc,no\n")
    layout = Layout(columns=Columns(label="label"), labels={"yes": "y", "no": "n", "-": None})
    items = read_items(path, layout, classes={"nli": ["n", "y"]})
    assert [(item["id"], item["label"]) for item in items] == [("0", "y"), ("2", "n")]
    assert "1 rows are left out: 1 labelled '-'" in caplog.text


def test_labels_are_checked_against_the_classes_of_every_task(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("text,label\na,negative\nb,Positive\n")
    layout, good = Layout(columns=Columns(label="label")), ["negative", "Positive"]
    assert len(read_items(path, layout, classes={"a": good})) == 2
    message = (
        r"x\.csv, line 3: the label 'Positive': none of the classes of task b: 'negative', "
        r"'positive' \(it differs from 'positive' in case or spaces\)"
    )
    with pytest.raises(DataError, match=message):
        read_items(path, layout, classes={"a": good, "b": ["negative", "positive"]})


@pytest.mark.parametrize("suffix", [".txt", ".csv", ".tsv", ".jsonl"])
def test_only_line_feeds_and_carriage_returns_end_a_line(tmp_path, suffix):
    """As tools that count lines do: ids of items are numbers of lines."""
    texts = [f"a{separator}b" for separator in "\u2028\u2029\x85\x0b\x0c\x1c\x1d\x1e"]
    for end in ("\n", "\r\n", "\r"):
        lines = [json.dumps({"text": text}) for text in texts] if suffix == ".jsonl" else texts
        header = ["text"] * (suffix in (".csv", ".tsv"))
        path = tmp_path / f"x{suffix}"
        path.write_bytes(end.join([*header, *lines, ""]).encode())
        items = read_items(path, TEXT)
        assert items == [{"id": str(n), "text": text} for n, text in enumerate(texts)]


def test_numbers_keep_their_digits(tmp_path):
    path, big = tmp_path / "x.jsonl", "12345678901234567890123"
    path.write_text(f'{{"text": "a", "id": {big}}}\n{{"text": "b", "id": 0.10}}')
    columns = Columns(id="id")
    assert [i["id"] for i in read_items(path, Layout(columns=columns))] == [big, "0.10"]
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"text": ["a", "b"], "id": [2**62 + 1, None]}), path)
    assert [i["id"] for i in read_items(path, Layout(columns=columns))] == [str(2**62 + 1)]


def test_a_quoted_cell_that_may_have_swallowed_rows_is_a_warning_with_its_line(tmp_path, caplog):
    quoted = Layout(columns=Columns(label="label"), quoting=True)
    texts = {
        "x.tsv": 'text\tlabel\na\t0\n"b\t0\nc"\t1\n',
        "y.csv": 'text,label\na,0\n"b,0\nc",1\n',
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
        assert len(read_items(tmp_path / name, quoted)) == 2
        warning = "quoted cells with a tab or line break, in 1 rows, first in line 3: if quotes"
        assert f"{name}: {warning}" in caplog.text
    caplog.clear()
    (tmp_path / "z.csv").write_text('text,label\n"b, and, so\nc",1\n')
    assert len(read_items(tmp_path / "z.csv", quoted)) == 1 and not caplog.text


def test_a_blank_line_is_a_row_only_where_there_is_one_column(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("text\na\n\nb\n")
    assert [i["text"] for i in read_items(path, TEXT, whole=True)] == ["a", "", "b"]
    path.write_text("text,label\na,0\n\nb,1\n\n")
    layout = Layout(columns=Columns(label="label"))
    assert [i["id"] for i in read_items(path, layout)] == ["0", "1"]


def test_items_survive_parquet_and_equal_items_give_equal_bytes(tmp_path):
    items = [{"id": "1", "text": "a", "label": "x"}, {"id": "2", "text": "b", "label": "y"}]
    for name in ("a", "b"):
        write_items(tmp_path / f"{name}.parquet", items, source="s")
    assert load_items(tmp_path / "a.parquet") == items
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    assert [i["label"] for i in load_labelled(tmp_path / "a.parquet", ["y", "x"])] == [1, 0]
    with pytest.raises(
        ArtefactError, match=r"item 1 has the label 'x'; the task's classes are 'y'"
    ):
        load_labelled(tmp_path / "a.parquet", ["y"])


def test_without_a_header_columns_are_numbered(tmp_path):
    path = tmp_path / "x.tsv"
    path.write_text('bagus " sekali\tpositive\nburuk\tnegative\n')
    columns, labels = Columns(text="0", label="1"), {"positive": "good", "negative": "bad"}
    layout = Layout(columns=columns, labels=labels, quoting=False, header=False)
    items = read_items(path, layout)
    assert [(i["id"], i["text"], i["label"]) for i in items] == [
        ("0", 'bagus " sekali', "good"),
        ("1", "buruk", "bad"),
    ]
    without = layout.model_copy(update={"columns": Columns(text="0", label="2")})
    with pytest.raises(DataError, match=r"no column '2' \(columns.label\).*'0', '1'"):
        read_items(path, without)


def test_a_format_can_be_given_where_the_name_does_not_show_it(tmp_path):
    path = tmp_path / "train.aym"
    path.write_text("jach'a\nuru\n")
    assert [i["text"] for i in read_items(path, Layout(format="txt"))] == ["jach'a", "uru"]
    with pytest.raises(DataError, match=r"unknown format '\.aym'"):
        read_items(path, TEXT)


def test_each_paragraph_of_an_article_is_an_item(tmp_path):
    path = tmp_path / "wiki.parquet"
    texts = ["One.\n\n  Two.  ", " \n", "Three."]
    pd.DataFrame({"id": ["12", "13", "14"], "text": texts}).to_parquet(path)
    assert read_items(path, TEXT) == [
        {"id": "0.0", "text": "One."},
        {"id": "0.2", "text": "Two."},
        {"id": "2", "text": "Three."},
    ]
    named = read_items(path, Layout(columns=Columns(id="id")))
    assert [item["id"] for item in named] == ["12.0", "12.2", "14"]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet", ".txt"])
@pytest.mark.parametrize("limit", [1, 2, 3, 5])
def test_a_limit_reads_the_first_rows(tmp_path, suffix, limit):
    path = tmp_path / f"x{suffix}"
    if suffix == ".txt":
        path.write_text("a\nb\nc\n")
    write_frame(path, pd.DataFrame({"text": ["a", "b", "c"]}))
    assert read_items(path, TEXT, limit) == read_items(path, TEXT)[:limit]


GOLDEN = {
    ("nusax", "ace", "test"): (4, "321cd0cd549bb177"),
    ("americasnli", "grn", "valid"): (3, "56e4c478754cb476"),
    ("smsa", "ind", "train"): (3, "14c001c9d3cdf23d"),
    ("americasnlp", "quy", "train"): (3, "9fe1fb40b0c31d8e"),
    ("smsa-trimmed", "ind", "valid"): (3, "64373b154bffb318"),
    ("multinli", "eng", "valid"): (2, "89cd8713e37e64ea"),
    ("wikipedia", "ace", "train"): (4, "3f1161983c7f12fb"),
    ("sib200", "ace_Arab", "valid"): (3, "a3ade9af99896742"),
    ("afrixnli", "yor", "test"): (3, "f032feec827a64e3"),
}
"""Split → the number of its items and the beginning of their hash, as version 0.1.0 read them."""


@pytest.mark.parametrize(("name", "language", "split"), GOLDEN)
def test_the_items_of_every_dataset_stay_what_they_were(tmp_path, name, language, split):
    assert GOLDEN.keys() == {*TEXTS, *TABLES}
    dataset = read_config(PROJECT / "config.yaml").datasets.get(name) or Dataset.model_validate(
        yaml.safe_load((PROJECT / f"workflow/datasets/{name}.yaml").read_text())
    )
    items = read_items(write_upstream(tmp_path, dataset, name, language, split), dataset)
    found = hashlib.sha256(canonical(items).encode()).hexdigest()
    assert (len(items), found[:16]) == GOLDEN[name, language, split], items


def test_the_default_config_reads_real_files_in_their_upstream_layout(shared):
    """NusaX: parallel by id, cells with line breaks. AmericasNLI: quotes are text, blanks count."""
    config = read_config(PROJECT / "config.yaml")
    nusax, nli = config.datasets["nusax"], config.datasets["americasnli"]

    def read(dataset, language, split):
        return read_items(shared / dataset.fill(dataset.files, language, split), dataset)

    present = [key for key in nusax.aliases if key not in ("bug", "mad")]
    tests = {key: read(nusax, key, "test") for key in present}
    ids = [item["id"] for item in tests["ind"]]
    assert len(ids) == len(set(ids)) == 400
    for key, items in tests.items():
        assert [item["id"] for item in items] == ids, key
        assert [i["label"] for i in items] == [i["label"] for i in tests["ind"]], key
    assert any("\n" in item["text"] for item in tests["bbc"])
    nah = read(nli, "nah", "test")
    assert len(nah) == 738
    assert [i["id"] for i in nah if not i["text"].strip()] == ["25576", "25577", "25578"]
    assert len(read(nli, "grn", "valid")) == 743
