"""How a difference of weights is denoised: the rank rule and its variants."""

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate
from typing import Annotated, Literal

from pydantic import Field

from deftx.store.strict import Strict, exactly_one

Share = Annotated[float, Field(gt=0, le=1)]
Automatic = Literal["optimal-threshold", "noise-edge"]
RULES = ("rank", "rank_share", "energy", "auto")


class RankRule(Strict):
    """How many singular components of a matrix are kept; exactly one of the four rules is given."""

    rank: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="the same rank for every matrix (100 in the paper's figures)"
    )
    rank_share: Share | None = Field(
        default=None, description="this share of min(m, n), rounded (100 of 768 is 0.13)"
    )
    energy: Share | None = Field(
        default=None, description="the smallest rank with this share of the squared singular values"
    )
    auto: Automatic | None = Field(
        default=None,
        description="the components that exceed noise, whose level the median singular value "
        "gives. optimal-threshold: the least squared error (Gavish & Donoho 2014); noise-edge: "
        "above the largest singular value of noise",
    )
    residual_keep: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.0,
        description="share of the discarded part's entries, the largest, that is added back",
    )
    embeddings: bool = Field(default=True, description="denoise the embedding matrices too")
    allow_full_rank: bool = Field(
        default=False, description="accept a rule that truncates no matrix"
    )

    _one_rule = exactly_one(*RULES)

    @property
    def needs_spectrum(self) -> bool:
        """Whether ranks depend on the matrix, and not on its shape alone."""
        return self.energy is not None or self.auto is not None

    def applies_to(self, shape: Sequence[int], in_embeddings: bool) -> bool:
        """Whether a backbone tensor is denoised: matrices are, embeddings unless left out."""
        return len(shape) == 2 and (self.embeddings or not in_embeddings)

    def components(self, singular_values: list[float], rows: int, columns: int) -> int:
        """How many leading components of a rows × columns matrix with these singular values
        (descending) are kept; 0 for a zero matrix under `energy`. Not for `auto`, which needs the
        matrix: deftx.stages.denoise.math."""
        full = min(rows, columns)
        if self.rank is not None:
            return min(self.rank, full)
        if self.rank_share is not None:
            return max(1, round(self.rank_share * full))
        assert self.energy is not None
        reached = list(accumulate(value * value for value in singular_values[:full]))
        kept = bisect_left(reached, self.energy * reached[-1]) + 1
        return kept if reached[-1] else 0

    def slug(self) -> str:
        """The rule as a folder name, such as `rank-100` or `energy-0.9-residual-0.05`."""
        name = next(name for name in RULES if getattr(self, name) is not None)
        residual = f"-residual-{self.residual_keep}" if self.residual_keep else ""
        embeddings = "" if self.embeddings else "-no-embeddings"
        return f"{name.replace('_', '-')}-{getattr(self, name)}{residual}{embeddings}"
