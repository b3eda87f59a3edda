"""The shape of the base, and the bytes of the base and the vectors (docs/format.md)."""

from collections.abc import Sequence
from math import prod
from pathlib import Path

from transformers import AutoConfig, PreTrainedConfig, XLMRobertaConfig

from deftx.estimate.table import load_speeds
from deftx.estimate.work import Amount
from deftx.models.make import architecture_of
from deftx.plan.artefact import Artefact
from deftx.plan.plan import Plan
from deftx.stages.denoise.settings import RankRule
from deftx.stages.mask.settings import entries
from deftx.store.errors import ConfigError

VALUE = 4
"""Bytes of a stored weight in float32."""


def find_shape(plan: Plan) -> tuple[PreTrainedConfig | None, str]:
    """transformers' configuration of a config's base, and where it was found: in the run's own base
    or the local folder if it exists, else in `base.pretrain`, else by its name in speeds.yaml, else
    on the Hub. None and the reason if it is unknown. Raises ConfigError if transformers has no
    model for it."""
    base, made = plan.config.base, Path(plan.root) / "base"
    folder = made if (made / "config.json").is_file() else plan.user_files.base_folder()
    try:
        if folder is not None:
            return AutoConfig.from_pretrained(folder, trust_remote_code=False), str(folder)
        if (settings := base.pretrain) is None:
            if known := load_speeds().models.get(str(base.model)):
                config = AutoConfig.for_model(known.model_type, **known.config)
                return config, f"{base.model}, known by its name"
            config = AutoConfig.from_pretrained(
                str(base.model), revision=base.revision, trust_remote_code=False
            )
            return config, f"config.json of {base.model} on the Hub"
    except OSError as error:
        first = str(error).strip().splitlines()[0]
        return None, f"{base.model}: no local folder, and no config.json from the Hub: {first}"
    except ValueError as error:
        raise ConfigError(f"base: {error}") from None
    # As `deftx.stages.base.pretrain` makes it, if the text yields the asked number of pieces.
    config = XLMRobertaConfig(
        vocab_size=settings.vocabulary,
        hidden_size=settings.hidden,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        intermediate_size=settings.intermediate,
        max_position_embeddings=settings.max_length + 2,
        type_vocab_size=1,
    )
    return config, "base.pretrain of the config"


class Sizes:
    """The bytes of a plan's artefacts, without headers and heads. A file that exists has its own
    size; once one exists, others of the same stage, method and kind of target have its size too.

    Attributes:
        parameters: entries of the base's backbone; 0 if its shape is unknown.
    """

    def __init__(self, plan: Plan, config: PreTrainedConfig | None) -> None:
        self._plan = plan
        base = architecture_of(config, Path(), {}, {}) if config else None
        self.parameters = sum(map(prod, base.shapes.values())) if base else 0
        self._maskable = base.maskable if base else {}
        self._embeddings = base.embeddings if base else frozenset()
        self._known = {_alike(a): known for a in plan.artefacts if (known := self._existing(a))}

    def of(self, artefact: Artefact, trains: bool) -> Amount | None:
        """Bytes of an artefact; None if unknown, 0 if it is small and does not exist yet."""
        stage = artefact.stage
        alike = None if stage == "compose" else self._known.get(_alike(artefact))
        if known := self._existing(artefact) or alike:
            return known
        if stage == "compose":
            return self._composed(artefact)
        if stage == "mean":
            row = self._plan.config.row(artefact["method"], artefact.target.kind)
            if row.is_sparse:
                return self._united(self._plan.inputs(artefact)["vectors"])
            return Amount(VALUE * self.parameters) if self.parameters else None
        if stage not in ("base", "full", "denoise", "mask", "sparse"):
            return None if trains or stage == "convert" else Amount(0)
        if not self.parameters:
            return None
        if stage in ("base", "full"):
            return Amount(VALUE * self.parameters)
        if stage == "denoise":
            rule = RankRule(**self._plan.params(artefact)["rule"])
            parts = (
                _denoised(shape, rule, name in self._embeddings)
                for name, shape in self._maskable.items()
            )
            return Amount(sum(parts), at_most=rule.needs_spectrum)
        # A mask stores the gap before each of K entries, mostly in a byte; a vector also values.
        (mask,) = self._plan.inputs(artefact)["mask"] if stage == "sparse" else [artefact]
        params, each = self._plan.params(mask), VALUE + 1 if stage == "sparse" else 1
        budget, maskable = params["selection"]["budget"], sum(map(prod, self._maskable.values()))
        if budget is None:
            return None
        # Beside those of the lower part a mask has at most as many that are discarded.
        double = 2 if stage == "mask" and "keep_lower" in params["selection"] else 1
        at_most = params["rounds"] > 1 or double > 1
        return Amount(double * each * entries(budget, maskable), at_most=at_most)

    def _composed(self, artefact: Artefact) -> Amount | None:
        """Two sparse vectors: at most the entries of both. Of other vectors only the head."""
        inputs = self._plan.inputs(artefact)
        vectors = [*inputs["task_vector"], *inputs["language_vector"]]
        if not self._plan.is_sparse_sum(artefact):
            return Amount(0)
        return self._united(vectors)

    def _united(self, vectors: Sequence[Artefact]) -> Amount | None:
        """Sparse vectors as one: at most the entries of all."""
        found = [self.of(vector, trains=True) for vector in vectors]
        known = [amount.value for amount in found if amount]
        return Amount(sum(known), at_most=True) if len(known) == len(found) else None

    def _existing(self, artefact: Artefact) -> Amount | None:
        path = Path(self._plan.path(artefact))
        return Amount(path.stat().st_size) if path.is_file() else None


def _alike(artefact: Artefact) -> tuple[str, ...]:
    """What artefacts of about the same size share."""
    known = {**dict(artefact.wildcards), "seed": "", "language": ""}
    kind = known.pop("target", "").partition("-")[0]
    return artefact.stage, kind, *known.values()


def _denoised(shape: tuple[int, ...], rule: RankRule, in_embeddings: bool) -> int:
    """Bytes of a tensor that a rank rule was applied to; of the whole matrix if the rank depends on
    singular values, which are stored in 8 bytes. A residual is values and places of 8 bytes."""
    dense = VALUE * prod(shape)
    if not rule.applies_to(shape, in_embeddings):
        return dense
    rank = min(shape) if rule.needs_spectrum else rule.components([], *shape)
    factors = min(dense, VALUE * rank * sum(shape)) + 8 * min(shape)
    return factors + 12 * round(rule.residual_keep * prod(shape))
