"""Reading users' files: every format, and every way in which they are wrong."""

import gzip
import lzma

import pandas as pd
import pytest
from conftest import PROJECT

from deftx.data.read import read_items
from deftx.plan.config import read_config
from deftx.stages.data.settings import Columns
from deftx.store.errors import ArtefactError, DataError
from deftx.store.items import load_items, load_labelled, write_items

LABELLED = Columns(text="sentence", label="label", id="id")
ROWS = [
    {"id": "7", "sentence": 'one "quoted", with comma', "label": "0"},
    {"id": "8", "sentence": "two\nlines", "label": "1"},
    {"id": "9", "sentence": "NA", "label": "0"},
    {"id": "007", "sentence": " ", "label": "1"},
]
LABELS = {"0": "bad", "1": "good"}


def written(tmp_path, suffix):
    frame, path = pd.DataFrame(ROWS), tmp_path / f"x{suffix}"
    kind = "." + suffix.split(".")[1]
    plain = tmp_path / f"x{kind}"
    if kind == ".csv":
        frame.to_csv(plain, index=False)
    elif kind == ".tsv":
        frame.to_csv(plain, index=False, sep="\t")
    elif kind == ".jsonl":
        frame.to_json(plain, orient="records", lines=True)
    else:
        frame.to_parquet(plain)
    if suffix.endswith(".gz"):
        path.write_bytes(gzip.compress(plain.read_bytes()))
    elif suffix.endswith(".xz"):
        path.write_bytes(lzma.compress(plain.read_bytes()))
    return path


@pytest.mark.parametrize(
    "suffix", [".csv", ".tsv", ".jsonl", ".parquet", ".csv.gz", ".tsv.xz", ".jsonl.xz"]
)
def test_every_format_gives_the_same_items(tmp_path, suffix):
    items = read_items(written(tmp_path, suffix), LABELLED, LABELS)
    assert items == [
        {"id": row["id"], "text": row["sentence"], "label": LABELS[row["label"]]} for row in ROWS
    ]


def test_numbers_in_parquet_and_jsonl_read_as_in_text(tmp_path):
    frame = pd.DataFrame({"sentence": ["a"], "label": [1], "id": [5.0]})
    frame.to_parquet(tmp_path / "x.parquet")
    frame.to_json(tmp_path / "x.jsonl", orient="records", lines=True)
    for suffix in ("parquet", "jsonl"):
        (item,) = read_items(tmp_path / f"x.{suffix}", LABELLED, LABELS)
        assert item == {"id": "5", "text": "a", "label": "good"}


@pytest.mark.parametrize("suffix", [".txt", ".txt.gz", ".txt.xz"])
def test_text_is_a_line_an_item_without_blank_ones_and_byte_order_mark(tmp_path, suffix):
    path, data = tmp_path / f"x{suffix}", "\ufefffirst\n\n  second \r\nthird".encode()
    pack = {".gz": gzip.compress, ".xz": lzma.compress}.get(path.suffix, bytes)
    path.write_bytes(pack(data))
    assert [i["text"] for i in read_items(path, Columns(), None)] == ["first", "second", "third"]


def test_quoting_off_keeps_quotes_and_blank_premises_count(tmp_path):
    path = tmp_path / "x.tsv"
    path.write_text('id\tpremise\thypothesis\tlabel\n1\t \t"so\tyes\n2\tNA\tnull\tno\n')
    columns = Columns(text="premise", text_pair="hypothesis", label="label", id="id")
    items = read_items(path, columns, {"yes": "yes", "no": "no"}, quoting=False)
    assert [(i["text"], i["text_pair"]) for i in items] == [(" ", '"so'), ("NA", "null")]


def bad_file(tmp_path, name, content):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.csv", None, "no such file"),
        ("x.csv", b"", "the file is empty"),
        ("x.csv", b"sentence,label,id\n", "the file is empty"),
        ("x.txt", b"\n \n", "the file is empty"),
        ("x.csv", b"sentence,label,id\n\xff\xfe,0,1\n", "not UTF-8: byte 0xff at position"),
        ("x.txt", "über".encode("latin-1"), "not UTF-8: byte 0xfc"),
        (
            "x.csv",
            b"text,label,id\na,0,1\n",
            r"no column 'sentence' \(columns.text\).*'text', 'label'",
        ),
        (
            "x.csv",
            b"sentence,label,id\na,2,1\n",
            "item 0 has the label '2', which `labels` does not map",
        ),
        ("x.jsonl", b"{nothing", "cannot be read"),
        ("x.parquet", b"PAR1 nothing", "cannot be read"),
        ("x.txt.xz", b"not xz", "cannot be read"),
        ("x.txt.gz", gzip.compress(b"long enough to cut" * 50, mtime=0)[:-9], "cannot be read"),
        ("x.docx", b"", r"unknown format '\.docx'"),
    ],
)
def test_a_bad_file_is_named_with_what_is_wrong(tmp_path, name, content, message):
    path = bad_file(tmp_path, name, content)
    columns = Columns() if ".txt" in name else LABELLED
    with pytest.raises(DataError, match=message) as error:
        read_items(path, columns, None if ".txt" in name else LABELS)
    assert name in str(error.value)


def test_items_come_back_from_parquet_and_same_items_same_bytes(tmp_path):
    items = [{"id": "1", "text": "a", "label": "x"}, {"id": "2", "text": "b", "label": "y"}]
    for name in ("a", "b"):
        write_items(tmp_path / f"{name}.parquet", items, source="s")
    assert load_items(tmp_path / "a.parquet") == items
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    assert [i["label"] for i in load_labelled(tmp_path / "a.parquet", ["y", "x"])] == [1, 0]
    with pytest.raises(ArtefactError, match=r"item 1 has the label 'x'; the task's classes are y"):
        load_labelled(tmp_path / "a.parquet", ["y"])


def test_without_a_header_columns_are_numbered(tmp_path):
    path = tmp_path / "x.tsv"
    path.write_text('bagus " sekali\tpositive\nburuk\tnegative\n')
    columns = Columns(text="0", label="1")
    labels = {"positive": "good", "negative": "bad"}
    items = read_items(path, columns, labels, quoting=False, header=False)
    assert [(i["id"], i["text"], i["label"]) for i in items] == [
        ("0", 'bagus " sekali', "good"),
        ("1", "buruk", "bad"),
    ]
    with pytest.raises(DataError, match=r"no column '2' \(columns.label\).*'0', '1'"):
        read_items(path, Columns(text="0", label="2"), labels, quoting=False, header=False)


def test_a_format_may_be_told_where_the_name_does_not_tell_it(tmp_path):
    path = tmp_path / "train.aym"
    path.write_text("jach'a\nuru\n")
    assert [i["text"] for i in read_items(path, Columns(), None, kind="txt")] == ["jach'a", "uru"]
    with pytest.raises(DataError, match=r"unknown format '\.aym'"):
        read_items(path, Columns(), None)


def test_each_paragraph_of_an_article_is_an_item(tmp_path):
    path = tmp_path / "wiki.parquet"
    texts = ["One.\n\n  Two.  ", " \n", "Three."]
    pd.DataFrame({"id": ["12", "13", "14"], "text": texts}).to_parquet(path)
    assert read_items(path, Columns(), None) == [
        {"id": "0.0", "text": "One."},
        {"id": "0.2", "text": "Two."},
        {"id": "2", "text": "Three."},
    ]
    named = read_items(path, Columns(id="id"), None)
    assert [item["id"] for item in named] == ["12.0", "12.2", "14"]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet", ".txt"])
@pytest.mark.parametrize("limit", [1, 2, 3, 5])
def test_a_limit_takes_the_first_rows(tmp_path, suffix, limit):
    frame, path = pd.DataFrame({"text": ["a", "b", "c"]}), tmp_path / f"x{suffix}"
    if suffix == ".csv":
        frame.to_csv(path, index=False)
    elif suffix == ".jsonl":
        frame.to_json(path, orient="records", lines=True)
    elif suffix == ".parquet":
        frame.to_parquet(path, row_group_size=1)
    else:
        path.write_text("a\nb\nc\n")
    items = read_items(path, Columns(), None, limit=limit)
    assert items == read_items(path, Columns(), None)[:limit]


def test_real_files_in_upstream_layout_read_as_the_default_config_says(shared):
    """NusaX: parallel by id, cells with line breaks. AmericasNLI: quotes are text, blanks count."""
    config = read_config(PROJECT / "config.yaml")
    nusax, nli = config.datasets["nusax"], config.datasets["americasnli"]

    def read(dataset, language, split):
        path = shared / dataset.fill(dataset.files, language, split)
        columns, labels = dataset.columns, dataset.labels
        return read_items(path, columns, labels, dataset.quoting, header=dataset.header)

    there = [key for key in nusax.aliases if key not in ("bug", "mad")]
    tests = {key: read(nusax, key, "test") for key in there}
    ids = [item["id"] for item in tests["ind"]]
    assert len(ids) == len(set(ids)) == 400
    for key, items in tests.items():
        assert [item["id"] for item in items] == ids, key
    assert sum("\n" in item["text"] for item in tests["bbc"]) > 0
    labels = [item["label"] for item in tests["ind"]]
    assert {key: [i["label"] for i in items] == labels for key, items in tests.items()} == (
        dict.fromkeys(there, True)
    )
    nah = read(nli, "nah", "test")
    assert len(nah) == 738
    assert [i["id"] for i in nah if not i["text"].strip()] == ["25576", "25577", "25578"]
    assert len(read(nli, "grn", "valid")) == 743
