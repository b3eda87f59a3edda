"""Whether a config can work on a base, as names and shapes show, before anything is trained. Free
of torch."""

from typing import Any

from pydantic import Field, TypeAdapter

from deftx.models.base import Base
from deftx.plan.graph import Graph
from deftx.plan.method import Row
from deftx.stages.compose.settings import LayerSwap
from deftx.stages.methods import AnyRow
from deftx.store.errors import InputError
from deftx.store.strict import Strict


class Uses(Strict):
    """What a config does with its base."""

    methods: dict[str, dict[str, dict[str, Any]]] = Field(
        default={}, description="name → kind of target → the row, as plain data"
    )
    lengths: dict[str, int] = Field(default={}, description="key of the config → a `max_length`")
    swaps: dict[str, LayerSwap] = Field(default={}, description="key of a system → its layer swap")

    @classmethod
    def of(cls, graph: Graph) -> "Uses":
        """What the config of a graph does."""
        config = graph.config
        methods: dict[str, dict[str, dict[str, Any]]] = {
            name: {kind: row.model_dump() for kind, row in kinds.items()}
            for name, kinds in graph.methods().items()
        }
        lengths = {f"tasks.{n}.training": t.training.max_length for n, t in config.tasks.items()}
        if any("language" in kinds for kinds in methods.values()):
            lengths["language_training"] = config.language_training.max_length
        swaps = {
            f"systems.{name}.combine": system.combine.layer_swap
            for name, system in config.systems.items()
            if system.combine is not None and system.combine.layer_swap is not None
        }
        return cls(methods=methods, lengths=lengths, swaps=swaps)


def check_uses(base: Base, uses: Uses) -> None:
    """Raise InputError, naming the key, if a method cannot work on a base for a kind of target for
    which it is used (see `check_base` of its row), if a length has no room, or if layers cannot be
    swapped."""
    known: TypeAdapter[Row] = TypeAdapter(AnyRow)
    for name, rows in uses.methods.items():
        for kind, row in rows.items():
            try:
                known.validate_python(row).check_base(base)
            except ValueError as error:
                raise InputError(f"methods.{name} (for a {kind}): {error}") from None
    for key, length in uses.lengths.items():
        base.check_length(length, key)
    for key, swap in uses.swaps.items():
        if base.layers != base.depth:
            raise InputError(
                f"{key}: layer_swap: the base's {base.depth} layers share the weights of "
                f"{base.layers}, so none can be swapped"
            )
        try:
            swap.check_fits(base.depth)
        except InputError as error:
            raise InputError(f"{key}: {error}") from None
