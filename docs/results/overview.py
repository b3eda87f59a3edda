"""Draw mini-nusax/overview.png, the README's picture, from the CSV files beside it.

From the project's folder: `python docs/results/overview.py`.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

FOLDER = Path(__file__).parent / "mini-nusax"
REFERENCE = "lt-sft"
LABELS = {
    "zero-shot": "zero-shot (no language vector)",
    "task-arithmetic": "task arithmetic (dense)",
    "dare": "DARE (dense)",
    "ties": "TIES (dense)",
    "layer-swapping": "layer swapping (dense)",
    "lora": "LoRA",
    "lt-sft": "LT-SFT",
    "deft-x": "DeFT-X",
    "sc-sft": "SC-SFT",
    "rand-sft": "Rand-SFT (random entries)",
    "mad-x": "MAD-X",
    "bitfit": "BitFit",
}
"""Systems in the picture. The run's nine others vary one part of DeFT-X, LT-SFT or Rand-SFT."""


def read(path: Path) -> pd.DataFrame:
    """A table; only an empty cell is no value, since a system may be called nan."""
    return pd.read_csv(path, keep_default_na=False, na_values=[""])


def main() -> None:
    """Draw mean scores, and differences to the reference, with their 95 % intervals."""
    means = _mean_over_languages("transfer.csv").sort_values("mean")
    seeds = read(FOLDER / "scores.csv").groupby(["system", "seed"]).macro_f1.mean()
    differences = _mean_over_languages("differences.csv")

    figure, (left, right) = plt.subplots(
        1, 2, figsize=(8.4, 3.5), sharey=True, layout="constrained", width_ratios=(3, 2)
    )
    for row, system in enumerate(means.index):
        colour = "#117733" if system in ("deft-x", REFERENCE) else "#555566"
        score = 100 * means.loc[system, ["low", "mean", "high"]]
        left.plot(score[["low", "high"]], [row, row], color=colour, lw=1.6)
        left.plot(score["mean"], row, "o", color=colour, ms=5)
        left.plot(100 * seeds[system], [row - 0.3] * 3, ".", color=colour, ms=2.5)
        if system != REFERENCE:
            low, mean, high = 100 * _against_reference(differences, system)
            right.plot([low, high], [row, row], color=colour, lw=1.6)
            right.plot(mean, row, "o", color=colour, mfc="white", ms=5)
    left.set_yticks(range(len(means)), [LABELS[system] for system in means.index])
    left.set_xlabel("macro-F1 (%), mean over 8 languages")
    right.axvline(0, color="#117733", lw=0.8)
    right.set_xlabel("points more than LT-SFT")
    for axes in (left, right):
        axes.grid(axis="x", color="#eeeeee")
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
        axes.set_axisbelow(True)
    figure.savefig(FOLDER / "overview.png", dpi=200)


def _mean_over_languages(name: str) -> pd.DataFrame:
    table = read(FOLDER / name).set_index("system")
    return table[(table.language == "mean") & table.index.isin(LABELS)]


def _against_reference(differences: pd.DataFrame, system: str) -> pd.Series:
    """Low end, difference and high end of `system` minus the reference."""
    ends = ["low", "difference", "high"]
    if system in differences.index and REFERENCE in set(differences.loc[[system]].versus):
        return differences.loc[[system]].set_index("versus").loc[REFERENCE, ends]
    mirrored = -differences.loc[[REFERENCE]].set_index("versus").loc[system, ends]
    return mirrored.set_axis(ends[::-1])[ends]


if __name__ == "__main__":
    main()
