"""What was published of the systems and can be re-measured by a run: a row of data per claim."""

from dataclasses import dataclass
from functools import partial
from math import inf
from typing import NamedTuple

from deftx.report.claim_statistics import (
    Measure,
    alignment,
    bend,
    between_languages,
    difference,
    embeddings,
    embeddings_lead,
    gain_and_corpus,
    loss_and_score,
    of_targets,
    pairs,
    stability,
    wins,
)

NUSAX = ("ace", "ban", "bbc", "bjn", "bug", "eng", "ind", "jav", "mad", "min", "nij", "sun")
AMERICAS = ("aym", "bzd", "cni", "grn", "hch", "nah", "oto", "quy", "shp", "tar")

TEST_SETS = {"NusaX": NUSAX, "AmericasNLI": AMERICAS}
"""Test set → its languages, by which a task is known to be of it."""

Region = tuple[float, float]
"""Between which values, both excluded, a statistic must lie for the claim to be true."""

ABOVE, BELOW = (0.0, inf), (-inf, 0.0)

PAR = 2.0
"""Points within which two means are at par. Design choice: LT-SFT's own mean moves by 1 to 2
points from one published training of it to another."""


class Published(NamedTuple):
    """What was published on a test set, in words, and over which of its languages."""

    test_set: str
    languages: tuple[str, ...]
    value: str


@dataclass(frozen=True)
class Claim:
    """A published claim.

    Attributes:
        says: the claim; source, place: who says it where.
        statistic: what is measured of a run, in words; measure: the function that does.
        roles: the systems that it takes, by the names that they have by default.
        region: where the statistic lies if the claim is true; None if nothing is claimed.
        published: by test set; on another known test set nothing is claimed.
        elsewhere: whether it can be re-measured on tasks of no published test set.
    """

    says: str
    source: str
    place: str
    statistic: str
    measure: Measure
    roles: tuple[str, ...]
    region: Region | None
    published: tuple[Published, ...]
    elsewhere: bool = True


DEFTX, LTSFT, SCSFT = "Simon & Jyothi 2025", "Ansell et al. 2022", "Sharma & Chauhan"
AVERAGES = "main results on XLM-R base, averages as quoted by a secondary source"
NO_NUMBER = "no number known"
UNPUBLISHED = "not published"

FIVE = ("ace", "ban", "bjn", "mad", "min")
"""NusaX's languages outside of XLM-R that have text. DeFT-X has five, whose names are stored
nowhere: these are the likely ones."""
SEVEN = (*FIVE, "jav", "sun")
SMALLEST = ("aym", "bzd", "cni", "hch", "oto")

POINTS = "{} minus {}, mean over languages, points"


def _both(value: str = NO_NUMBER, other: str | None = None) -> tuple[Published, ...]:
    """The same languages as the DeFT-X paper, or all of AmericasNLI."""
    return (
        Published("NusaX", FIVE, value),
        Published("AmericasNLI", AMERICAS, value if other is None else other),
    )


def _everywhere(nusax: str = UNPUBLISHED, americas: str = UNPUBLISHED) -> tuple[Published, ...]:
    return Published("NusaX", NUSAX, nusax), Published("AmericasNLI", AMERICAS, americas)


def _compared(
    says: str,
    source: str,
    place: str,
    systems: tuple[str, str],
    region: Region,
    published: tuple[Published, ...],
) -> Claim:
    """A claim on the difference of two means."""
    statistic = POINTS.format(*systems)
    return Claim(says, source, place, statistic, difference, systems, region, published)


CLAIMS: tuple[Claim, ...] = (
    _compared(
        "DeFT-X is above LT-SFT",
        DEFTX,
        AVERAGES,
        ("deft-x", "lt-sft"),
        ABOVE,
        _both("+1.2", "+0.3"),
    ),
    _compared(
        f"DeFT-X is at par with LT-SFT or above it (within {PAR:g} points below)",
        DEFTX,
        "abstract",
        ("deft-x", "lt-sft"),
        (-PAR, inf),
        _both("+1.2", "+0.3"),
    ),
    Claim(
        "DeFT-X is above LT-SFT in Minangkabau",
        DEFTX,
        "main results, as quoted by a secondary source",
        "deft-x minus lt-sft in this language, points",
        difference,
        ("deft-x", "lt-sft"),
        ABOVE,
        (Published("NusaX", ("min",), "more than +2"),),
        elsewhere=False,
    ),
    _compared(
        "DeFT-X is above MAD-X",
        DEFTX,
        AVERAGES,
        ("deft-x", "mad-x"),
        ABOVE,
        _both("+5.6", "+1.8"),
    ),
    _compared(
        "Pruning helps DeFT-X (beside the whole denoised difference)",
        DEFTX,
        "ablations, named in a summary",
        ("deft-x", "denoised-arithmetic"),
        ABOVE,
        _both(),
    ),
    _compared(
        "Re-training helps DeFT-X (beside the pruned denoised difference)",
        DEFTX,
        "ablations, named in a summary",
        ("deft-x", "deft-x-pruned"),
        ABOVE,
        _both(),
    ),
    Claim(
        "DeFT-X's language and task vectors overlap less than LT-SFT's",
        DEFTX,
        "Figure 2 and summary (less interference)",
        "overlap of language and task vectors, deft-x minus lt-sft, mean over languages",
        partial(pairs, measure="overlap"),
        ("deft-x", "lt-sft"),
        BELOW,
        _everywhere(NO_NUMBER, NO_NUMBER),
    ),
    Claim(
        "DeFT-X's language vectors disturb the task's entries less than LT-SFT's",
        DEFTX,
        "summary (less interference)",
        "interference, deft-x minus lt-sft, mean over languages",
        partial(pairs, measure="interference"),
        ("deft-x", "lt-sft"),
        BELOW,
        _everywhere(NO_NUMBER, NO_NUMBER),
    ),
    Claim(
        "Overlap between DeFT-X's language vectors",
        DEFTX,
        "Figure 3",
        "overlap, mean over pairs of languages",
        between_languages,
        ("deft-x",),
        None,
        _everywhere(NO_NUMBER, NO_NUMBER),
    ),
    Claim(
        "DeFT-X's masks are more stable than LT-SFT's (a reading of “more robust”)",
        DEFTX,
        "abstract",
        "Jaccard's index of masks with two seeds, deft-x minus lt-sft, mean over targets",
        stability,
        ("deft-x", "lt-sft"),
        ABOVE,
        _everywhere(),
    ),
    Claim(
        "Stability of LT-SFT's masks over seeds",
        LTSFT,
        UNPUBLISHED,
        "Jaccard's index of masks with two seeds, mean over targets",
        stability,
        ("lt-sft",),
        None,
        _everywhere(),
    ),
    _compared(
        "LT-SFT is above MAD-X",
        f"{LTSFT}; {DEFTX}",
        f"abstract (up to +3.7 on four tasks); {AVERAGES}",
        ("lt-sft", "mad-x"),
        ABOVE,
        _both("+4.4", "+1.5"),
    ),
    _compared(
        "Sparse vectors are above dense ones: LT-SFT above task arithmetic",
        LTSFT,
        "abstract (sparsity prevents interference)",
        ("lt-sft", "task-arithmetic"),
        ABOVE,
        _both(),
    ),
    Claim(
        "Sparse language vectors disturb the task's entries less than dense ones",
        LTSFT,
        "abstract (sparsity prevents interference)",
        "interference, lt-sft minus task-arithmetic, mean over languages",
        partial(pairs, measure="interference"),
        ("lt-sft", "task-arithmetic"),
        BELOW,
        _everywhere(NO_NUMBER, NO_NUMBER),
    ),
    _compared(
        "LT-SFT is above BitFit",
        f"{LTSFT}; {SCSFT}",
        "Table 1 of the latter, which copies its BitFit column from the former",
        ("lt-sft", "bitfit"),
        ABOVE,
        (Published("AmericasNLI", AMERICAS, "+10.9"),),
    ),
    Claim(
        "Language masks are U-shaped over the layers",
        SCSFT,
        "section 3.2, Figure 1",
        "entries per layer, outer thirds over the middle third, lt-sft, mean over languages",
        partial(of_targets, kind="language", statistic=bend),
        ("lt-sft",),
        (1.0, inf),
        _everywhere("1.43 (Aymara)", "1.43 (Aymara)"),
    ),
    Claim(
        "Task masks have the inverted shape",
        SCSFT,
        "section 3.2, Figure 2",
        "entries per layer, outer thirds over the middle third, lt-sft, mean over seeds",
        partial(of_targets, kind="task", statistic=bend),
        ("lt-sft",),
        (-inf, 1.0),
        _everywhere("0.85 (released vector)", "0.80 (released vector)"),
    ),
    Claim(
        "Embeddings have more of a language mask's entries than any layer",
        SCSFT,
        "section 5.1, Figure 1",
        "share of the embeddings minus the largest share of a layer, lt-sft, mean over "
        "languages, points",
        partial(of_targets, kind="language", statistic=embeddings_lead),
        ("lt-sft",),
        ABOVE,
        _everywhere("+7.7 (Guarani), +3.9 (Aymara)", "+7.7 (Guarani), +3.9 (Aymara)"),
    ),
    Claim(
        "Embeddings have more of a task mask's entries than any layer",
        SCSFT,
        "section 5.1, Figure 2",
        "share of the embeddings minus the largest share of a layer, lt-sft, mean over seeds, "
        "points",
        partial(of_targets, kind="task", statistic=embeddings_lead),
        ("lt-sft",),
        ABOVE,
        _everywhere("−6.3 (released vector)", "+0.8 (released vector)"),
    ),
    Claim(
        "Share of a language mask's entries in the embeddings",
        LTSFT,
        "released vectors",
        "share of the embeddings, lt-sft, mean over languages, percent",
        partial(of_targets, kind="language", statistic=embeddings),
        ("lt-sft",),
        None,
        _everywhere("19.7 (Guarani)", "19.7 (Guarani)"),
    ),
    _compared(
        "SC-SFT is above LT-SFT (with the shares for inference)",
        SCSFT,
        "Table 1",
        ("sc-sft", "lt-sft"),
        ABOVE,
        (Published("AmericasNLI", AMERICAS, "+1.8"),),
    ),
    Claim(
        "SC-SFT is above LT-SFT in most languages",
        SCSFT,
        "section 4.2, Table 1",
        "share of the languages in which sc-sft is above lt-sft",
        wins,
        ("sc-sft", "lt-sft"),
        (0.5, inf),
        (Published("AmericasNLI", AMERICAS, "7 of 10"),),
    ),
    Claim(
        "SC-SFT gains more where there is less text",
        SCSFT,
        "section 4.2 (gains in the resource-challenged languages); number computed from Table 1 "
        "and public corpora",
        "Spearman's ρ of sc-sft minus lt-sft and words of text, over languages",
        gain_and_corpus,
        ("sc-sft", "lt-sft"),
        BELOW,
        (Published("AmericasNLI", AMERICAS, "−0.43 (without Quechua)"),),
    ),
    _compared(
        f"SC-SFT is comparable to LT-SFT (with the shares for sentiment; within {PAR:g} points)",
        SCSFT,
        "section 4.2, Table 2",
        ("sc-sft-sentiment", "lt-sft"),
        (-PAR, PAR),
        (Published("NusaX", SEVEN, "−0.3"),),
    ),
    _compared(
        "SC-SFT for languages too is worse than LT-SFT for both",
        SCSFT,
        "section 5.3, Table 4",
        ("sc-sft-both", "lt-sft"),
        BELOW,
        (Published("AmericasNLI", SMALLEST, "−2.5"),),
    ),
    _compared(
        "SC-SFT's language vectors are worse than LT-SFT's under the same task vector",
        SCSFT,
        "section 5.3",
        ("sc-sft-both", "sc-sft"),
        BELOW,
        (Published("AmericasNLI", SMALLEST, NO_NUMBER),),
    ),
    Claim(
        "Language vectors that predict held-out text worse transfer worse",
        SCSFT,
        "section 4.2 (a poor language vector is a confounder)",
        "Spearman's ρ of the held-out loss of lt-sft's language vectors and lt-sft's score, over "
        "languages",
        loss_and_score,
        ("lt-sft",),
        BELOW,
        _everywhere(NO_NUMBER, NO_NUMBER),
    ),
    Claim(
        "Translations are represented more alike than other pairs",
        SCSFT,
        "section 6 (an assumption of LT-SFT)",
        "mean cosine of translations minus that of other pairs, lt-sft, mean over languages",
        alignment,
        ("lt-sft",),
        ABOVE,
        _everywhere(),
    ),
    _compared(
        f"Ada-SFT is comparable to LT-SFT (within {PAR:g} points)",
        SCSFT,
        "section 4.2, Table 1",
        ("ada-sft", "lt-sft"),
        (-PAR, PAR),
        (Published("AmericasNLI", AMERICAS, "−0.5"),),
    ),
    _compared(
        "Rand-SFT is worse than LT-SFT",
        SCSFT,
        "section 4.2, Table 2",
        ("rand-sft", "lt-sft"),
        BELOW,
        (Published("NusaX", SEVEN, "−3.2"),),
    ),
    _compared(
        "Rand-SFT is better without embeddings",
        SCSFT,
        "section 5.1, Table 3",
        ("rand-sft-no-embeddings", "rand-sft"),
        ABOVE,
        (Published("NusaX", SEVEN, "+1.5"),),
    ),
    _compared(
        "Rand-SFT with a hundredth of the entries is nearly equivalent, Madurese excepted "
        f"(within {PAR:g} points)",
        SCSFT,
        "section 5.2, Table 3",
        ("rand-sft-small", "rand-sft"),
        (-PAR, PAR),
        (
            Published(
                "NusaX",
                tuple(key for key in SEVEN if key != "mad"),
                "−1.7 (with Madurese −4.0)",
            ),
        ),
    ),
)

ROLES = sorted({role for claim in CLAIMS for role in claim.roles})
