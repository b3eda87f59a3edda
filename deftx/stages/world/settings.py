"""Settings of the embedded world: a family of artificial languages, drawn from a seed."""

from typing import Annotated

from pydantic import Field

from deftx.store.strict import Strict

Key = Annotated[str, Field(pattern=r"^[a-z]{3}(_[A-Z][a-z]{3})?$")]
Share = Annotated[float, Field(ge=0, le=1)]

SENTIMENT = ("negative", "neutral", "positive")
INFERENCE = ("entailment", "neutral", "contradiction")
TAGS = ("ADJ", "ADV", "DET", "NOUN", "PUNCT", "VERB")
"""The classes of the world's tasks."""


class World(Strict):
    """What the artificial languages are like. All text and all task items follow from this alone.

    Change the distances to study when a method helps: a near language is understood without a
    language vector, a far one is not.
    """

    seed: int = Field(0, ge=0, description="Another seed draws another family of languages.")
    languages: dict[Key, Share] = Field(
        {"qaa": 0.0}
        | {f"qb{letter}": number / 10 for number, letter in enumerate("abcdefgh", 1)}
        | {"qta": 0.2, "qtb": 0.5, "qtc": 0.8},
        description="Each language's distance from the source: the share of native roots, endings "
        "and function words that it has replaced, and how far its sounds have shifted. The source "
        "is at 0.",
    )
    international: Share = Field(
        0.5,
        description="Share of the words that are the same in every language. Through them "
        "meaning reaches a language that was never seen.",
    )
    borrowed: Share = Field(
        0.25,
        description="Share of the words of unlabelled text that are taken from the source. "
        "Task items borrow none.",
    )
    topics: int = Field(2, ge=2, le=16, description="Subjects that a text can be about.")
    words: Annotated[int, Field(ge=4, le=64)] = Field(
        6,
        description="Nouns of each topic; verbs, qualities and manners of each polarity. A larger "
        "vocabulary needs more text and more training.",
    )
