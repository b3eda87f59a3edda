"""The page of `deftx try`: one types sentences and sees how the model labels them, with and without
what it learnt from the text in the language. Nothing leaves the computer."""

import socket
import webbrowser
from collections.abc import Sequence
from contextlib import suppress
from threading import Thread
from typing import Any

import numpy as np

from deftx.adapt.filled import read_filled
from deftx.adapt.project import SCORE, Project
from deftx.adapt.sheet import NAMES
from deftx.report.template import TEMPLATES, render
from deftx.store.artefact import read_json
from deftx.store.errors import DeftxError, InputError
from deftx.store.items import Item

PORTS = range(7860, 7880)
"""Of which the first free one is taken."""
MOST = 200
"""Sentences that one question may have."""
SHOWN = 8
"""Classes whose shares are shown; of more, the likeliest."""
EXAMPLES = 10
CSS = (TEMPLATES / "try.css").read_text(encoding="utf-8")
POLICY = (
    "default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; frame-ancestors 'none'; form-action 'self'; base-uri 'self'"
)
"""Content-Security-Policy: the browser itself refuses whatever is not of this computer."""


def page(project: Project) -> Any:
    """The page as `gradio.Blocks`. Its one function, `answer`, takes what is typed into one field,
    or two for pairs, and returns HTML.

    Raises InputError if gradio is not installed, ArtefactError if `score.json` is damaged.
    """
    gradio = _gradio()
    fields = ["Sentences, one per line"]
    if project.facts.get("pairs"):
        fields = [f"{which} sentences, one per line" for which in ("First", "Second")]
    known, path = examples(project), project.folder / SCORE
    score = read_json(path, "items", "with_language") if path.is_file() else None
    about = _markup("try_about.html.j2", project=project, examples=bool(known), score=score)
    with gradio.Blocks(
        title=f"{project.task} in {project.name}", analytics_enabled=False
    ) as blocks:
        gradio.HTML(about)
        inputs = [gradio.Textbox(label=label, lines=4, max_lines=12) for label in fields]
        button = gradio.Button("Label them", variant="primary")
        if known:
            gradio.Examples(known, inputs, label="Sentences of to-label.csv that have a label")
        shown = gradio.HTML()

        def answer(*texts: str) -> str:
            return answers(project, *texts)

        gradio.on(
            [button.click, *(field.submit for field in inputs)],
            answer,
            inputs,
            shown,
            api_name="answer",
            show_progress="minimal",
        )
    return blocks


def answers(project: Project, *texts: str) -> str:
    """HTML with the labels of the sentences that a person typed, one per line, or with what is
    wrong with them: one text, or two for pairs, whose lines belong together."""
    try:
        items = _items(*texts)
        with_language = project.predict(items)
        without = project.predict(items, with_language=False)
    except DeftxError as error:
        return _markup("try_error.html.j2", error=str(error))
    same = with_language.argmax(1) == without.argmax(1)
    shown = [
        {
            "item": item,
            "same": bool(agree),
            "labels": [project.classes[int(of.argmax())] for of in (a, b)],
            "rows": _rows(project.classes, a, b),
            "more": max(0, len(project.classes) - SHOWN),
        }
        for item, agree, a, b in zip(items, same, with_language, without, strict=True)
    ]
    return _markup("try_answers.html.j2", project=project, answers=shown, same=int(same.sum()))


def examples(project: Project) -> list[list[str]]:
    """Some sentences of `to-label.csv`, or pairs, for which a person has given a label. The others
    are left out: who has seen the model's answer would not label them independently."""
    path = project.folder / f"{NAMES['label']}.csv"
    try:
        items = read_filled(path, project.folder, project.classes).texts
    except DeftxError:  # `deftx score` names what is wrong with the file
        return []
    columns = ["text", "text_pair"] if project.facts.get("pairs") else ["text"]
    return [[item[column] for column in columns] for item in items[:EXAMPLES]]


def serve(project: Project, port: int | None = None, browser: bool = True) -> None:
    """Show the page at an address of this computer that no other one reaches, until Ctrl+C.

    Without a port, takes the first free one of PORTS. Raises as `page` does, and
    InputError if the port cannot be used.
    """
    blocks = page(project)
    listening = _listen(PORTS if port is None else [port])
    address = f"http://127.0.0.1:{listening.getsockname()[1]}/"
    import uvicorn

    server = uvicorn.Server(
        uvicorn.Config(application(blocks), log_level="warning", timeout_graceful_shutdown=1)
    )
    print(f"The page is at {address} and only this computer can open it. Ctrl+C ends it.")
    print(f"Next: deftx score {project.folder / 'to-label.csv'}", flush=True)
    if browser:
        Thread(target=webbrowser.open, args=[address], daemon=True).start()
    # Once uvicorn has ended, it raises the interrupt again.
    with listening, suppress(KeyboardInterrupt):
        server.run(sockets=[listening])


def application(blocks: Any) -> Any:
    """The ASGI application of a page: to requests for this computer only, and with a policy under
    which the browser loads nothing from elsewhere."""
    gradio = _gradio()
    from fastapi import FastAPI
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    system = ["system-ui", "sans-serif"]
    inner = gradio.mount_gradio_app(
        FastAPI(openapi_url=None),
        blocks,
        path="/",
        theme=gradio.themes.Default(font=system, font_mono=["ui-monospace", "monospace"]),
        css=CSS,
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        mcp_server=False,
        enable_monitoring=False,
        pwa=False,
    )
    inner.add_middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"])

    async def guarded(scope: Any, receive: Any, send: Any) -> None:
        async def with_policy(message: Any) -> None:
            if message["type"] == "http.response.start":
                policy = (b"content-security-policy", POLICY.encode())
                message["headers"] = [*message.get("headers", ()), policy]
            await send(message)

        await inner(scope, receive, with_policy)

    return guarded


def _gradio() -> Any:
    try:
        import gradio
    except ImportError:
        raise InputError(
            "the page needs gradio, which is not installed: pip install 'deftx[try]'"
        ) from None
    return gradio


def _listen(ports: Sequence[int]) -> socket.socket:
    for port in ports:
        if not 0 <= port < 2**16:
            raise InputError(f"--port {port}: expected a number from 1 to 65535")
        try:
            return socket.create_server(("127.0.0.1", port))
        except OSError as error:
            problem = error.strerror
    raise InputError(f"--port {port}: cannot be used ({problem}); give another")


def _items(*texts: str) -> list[Item]:
    """An item for each line that is not blank."""
    columns = [[line.strip() for line in text.rstrip().splitlines()] for text in texts]
    if not any(columns):
        raise InputError("Nothing to label yet: type a sentence above, then press the button.")
    if len({len(column) for column in columns}) > 1:
        counts = " and ".join(str(len(column)) for column in columns)
        raise InputError(
            f"The two fields have {counts} lines. Their lines belong together one by one, so both "
            "need as many."
        )
    rows = list(zip(*columns, strict=True))
    for number, row in enumerate(rows, 1):
        if any(row) and not all(row):
            raise InputError(f"Line {number} has only one sentence of the pair: both are needed.")
    rows = [row for row in rows if any(row)]
    if len(rows) > MOST:
        raise InputError(
            f"These are {len(rows)} lines; the page takes {MOST} at a time. For a whole file use "
            "`deftx predict`."
        )
    names = ("text", "text_pair")
    return [
        {"id": str(number), **dict(zip(names, row, strict=False))}
        for number, row in enumerate(rows)
    ]


def _rows(classes: Sequence[str], *shares: "np.ndarray[Any, Any]") -> list[tuple[str, list[float]]]:
    """Class → its share in percent in each column, in the order of the classes."""
    likeliest = np.max(shares, axis=0).argsort(kind="stable")[::-1][:SHOWN]
    return [
        (classes[number], [round(100 * float(of[number]), 1) for of in shares])
        for number in sorted(likeliest)
    ]


def _markup(template: str, **values: Any) -> str:
    """HTML in which gradio finds no placeholder of its own."""
    return render(template, **values).replace("{", "&#123;").replace("$", "&#36;")
