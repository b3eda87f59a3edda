"""The page of `deftx try`: what it shows, that it shows text as text, and that nothing of it comes
from, or goes to, anywhere but this computer."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from importlib.util import find_spec

import pytest
from adapted import Stub, sheet
from browser import CHROMIUM, chromium
from conftest import PROJECT
from test_escaping import HOSTILE

from deftx.adapt.page import MOST, _markup, answers, examples, page, serve
from deftx.store.errors import ArtefactError, InputError


@pytest.fixture
def project(tmp_path):
    return Stub(tmp_path)


def words(html):
    return " ".join(re.sub("<[^>]*>", " ", html).split())


# What the page answers


def test_each_line_has_both_labels_their_percentages_and_whether_they_agree(project):
    found = answers(project, "positive words\r\n\n negative words \n")
    assert [item["text"] for item in project.asked[0]] == ["positive words", "negative words"]
    first, second = found.split("<article")[1:]
    assert "positive</td><td>negative</td>" in first and "They differ" in first
    assert "negative</td><td>negative</td>" in second and "They agree" in second
    assert "negative 15.0 % 70.0 % neutral 15.0 % 15.0 % positive 70.0 % 15.0 %" in words(first)
    assert "the same for 1 and differ for 1" in words(found)


def test_pairs_are_read_line_by_line(project):
    found = answers(project, "a positive\n\nb", "c\n\nd\n")
    pairs = [(item["text"], item["text_pair"]) for item in project.asked[0]]
    assert pairs == [("a positive", "c"), ("b", "d")]
    assert "2 pairs" in found and ">c</p>" in found


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ([""], "type a sentence"),
        ([" \n\t\n"], "type a sentence"),
        (["", ""], "type a sentence"),
        (["a\nb", "c"], "have 2 and 1 lines"),
        (["a", ""], "have 1 and 0 lines"),
        (["a\n\nb", "c\nd\ne"], "Line 2 has only one sentence"),
        (["a\n" * (MOST + 1)], f"takes {MOST} at a time"),
    ],
)
def test_what_cannot_be_labelled_is_said_on_the_page(project, texts, message):
    found = answers(project, *texts)
    assert message in found and 'role="alert"' in found
    assert not project.asked


def test_an_error_that_a_person_can_act_on_is_shown_on_the_page(project):
    def predict(items, with_language=True):
        raise ArtefactError("vector.safetensors: <corrupt>")

    project.predict = predict
    assert "vector.safetensors: &lt;corrupt&gt;" in answers(project, "a")


def test_of_many_classes_the_likeliest_are_shown_in_their_order(project):
    project.classes = [f"c{n:02}" for n in range(20)]
    found = answers(project, "c11")
    assert re.findall(r'<th scope="row">(c\d\d)</th>', found).count("c11") == 1
    shown = re.findall(r'<th scope="row">(c\d\d)</th>', found)
    assert len(shown) == 8 and shown == sorted(shown) and {"c00", "c11"} <= {*shown}
    assert "and 12 other labels" in found


@pytest.mark.parametrize("hostile", [*HOSTILE, "{{this}} ${1+1} {% x %}"])
def test_text_and_names_are_shown_as_text(tmp_path, hostile):
    """Neither as HTML nor as a placeholder of gradio's own templates."""
    project = Stub(tmp_path, name=hostile, task=hostile, classes=[hostile, "b"])
    plain = answers(Stub(tmp_path, name="x", classes=["x", "b"]), "x y")
    found = answers(project, " ".join(hostile.split()) + " y")

    def tags(html):
        return re.findall(r"<[^>]*>", html)

    assert tags(found) == tags(plain)
    assert "{" not in found and "$" not in found


# Examples


def test_examples_are_sentences_that_a_person_has_labelled(project):
    """Others are not shown: who labels them must not have seen the model's answer."""
    assert examples(project) == []
    sheet(project.folder, ["1,one,a,positive", "2,two,b,", '3,"three, 3",c, ', "4,NA,d,neutral"])
    assert examples(project) == [["one"], ["NA"]]
    project.facts["pairs"] = True
    assert examples(project) == [["one", "a"], ["NA", "d"]]
    sheet(project.folder, ["1,one,a,positive"], ";")
    assert examples(project) == [["one", "a"]]


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"a;b\n1;2\n", b'text,label\n"open,x'])
def test_a_damaged_sheet_gives_no_examples(project, content):
    (project.folder / "to-label.csv").write_bytes(content)
    assert examples(project) == []


# Gradio


def test_without_gradio_the_message_has_the_command_that_installs_it(project, monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(InputError, match=r"pip install 'deftx\[try\]'"):
        page(project)


needs_gradio = pytest.mark.skipif(find_spec("gradio") is None, reason="gradio is not installed")


def test_a_port_that_cannot_be_used_is_an_error(project, monkeypatch):
    monkeypatch.setattr("deftx.adapt.page.page", lambda project: None)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"--port {port}: cannot be used .* give another"):
            serve(project, port=port, browser=False)
    with pytest.raises(InputError, match="from 1 to 65535"):
        serve(project, port=70000, browser=False)


@pytest.fixture(scope="module", params=["single", "pairs"])
def served(request, tmp_path_factory):
    """The kind of items, the folder of a project, and the address of its page, which is served by a
    process of its own."""
    folder = tmp_path_factory.mktemp("project")
    sheet(folder, ["1,one,two,positive"])
    command = [sys.executable, PROJECT / "tests/adapted.py", folder, request.param]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        command, env=environment, cwd=folder, text=True, stdout=subprocess.PIPE
    )
    found = re.match(r"The page is at (http://127\.0\.0\.1:\d+/)", process.stdout.readline())
    assert process.stdout.readline() == f"Next: deftx score {folder / 'to-label.csv'}\n"
    yield request.param, found[1]
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0
    assert process.stdout.read() == ""  # no connection
    assert [path.name for path in folder.iterdir()] == ["to-label.csv"]
    process.stdout.close()


def test_the_page_says_whether_anybody_has_scored_the_model(project):
    def about(score):
        return words(_markup("try_about.html.j2", project=project, examples=True, score=score))

    assert "not known how often it is right" in about(None)
    score = {"items": 50, "with_language": {"right": 36}}
    assert "50 items with a label from a person" in about(score) and "right on 36." in about(score)


@needs_gradio
def test_gradios_own_call_returns_what_the_page_shows(project, served):
    kind, address = served
    texts = ["very positive", "b"] if kind == "pairs" else ["very positive"]
    asked = urllib.request.Request(
        f"{address}gradio_api/call/answer",
        json.dumps({"data": texts}).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(asked, timeout=30) as answer:
        event = json.load(answer)["event_id"]
    with urllib.request.urlopen(f"{address}gradio_api/call/answer/{event}", timeout=30) as answer:
        lines = answer.read().decode().splitlines()
    assert lines[0] == "event: complete"
    assert json.loads(lines[1].removeprefix("data: ")) == [answers(project, *texts)]


@needs_gradio
def test_only_this_computer_is_answered_and_the_page_names_no_other(served):
    _, address = served
    with urllib.request.urlopen(address, timeout=30) as answer:
        text, policy = answer.read().decode(), answer.headers["content-security-policy"]
    assert "default-src 'self'" in policy and "http" not in policy
    assert not re.search(r"<(script|link|img)[^>]*(src|href)=.?https?:(?!//127\.0\.0\.1)", text)
    assert '"analytics_enabled":false' in text.replace(" ", "")
    other = urllib.request.Request(address, headers={"Host": "example.org"})
    with pytest.raises(urllib.error.HTTPError, match="400"):
        urllib.request.urlopen(other, timeout=30)


@needs_gradio
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
def test_in_a_browser_without_a_network_sentences_are_typed_and_labelled(served, tmp_path):
    kind, address = served
    button = "[...document.querySelectorAll('button')].find(b => b.innerText == 'Label them')"
    typed = "very positive {{this}} ${1+1} <b>x</b> <script>document.title = 'hacked'</script>"
    with chromium(tmp_path / "profile") as tab:
        tab.call("Page.navigate", url=address)
        tab.wait(f"document.querySelector('textarea') && {button}")
        tab.js(f"{button}.click()")
        tab.wait("document.querySelector('[role=alert]')")
        for number in range(2 if kind == "pairs" else 1):
            tab.type(f"document.querySelectorAll('textarea')[{number}]", typed)
        tab.js(f"{button}.click()")
        tab.wait("document.querySelector('.answer')")
        assert tab.js("document.querySelector('.sentence').innerText") == typed
        label = tab.js("document.querySelector('tr.label').innerText")
        assert label.split() == ["label", "positive", "negative"]
        assert tab.js("document.title") == "sentiment in Madurese"
        outside = [url for url in tab.requested if not re.match(f"{address}|data:|blob:", url)]
        assert outside == ["about:blank"] * len(outside) and tab.messages == []
