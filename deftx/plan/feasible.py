"""Whether a config can work on a base, as names and shapes show, before anything is trained. Free
of torch."""

from typing import Any

from pydantic import Field, TypeAdapter

from deftx.models.base import Base
from deftx.plan.graph import Graph
from deftx.plan.method import KINDS, Kind, Row
from deftx.stages.compose.settings import Depth, LayerSwap
from deftx.stages.methods import AnyRow
from deftx.store.errors import InputError
from deftx.store.strict import Strict


class UsedDepth(Strict):
    """Scales by depth, and whose vectors they are applied to."""

    method: str
    kind: Kind
    depth: Depth


class Uses(Strict):
    """What a config does with its base."""

    methods: dict[str, dict[str, dict[str, Any]]] = Field(
        default={}, description="name → kind of target → the row, as plain data"
    )
    kinds: list[str] = Field(default=[], description="of its tasks")
    lengths: dict[str, int] = Field(default={}, description="key of the config → a `max_length`")
    swaps: dict[str, LayerSwap] = Field(default={}, description="key of a system → its layer swap")
    depths: dict[str, UsedDepth] = Field(
        default={}, description="key of a system → its scales by depth"
    )

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
        depths = {
            f"systems.{name}.{kind}_depth": UsedDepth(
                method=system.task if kind == "task" else system.language, kind=kind, depth=depth
            )
            for name, system in config.systems.items()
            for kind in KINDS
            if (depth := system.depth(kind)) is not None
        }
        kinds = sorted({task.kind for task in config.tasks.values()})
        return cls(methods=methods, kinds=kinds, lengths=lengths, swaps=swaps, depths=depths)


def check_uses(base: Base, uses: Uses) -> None:
    """Raise InputError, naming the key, if a method cannot work on a base for a kind of target for
    which it is used (see `check_base` of its row), if a length has no room, or if layers cannot be
    swapped or scaled."""
    known: TypeAdapter[Row] = TypeAdapter(AnyRow)
    for name, rows in uses.methods.items():
        for kind, given in rows.items():
            try:
                known.validate_python(given).check_base(base)
            except ValueError as error:
                raise InputError(f"methods.{name} (for a {kind}): {error}") from None
    for key, length in uses.lengths.items():
        base.check_length(length, key)
    for key, swap in uses.swaps.items():
        base.check_own_layers(f"{key}: layer_swap")
        try:
            swap.check_fits(base.depth)
        except InputError as error:
            raise InputError(f"{key}: {error}") from None
    for key, used in uses.depths.items():
        base.check_own_layers(key)
        try:
            scale = used.depth.scales(base.known_as.values())
        except InputError as error:
            raise InputError(f"{key}: {error}") from None
        row = known.validate_python(uses.methods[used.method][used.kind])
        if not any(scale(base.known_as[name]) for name in row.changes(base)):
            raise InputError(
                f"{key}: the scale of all that {used.method} changes is 0, so nothing is left of "
                "its vectors"
            )
