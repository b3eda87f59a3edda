"""The card of a model that `deftx adapt` has made, and the command that puts it on the Hub."""

import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from deftx.adapt.project import MODEL, SCORE, STRENGTH, VECTORS, Project
from deftx.report.language_tags import language_tag
from deftx.report.metrics import ACCURACY, MACRO_F1
from deftx.report.template import one_line, render
from deftx.store.artefact import read_json, write_text
from deftx.store.errors import ArtefactError, InputError
from deftx.store.provenance import provenance_of

UNKNOWN = "unknown"
METRICS = {"accuracy": ACCURACY, "macro_f1": MACRO_F1}
NOT_FREE = ("", UNKNOWN, "none", "no", "private", "proprietary", "all-rights-reserved")
"""Answers after which the model stays private."""
ON_THE_HUB = {
    *("apache-2.0", "c-uda", "cc", "cc0-1.0", "cc-by-2.0", "cc-by-2.5", "cc-by-3.0", "cc-by-4.0"),
    *("cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0"),
    *("cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0", "cc-by-nd-4.0", "cc-by-sa-3.0"),
    *("cc-by-sa-4.0", "cdla-permissive-1.0", "cdla-permissive-2.0", "cdla-sharing-1.0"),
    *("etalab-2.0", "gfdl", "gpl", "gpl-2.0", "gpl-3.0", "lgpl", "lgpl-2.1", "lgpl-3.0", "lgpl-lr"),
    *("mit", "odbl", "odc-by", "pddl", "unlicense"),
}
"""Licences of texts and data for which the Hub has an identifier; it takes no others
(https://huggingface.co/docs/hub/repositories-licenses)."""
QUESTION = """\
Under which licence may others use your text?
  cc0-1.0       anyone may do anything with it
  cc-by-4.0     anyone who names you
  cc-by-sa-4.0  anyone who names you and shares alike
Another name is fine. Press Enter if you do not know, or if the text is not yours to give: then the
model stays private.
Licence: """


def publish(project: Project, licence: str | None) -> str:
    """Write the card `model/README.md` and return the command that uploads the model's folder.

    `licence` is that of the text; None keeps that of the card. As long as it is unknown,
    or does not allow passing on, the command makes a private repository and the card has a note.

    Raises ArtefactError if there is no model, or if `score.json` or `strength.json` is damaged;
    InputError if the licence has no letters.
    """
    folder = project.folder / MODEL
    if not (folder / "model.safetensors").is_file():
        raise ArtefactError(f"{folder}: no model in it; `deftx adapt` has not finished")
    card = folder / "README.md"
    given = _identifier(_stated(card) if licence is None else licence)
    made = {kind: provenance_of(project.folder / path) for kind, path in VECTORS.items()}
    score, choice = project.folder / SCORE, project.folder / STRENGTH
    scored = read_json(score, "items", "reading") if score.is_file() else None
    base = made["task"].get("base", {})
    front = ModelCardData(
        library_name="transformers",
        pipeline_tag="text-classification",
        language=language_tag(project.language),
        base_model=base["id"] if base.get("revision") else None,
        tags=["deftx", "sparse-fine-tuning", "cross-lingual-transfer"],
        model_name=_name(project),
        metrics=[metric.hub for metric in METRICS.values()] if scored else None,
        eval_results=_results(project, scored) if scored else None,
    )
    for key, value in _licence(given).items():
        front[key] = value
    text = render(
        "adapted.md.j2",
        front=front.to_yaml(),
        project=project,
        base=base,
        made=made,
        licence=given,
        score=scored,
        choice=read_json(choice, "items", "strength") if choice.is_file() else None,
        pairs=bool(project.facts.get("pairs")),
    )
    write_text(card, text)
    private = ["--private"] if given == UNKNOWN else []
    return shlex.join(["hf", "upload", _name(project), str(folder), ".", *private])


def ask_licence(ask: Callable[[str], str] = input) -> str | None:
    """The licence of the text, as a person types it; None if nobody sits at a terminal."""
    return ask(QUESTION) if sys.stdin.isatty() else None


def _results(project: Project, score: dict[str, Any]) -> list[EvalResult]:
    found = score["with_language"]
    return [
        EvalResult(
            task_type="text-classification",
            dataset_type=_name(project),
            dataset_name=one_line(f"{score['items']} items in {project.name}"),
            metric_type=metric.hub,
            metric_name="{}, 95 % interval {low:.1%} to {high:.1%}".format(
                metric.name, **found[key]
            ),
            metric_value=round(100 * found[key]["value"], 2),
        )
        for key, metric in METRICS.items()
    ]


def _identifier(answer: str) -> str:
    """A licence as the Hub writes it: CC BY-SA 4.0 is cc-by-sa-4.0. One that the Hub does not know
    is written in the same manner."""
    slug = _slug(answer)
    if answer.strip() and not slug:
        raise InputError(f"licence {answer!r}: expected a name in Latin letters, or unknown")
    return UNKNOWN if slug in NOT_FREE else {"cc0": "cc0-1.0"}.get(slug, slug)


def _licence(known: str) -> dict[str, str]:
    """The keys of a card for a licence, which the Hub may not know."""
    if known in ON_THE_HUB or known == UNKNOWN:
        return {"license": known}
    return {"license": "other", "license_name": known}


def _stated(card: Path) -> str:
    """The licence of an earlier card; unknown if it has none."""
    data = ModelCard.load(card).data.to_dict() if card.is_file() else {}
    return str(data.get("license_name") or data.get("license") or UNKNOWN)


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9.+]+", "-", text.lower()).strip("-.")


def _name(project: Project) -> str:
    """The model's name on the Hub, below the name of whoever uploads it."""
    tag = language_tag(project.language)
    return re.sub(r"\.\.+", ".", _slug(f"{project.task}-{tag}"))[:96].strip("-.")
