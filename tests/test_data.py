"""Reading users' files: every format, and every fault that a file can have."""

import gzip
import lzma

import pandas as pd
import pytest
from conftest import PROJECT

from deftx.data.read import read_items
from deftx.plan.config import read_config
from deftx.stages.data.settings import Columns, Layout
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
    items = read_items(written(tmp_path, suffix), LABELLED)
    assert items == [
        {"id": row["id"], "text": row["sentence"], "label": LABELS[row["label"]]} for row in ROWS
    ]


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


def test_without_quoting_quotes_are_text_and_blank_premises_are_kept(tmp_path):
    path = tmp_path / "x.tsv"
    path.write_text('id\tpremise\thypothesis\tlabel\n1\t \t"so\tyes\n2\tNA\tnull\tno\n')
    columns = Columns(text="premise", text_pair="hypothesis", label="label", id="id")
    items = read_items(path, Layout(columns=columns, quoting=False))
    assert [(i["text"], i["text_pair"]) for i in items] == [(" ", '"so'), ("NA", "null")]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.csv", None, "no such file"),
        ("x.csv", b"", "the file is empty"),
        ("x.csv", b"sentence,label,id\n", "the file is empty"),
        ("x.txt", b"\n \n", "the file is empty"),
        ("x.csv", b"sentence,label,id\n\xff\xfe,0,1\n", "not UTF-8: byte 0xff at position"),
        ("x.txt", "über".encode("latin-1"), "not UTF-8: byte 0xfc"),
        ("x.csv", b"text,label,id\na,0,1\n", r"no column 'sentence' \(columns.text\).*'text', 'la"),
        ("x.csv", b"sentence,label,id\na,2,1\n", "item 0 has the label '2', which `labels` does"),
        ("x.jsonl", b"{nothing", "cannot be read"),
        ("x.parquet", b"PAR1 nothing", "cannot be read"),
        ("x.txt.xz", b"not xz", "cannot be read"),
        ("x.txt.gz", gzip.compress(b"long enough to cut" * 50, mtime=0)[:-9], "cannot be read"),
        ("x.docx", b"", r"unknown format '\.docx'"),
    ],
)
def test_an_error_names_the_bad_file_and_its_fault(tmp_path, name, content, message):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=message) as error:
        read_items(path, TEXT if ".txt" in name else LABELLED)
    assert name in str(error.value)


def test_items_survive_parquet_and_equal_items_give_equal_bytes(tmp_path):
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
