"""A method as a row of data, for tasks and for languages. Free of torch.

Each family of methods has its own kind of row: a subclass of `Row` in the `method.py` of its stage.
`ROWS` in deftx/stages/methods.py lists them.
"""

import difflib
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field

from deftx.engine.settings import Average
from deftx.models.base import Base
from deftx.stages.denoise.settings import RankRule
from deftx.store.errors import InputError
from deftx.store.strict import Strict

Kind = Literal["task", "language"]
KINDS: tuple[Kind, ...] = ("task", "language")

LearningRate = Annotated[
    Annotated[float, Field(gt=0)] | None,
    Field(description="of what the method trains itself, instead of the target's learning rate"),
]


class Row(Strict, ABC):
    """A method for one kind of target. Subclasses say by these attributes how their vectors are
    used."""

    key: ClassVar[str] = ""
    """The setting by which such a method is recognised in a config."""
    is_sparse: ClassVar[bool] = False
    """Whether the vector is a sparse vector."""
    is_stacked: ClassVar[bool] = False
    """Whether the vector is a module and no difference of weights: it cannot be added or scaled,
    and the module of a task is trained on top of the source language's."""
    is_trained: ClassVar[bool] = True
    """Whether the vector is made here. One that exists already has no seed and needs no text."""
    takes_several_sources: ClassVar[bool] = False
    """Whether one vector can be trained on labelled data of several languages."""

    average: Average = None

    @property
    @abstractmethod
    def stage(self) -> str:
        """The stage whose artefact is the vector."""

    @property
    def observes(self) -> str | None:
        """The method whose mask this one counts, if any."""
        return None

    @property
    def rank_rule(self) -> RankRule | None:
        """How the difference is denoised, if it is."""
        return None

    @property
    def full_average(self) -> int | None:
        """The `average` of its full phase; None for the best state, or if there is none."""
        return None

    @property
    def retrains(self) -> bool:
        """Whether the values of the vector are trained after its entries are selected."""
        return True

    @property
    def selected(self) -> str:
        """In words, the entries that the method selects; empty if it selects none."""
        return ""

    def has_vector_of(self, target: str) -> bool:
        """Whether there is a vector of a language or a task; asked of methods that are not
        trained."""
        return True

    def with_budget(self, budget: int | float | str) -> Self:
        """The row with the run's K where it needs a budget and gives none."""
        return self

    def check_base(self, base: Base) -> None:
        """Raise InputError if the method cannot work on this base, as names and shapes show."""

    def changes(self, base: Base) -> Collection[str]:
        """The names of the parameters of a base that the vector may change."""
        return base.maskable

    @classmethod
    def problems(cls, config: Any) -> Iterator[str]:
        """What is wrong with the use of such methods in a config, a line each."""
        return iter(())


def check_truncates(rule: RankRule, base: Base) -> None:
    """Raise InputError if a rank rule keeps all components of all matrices of a base."""
    if rule.allow_full_rank or rule.needs_spectrum:
        return
    matrices = [
        shape
        for name, shape in base.maskable.items()
        if rule.applies_to(shape, name in base.embeddings)
    ]
    if all(rule.components([], *shape) >= min(shape) for shape in matrices):
        raise InputError(
            f"denoise: {rule.slug()} truncates none of the base's {len(matrices)} matrices, whose "
            f"rank is at most {max(map(min, matrices), default=0)}: lower it, or add "
            "allow_full_rank: true"
        )


def unknown(key: str, name: str, known: Collection[str], what: str) -> str:
    """The message about a name that does not exist, with the nearest one that does."""
    return f"{key}: no {what} {name!r}; {nearest(name, known, 'known')}"


def nearest(name: str, known: Collection[str], title: str) -> str:
    """A hint for a name that is not known: the nearest one that is, or else all of them."""
    near = difflib.get_close_matches(name, list(known), 1, 0.5)
    return f"did you mean {near[0]}?" if near else f"{title}: {', '.join(known) or 'none'}"
