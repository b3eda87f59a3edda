"""Bytes of each artefact, from shapes and formats (docs/format.md) alone."""

from math import prod

from deftx.estimate.items import Items
from deftx.estimate.ranges import Range, exactly, total
from deftx.estimate.shape import Shape
from deftx.plan.graph import Artefact, Target
from deftx.plan.plan import Plan
from deftx.stages.adapter.settings import Adapter
from deftx.stages.denoise.settings import RankRule
from deftx.stages.full.settings import RoundOf
from deftx.stages.gate.math import gate_name
from deftx.stages.lora.settings import largest_rank
from deftx.stages.mask.settings import entries

VALUE = 4
"""Bytes of a stored weight, float32."""

OF_AN_ID = Range(2, 32)
"""Bytes of an item's id in an evaluation, with its line feed: a number, or what upstream has."""

OPTIMISER = 3
"""What AdamW has beside each value that trains: a gradient and two moments."""


class Sizes:
    """The bytes of the artefacts of a plan, of a base of a known shape."""

    def __init__(self, plan: Plan, shape: Shape, items: Items) -> None:
        self._plan, self._shape, self._items = plan, shape, items

    def of(self, artefact: Artefact) -> Range | None:
        """Bytes of an artefact without its metadata; None if its shapes do not tell."""
        find = getattr(self, f"_{artefact.stage}", None)
        found: Range | float | None = None if find is None else find(artefact)
        return exactly(found) if isinstance(found, (int, float)) else found

    def trained(self, artefact: Artefact) -> int:
        """Values that the job trains, its head included."""
        if artefact.stage == "full":
            values = self._shape.maskable
        elif artefact.stage == "sparse":
            values = self.k(artefact)
        elif artefact.stage == "adapter":
            values = self._adapter_entries(artefact)
        elif artefact.stage == "lora":
            values = self._lora_entries(artefact)
        elif artefact.stage == "gate":
            values = self._gates(artefact)
        else:
            values = sum(map(prod, self._shape.linear.values()))
        return values + (self._head(artefact) or self._shape.head)

    def memory(self, artefact: Artefact) -> int:
        """Bytes that a job that trains needs at least: the weights, and of what trains gradients,
        moments and the best checkpoint so far. What a step computes comes on top."""
        decoder = 0 if self._head(artefact) else self._shape.decoder
        weights = self._shape.backbone + self._shape.head + decoder
        return VALUE * (weights + (OPTIMISER + 1) * self.trained(artefact))

    def checkpoint(self, artefact: Artefact) -> int:
        """Bytes that interrupted training keeps beside its artefact: values, moments, the best."""
        return VALUE * 4 * self.trained(artefact)

    def _base(self, artefact: Artefact) -> float:
        return self._shape.stored

    def _full(self, artefact: Artefact) -> float:
        return VALUE * (self._shape.backbone + (self._head(artefact) or self._shape.head))

    def _denoise(self, artefact: Artefact) -> Range:
        kind = Target.parse(artefact["target"]).kind
        rule = next(
            rule
            for method in self._plan.config.methods
            if (rule := self._plan.config.row(method, kind).denoise) is not None
            and rule.slug() == artefact["rule"]
        )
        parts = [_denoised(n, shape, rule) for n, shape in self._shape.base.maskable.items()]
        head = self._head(artefact) or self._shape.head
        return total(parts) + exactly(VALUE * head)

    def _mask(self, artefact: Artefact) -> float:
        return self.k(artefact) * self._gap_bytes(artefact)

    def _sparse(self, artefact: Artefact) -> float:
        row = self._plan.row(artefact)
        head = self._head(artefact)
        if not head and self._plan.round(artefact) < row.rounds:
            head = self._shape.head
        return self.k(artefact) * (VALUE + self._gap_bytes(artefact)) + VALUE * head

    def _adapter(self, artefact: Artefact) -> float:
        return VALUE * (self._adapter_entries(artefact) + self._head(artefact))

    def _gate(self, artefact: Artefact) -> float:
        return VALUE * self._gates(artefact)

    def _gated(self, artefact: Artefact) -> float:
        linear = sum(map(prod, self._shape.linear.values()))
        return VALUE * (linear + self._head(artefact))

    def _lora(self, artefact: Artefact) -> float:
        return VALUE * (self._lora_entries(artefact) + self._head(artefact))

    def _compose(self, artefact: Artefact) -> Range:
        vectors = [vector for vector in self._plan.vectors(artefact) if vector is not None]
        head = exactly(VALUE * self._shape.classifier(self._classes(artefact["task"])))
        combine = self._plan.config.systems[artefact["system"]].combine
        if combine or any(vector.stage != "sparse" for vector in vectors):
            return head
        counts = [self.k(vector) for vector in vectors]
        each = exactly(VALUE + max(self._gap_bytes(vector) for vector in vectors))
        return head + Range(max(counts), sum(counts)) * each

    def _evaluate(self, artefact: Artefact) -> Range:
        (test,) = self._plan.inputs(artefact)["test"]
        logits = VALUE * self._classes(artefact["task"])
        each = exactly(logits + 8 + 2 * self._shape.config.hidden_size) + OF_AN_ID
        return self._items.count(test) * each

    def _head(self, artefact: Artefact) -> int:
        """Parameters of the head of a task; 0 for a language, whose head serves no task."""
        target = Target.parse(artefact["target"])
        if target.kind == "language":
            return 0
        return self._shape.classifier(self._classes(target.name))

    def _classes(self, task: str) -> int:
        return len(self._plan.config.tasks[task].classes)

    def k(self, artefact: Artefact) -> int:
        """Entries that the method chooses, in rounds up to this one."""
        row = self._plan.row(artefact)
        selection = row.selection
        if selection.score == "none":
            chosen = self._shape.base.candidates(selection.choose_from, selection.layer_norm)
            return sum(map(prod, chosen.values()))
        assert selection.budget is not None, "the config fills it in"
        number = RoundOf(round=self._plan.round(artefact), rounds=row.rounds)
        return number.budgets(entries(selection.budget, self._shape.maskable))[1]

    def _gap_bytes(self, artefact: Artefact) -> float:
        """Bytes of a gap, where entries lie at random: each has its code, and before it as many
        escapes as the gap is longer than what a code holds."""
        if self._plan.row(artefact).selection.score == "none":
            return 1.0  # one after the other
        density = self.k(artefact) / self._shape.maskable
        return min(
            width / (1 - (1 - min(density, 1 - 1e-9)) ** escape)
            for width, escape in ((1, 255), (2, 65_535))
        )

    def _gates(self, artefact: Artefact) -> int:
        gate = self._plan.row(artefact).gate
        assert gate is not None
        whole = gate.granularity == "entry"
        linear = self._shape.linear
        shapes = {gate_name(name, gate): s if whole else () for name, s in linear.items()}
        return sum(map(prod, shapes.values()))

    def _adapter_entries(self, artefact: Artefact) -> int:
        adapter = self._plan.row(artefact).adapter
        assert isinstance(adapter, Adapter)
        language = Target.parse(artefact["target"]).kind == "language"
        config = self._shape.config
        hidden, layers = config.hidden_size, config.num_hidden_layers
        reduction = adapter.language_reduction if language else adapter.task_reduction
        layers -= 0 if language else adapter.drop_last
        count = layers * _two_layers(hidden, hidden, reduction)
        if language and adapter.invertible_reduction is not None:
            first, second = hidden // 2, hidden - hidden // 2
            count += _two_layers(first, second, adapter.invertible_reduction)
            count += _two_layers(second, first, adapter.invertible_reduction)
        return count

    def lora_rank(self, artefact: Artefact) -> int:
        """Of every product of LoRA. Raises InputError as `largest_rank` does."""
        row = self._plan.row(artefact)
        assert row.lora is not None
        if row.lora.rank is not None:
            return row.lora.rank
        assert row.selection.budget is not None, "the config fills it in"
        k = entries(row.selection.budget, self._shape.maskable)
        return largest_rank(self._shape.linear.values(), k)

    def _lora_entries(self, artefact: Artefact) -> int:
        return self.lora_rank(artefact) * sum(map(sum, self._shape.linear.values()))


def _two_layers(given: int, wanted: int, reduction: int) -> int:
    """Weights and biases of a linear layer to `given` // `reduction` and one from there."""
    middle = max(1, given // reduction)
    return (given + 1) * middle + (middle + 1) * wanted


def _denoised(name: str, shape: tuple[int, ...], rule: RankRule) -> Range:
    """Bytes of what a rank rule keeps of a tensor; where the rank depends on the singular values,
    from next to nothing to the whole matrix."""
    dense = VALUE * prod(shape)
    if not rule.applies_to(name, shape):
        return exactly(dense)
    full = min(shape)
    ranks = Range(1, full) if rule.needs_spectrum else exactly(rule.components([], *shape))
    factors = ranks.map(lambda rank: min(dense, VALUE * rank * sum(shape)))
    residual = round(rule.residual_keep * prod(shape)) * (8 + VALUE)
    return factors + exactly(8 * full + residual)
