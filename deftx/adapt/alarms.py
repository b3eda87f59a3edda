"""Alarms: what can be seen without labels. An alarm is a sign that something is wrong; without
one it is still unknown how often the answers are right."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp, isfinite

import numpy as np
import pandas as pd

from deftx.report.table_formats import Table

LEARNT = 0.05
"""Nats by which the loss falls at least if the model has learnt from the text. Design choice, as
are the four below."""

MOSTLY = 0.9
"""Share of one answer that is an alarm, if the source's share is below MOSTLY."""

SHIFT = 0.3
"""Distance of the answers' shares from the source's (half the sum of differences) that is one."""

OFTEN = 0.1
"""Share of a class in the source from which it is an alarm if no answer is of this class: 50 texts
have none of it by chance in one case of 200."""

AGREE = 0.5
"""Agreement of answers with and without the language vector below which it is one."""


@dataclass(frozen=True)
class Alarm:
    """One observation without labels.

    Attributes:
        what: it, in words.
        found, beside: its value, and what to compare it with, in words.
        raised: whether it is a reason to worry.
        reading: what it means, and what to do.
    """

    what: str
    found: str
    beside: str
    raised: bool
    reading: str


def loss_alarm(before: float, after: float) -> Alarm:
    """The language-model loss (nats per hidden piece) on lines of the language that did not train,
    before and after training on its text."""
    fall = before - after
    if not isfinite(fall):
        raised, text = True, "The loss is not a number: the training failed."
    elif fall < -LEARNT:
        raised, text = True, "The model guesses hidden pieces of words worse than before training."
    elif fall < LEARNT:
        raised, text = True, "The model has hardly learnt from the text: too little text or steps?"
    else:
        raised = False
        text = (
            f"The model gives the right piece {exp(fall):.1f} times the probability that it gave "
            "it before. It has learnt from the text; that does not show that its labels are right."
        )
    return Alarm(
        "loss on lines held out of the text", f"{after:.2f}", f"{before:.2f} before", raised, text
    )


def share_alarm(answers: np.ndarray, source: Mapping[str, int], classes: Sequence[str]) -> Alarm:
    """The shares of the classes among answers (items,), numbers of classes, beside those among the
    labels of the source's training data, whose counts are given."""
    mine = np.bincount(answers, minlength=len(classes)) / len(answers)
    theirs = np.array([source.get(name, 0) for name in classes]) / sum(source.values())
    most = int(mine.argmax())
    never = [n for n, a, b in zip(classes, mine, theirs, strict=True) if a == 0 and b >= OFTEN]
    if mine[most] >= MOSTLY > theirs[most]:
        text = f"The model answers {classes[most]!r} for {mine[most]:.0%} of the texts: read some."
    elif never:
        names = " and ".join(map(repr, never))
        text = f"The model never answers {names}: read some texts that should have this label."
    elif np.abs(mine - theirs).sum() / 2 > SHIFT:
        text = (
            "The answers are distributed otherwise than the source's labels. The texts may be of "
            "another kind; or else the model leans to some labels: read some."
        )
    else:
        return _shares(mine, theirs, classes, False, "Nothing unusual.")
    return _shares(mine, theirs, classes, True, text)


def _shares(
    mine: np.ndarray, theirs: np.ndarray, classes: Sequence[str], raised: bool, text: str
) -> Alarm:
    found, beside = (
        ", ".join(f"{name} {share:.0%}" for name, share in zip(classes, shares, strict=True))
        for shares in (mine, theirs)
    )
    return Alarm("shares of the answers", found, f"{beside} in the source", raised, text)


def agreement_alarm(with_it: np.ndarray, without: np.ndarray) -> Alarm:
    """How often the answers (items,) with and without the language vector agree."""
    same = float((with_it == without).mean())
    changed = int((with_it != without).sum())
    if changed == 0:
        raised, text = True, "The language vector changes no answer: is it the right one?"
    elif same < AGREE:
        raised, text = True, f"The language vector changes {changed} answers: read some of them."
    else:
        raised = False
        text = f"The language vector changes {changed} answers; only labels show which are right."
    beside = f"{len(with_it)} texts"
    return Alarm("same answer with and without the vector", f"{same:.0%}", beside, raised, text)


def alarm_table(alarms: Sequence[Alarm]) -> Table:
    """The alarms as a table, for the terminal and the card."""
    rows = {
        each.what: {
            "found": each.found,
            "beside": each.beside,
            "alarm": "ALARM" if each.raised else "none",
            "reading": each.reading,
        }
        for each in alarms
    }
    frame = pd.DataFrame.from_dict(rows, orient="index")
    return Table("alarms", "Alarms, found without labels: not a score", "", frame)
