"""Which texts train, which choose the strength, and which a speaker labels: none is in two."""

from collections.abc import Sequence
from typing import Literal

from deftx.adapt.project import Project
from deftx.adapt.request import Request, Source
from deftx.adapt.sheet import COUNT, Sheet, draw, hold_out, make_sheet, remaining
from deftx.adapt.strength import read_few
from deftx.adapt.text import layout_of
from deftx.data.read import read_items
from deftx.stages.data.settings import Columns
from deftx.store.errors import InputError
from deftx.store.items import Item


def divided(
    request: Request,
    kept: Sequence[str],
    classes: list[str],
    labelled: Source | None,
    few: Sequence[Item],
) -> tuple[Sheet | None, list[str], Source | None]:
    """The sheet of items to label or to translate, None if there are too few; the lines that train,
    of those that cleaning has kept; and the labelled items of the source. What is in the sheet is
    in neither of these, and the `few` that choose the strength are in none of the three."""
    lines: list[Item] = [{"id": str(n), "text": line} for n, line in enumerate(kept)]
    lines = remaining(lines, few)
    kind: Literal["label", "translate"] = "label"
    origin = f"lines of {request.text.name}, which are not trained on"
    if request.translate:
        if labelled is None:
            raise InputError("--translate: needs labelled items of the task, not a task vector")
        every = [*labelled.train, *labelled.valid]
        drawn = draw(every, COUNT, request.seed, classes=classes)
        parts = (remaining(part, drawn) for part in (labelled.train, labelled.valid))
        labelled, kind = Source(classes, *parts), "translate"
        origin = f"labelled items of {request.task.name} in another language"
    elif request.to_label is not None:
        drawn, origin = _given(request, few)
        lines = remaining(lines, drawn)
    elif request.columns.text_pair is not None:
        drawn = []  # a line of a text is no pair
    else:
        drawn, lines = hold_out(lines, COUNT, request.seed)
    sheet = _sheet(request, kind, drawn, classes, origin) if drawn else None
    return sheet, [line["text"] for line in lines], labelled


def sheet_of_given(request: Request, project: Project) -> Sheet:
    """A sheet of the texts that --to-label names, for a model that is trained: of those that it was
    not trained on. Raises DataError if there are too few."""
    few = read_few(request.few, project.classes).items if request.few else []
    drawn, origin = _given(request, [*few, *project.texts])
    return _sheet(request, "label", drawn, project.classes, origin)


def _given(request: Request, used: Sequence[Item]) -> tuple[list[Item], str]:
    """Items drawn from the texts that --to-label names, but none that is used otherwise."""
    assert request.to_label is not None, "asked for by the callers"
    only_texts = Columns(text=request.columns.text, text_pair=request.columns.text_pair)
    texts = read_items(request.to_label, layout_of(request.to_label, only_texts), whole=True)
    return draw(remaining(texts, used), COUNT, request.seed), f"texts of {request.to_label.name}"


def _sheet(
    request: Request,
    kind: Literal["label", "translate"],
    drawn: Sequence[Item],
    classes: Sequence[str],
    origin: str,
) -> Sheet:
    return make_sheet(
        kind,
        drawn,
        language=request.language,
        task=request.task.name,
        classes=classes,
        origin=origin,
        seed=request.seed,
    )
