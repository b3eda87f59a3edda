"""Denoising all matrices at rank 100: ours, and a singular value decomposition of each.

    python -m benchmarks.denoise [--device cuda] [--shape mini]

At the full shape the plain one does layer 0 and every 100th row of the word embeddings, beside ours
on the same matrices.
"""

import torch

from benchmarks.differences import arguments, difference, measured, row, show
from deftx.stages.denoise.math import decompose
from deftx.stages.denoise.settings import RankRule


def ours(delta, rule):
    """As the stage: factors are kept, matrices are not."""
    return dict(decompose(delta, rule))


def plain(delta, rank):
    found = {}
    for name, matrix in delta.items():
        u, s, vt = torch.linalg.svd(matrix, full_matrices=False)
        found[name] = u[:, :rank] * s[:rank], vt[:rank]
    return found


def main():
    args = arguments("Denoising.")
    delta = difference(args.shape, args.device)
    full = args.shape == "xlm-r-base"
    rank = 100 if full else 8
    rule = RankRule(rank=rank)
    kept, seconds, memory = measured(lambda: ours(delta, rule), args.device, args.repeats)
    matrices = sum(part.rank is not None for part in kept.values())
    rows = [row(f"all {matrices} matrices, rank {rank}", seconds, memory)]
    del kept
    part = {
        name: tensor[::100].contiguous() if "word" in name and full else tensor
        for name, tensor in delta.items()
        if tensor.dim() == 2 and ("word" in name or "layer.0." in name)
    }
    low, seconds, memory = measured(lambda: ours(part, rule), args.device, args.repeats)
    svd, slow, much = measured(lambda: plain(part, rank), args.device)
    rows.append(row(f"{len(part)} of them, fewer words", seconds, memory, slow, much))
    show(rows)
    worst = 0.0
    for name, (left, right) in svd.items():
        # Of noise the 100th and 101st value are so close that single entries may differ by more.
        lost = [part[name].double() - m.double() for m in (low[name].product(), left @ right)]
        ours_lost, plain_lost = (float(torch.linalg.norm(difference)) for difference in lost)
        worst = max(worst, abs(ours_lost / plain_lost - 1))
    assert worst < 1e-5, worst
    print(f"\nWhat is discarded differs from the plain one's, in its norm, by at most {worst:.0e}.")


if __name__ == "__main__":
    main()
