"""Whether methods can work on a base, as names and shapes show, before anything is trained. Free of
torch."""

from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter

from deftx.models.base import Base
from deftx.plan.method import Row
from deftx.stages.methods import AnyRow
from deftx.store.errors import InputError


def check_methods(base: Base, methods: Mapping[str, Mapping[Any, Any]]) -> None:
    """Raise InputError, naming the method, if it cannot work on a base for a kind of target for
    which it is used: see `check_base` of its row. Rows may be given as plain data."""
    known: TypeAdapter[Row] = TypeAdapter(AnyRow)
    for name, rows in methods.items():
        for kind, row in rows.items():
            try:
                known.validate_python(row).check_base(base)
            except ValueError as error:
                raise InputError(f"methods.{name} (for a {kind}): {error}") from None
