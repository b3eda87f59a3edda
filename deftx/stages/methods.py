"""Every kind of method once, as `table.py` has every stage. Free of torch."""

from typing import TYPE_CHECKING, Annotated, Any, Union

from pydantic import Discriminator, Tag

from deftx.plan.method import Row
from deftx.stages.adapter.method import MadX
from deftx.stages.convert.method import Given
from deftx.stages.full.method import Dense
from deftx.stages.gate.method import AdaSft
from deftx.stages.lora.method import LowRankTraining
from deftx.stages.sparse.method import Sparse

ROWS: tuple[type[Row], ...] = (Dense, MadX, AdaSft, LowRankTraining, Given, Sparse)
"""The kinds of methods. A method is of the first kind whose key it has."""


def _tag(row: type[Row]) -> str:
    return f"method with {row.key}" if row.key else row.__name__.lower() + " method"


def _kind_of_method(method: Any) -> str:
    given = dict(method)
    found = next((row for row in ROWS if row.key and row.key in given), None)
    return _tag(found or (Dense if given.get("prune") is False else Sparse))


if TYPE_CHECKING:
    AnyRow = Row
else:
    AnyRow = Annotated[
        Union[tuple(Annotated[row, Tag(_tag(row))] for row in ROWS)],  # noqa: UP007
        Discriminator(_kind_of_method),
    ]
    """A method's settings for one kind of target, recognised by its key."""
