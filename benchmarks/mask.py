"""Choose K entries: our code and plain code with a list of all magnitudes and a threshold.

    python -m benchmarks.mask [--device cuda] [--shape mini]

Plain code works as the public LT-SFT code does. At the full size it takes only every 20th entry, as
a list of all entries needs 9 GB; our code takes the same entries for comparison.
"""

import numpy as np
import torch

from benchmarks.differences import arguments, begin_table, budgets, difference, measured, row
from deftx.stages.mask.math import top_k


def plain_top_k(delta, k):
    magnitudes = []
    for tensor in delta.values():
        magnitudes.extend(tensor.abs().reshape(-1).tolist())
    threshold = np.partition(magnitudes, len(magnitudes) - k)[len(magnitudes) - k]
    return {name: tensor.abs() >= threshold for name, tensor in delta.items()}


def check_largest(delta, mask, k):
    """Exactly k entries are chosen, and no other entry is larger."""
    assert len(mask) == k
    least, most = torch.inf, 0.0
    for name, tensor in delta.items():
        chosen = mask.dense(name) if name in mask.index else torch.zeros_like(tensor).bool()
        if chosen.any():
            least = min(least, float(tensor[chosen].abs().min()))
        most = max(most, float(tensor[~chosen].abs().max()))
    assert least >= most, (least, most)


def main():
    args = arguments("Choosing the mask.")
    delta = difference(args.shape, args.device)
    step = 20 if args.shape == "xlm-r-base" else 1
    part = {name: tensor.reshape(-1)[::step].contiguous() for name, tensor in delta.items()}
    begin_table()
    for target, k in budgets(delta).items():
        mask, seconds, memory = measured(lambda k=k: top_k(delta, k), args.device, args.repeats)
        check_largest(delta, mask, k)
        row(f"{target}, K = {k:,}", seconds, memory)
        few = k // step
        ours, seconds, memory = measured(
            lambda few=few: top_k(part, few), args.device, args.repeats
        )
        plain, slow, much = measured(lambda few=few: plain_top_k(part, few), args.device)
        # Plain code takes all ties.
        assert sum(int(chosen.sum()) for chosen in plain.values()) - few <= 3
        for name, chosen in plain.items():
            ours_too = ours.dense(name) if name in ours.index else torch.zeros_like(chosen)
            assert int((ours_too ^ chosen).sum()) <= 3, name
        row(f"{target}, 1/{step} of the entries", seconds, memory, slow, much)
    print("\nExactly K entries, the largest ones; the same as in plain code except for ties.")


if __name__ == "__main__":
    main()
