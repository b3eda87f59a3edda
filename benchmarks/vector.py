"""Save, load and apply a sparse vector: our code and plain code with lists of gaps.

    python -m benchmarks.vector [--device cuda] [--shape mini]

Plain code works as the public LT-SFT code does, with safetensors in place of pickle: it computes
and sums gaps in Python lists and applies values as a sparse tensor. Our code flushes the file to
the disk and checks its SHA-256 on reading.
"""

import tempfile
from pathlib import Path
from types import SimpleNamespace

import torch
from safetensors.torch import load_file, save_file

from benchmarks.differences import arguments, begin_table, budgets, difference, measured, row
from deftx.core.sparse_delta import SparseDelta
from deftx.stages.mask.math import top_k
from deftx.store.artefact import file_sha256


def plain_save(phi, path):
    tensors = {}
    for name, index in phi.mask.index.items():
        steps, last = [], 0
        for position in index.tolist():
            steps.append(position - last)
            last = position
        tensors[f"{name}.steps"] = torch.tensor(steps, dtype=torch.int32)
        tensors[f"{name}.values"] = phi.values[name].cpu()
    save_file(tensors, path)


def plain_load(path):
    tensors = load_file(path)
    found = {}
    for name in (n.removesuffix(".steps") for n in tensors if n.endswith(".steps")):
        positions, last = [], 0
        for step in tensors[f"{name}.steps"].tolist():
            last += step
            positions.append(last)
        found[name] = torch.tensor(positions), tensors[f"{name}.values"]
    return found


def plain_apply(weights, vector):
    for name, (positions, values) in vector.items():
        flat = weights[name].view(-1)
        sparse = torch.sparse_coo_tensor(
            positions[None], values, flat.shape, check_invariants=False
        )
        flat += sparse.to(flat.device)


def model_of(weights):
    """The part of a transformers model that `SparseDelta.applied` uses."""
    named = {n: torch.nn.Parameter(w, requires_grad=False) for n, w in weights.items()}.items
    return SimpleNamespace(
        base_model=SimpleNamespace(named_parameters=named),
        named_parameters=named,
        get_output_embeddings=lambda: None,
    )


def apply_and_undo(phi, model):
    with phi.applied(model):
        pass


def compare(target, k, delta, args, folder):
    """Print the rows of one budget, and check the results."""
    ours, plain = Path(folder, "ours.safetensors"), Path(folder, "plain.safetensors")

    def timed(fast, slow=None):
        found, *mine = measured(fast, args.device, args.repeats)
        expected, *others = measured(slow, args.device) if slow else (None,)
        return found, expected, (*mine, *others)

    phi = SparseDelta.from_dense(delta, top_k(delta, k))
    *_, saving = timed(lambda: phi.save(ours), lambda: plain_save(phi, plain))
    sizes = "{:.2f}, {:.2f}".format(*(path.stat().st_size / k for path in (ours, plain)))
    *_, hashing = timed(lambda: file_sha256(ours))
    loaded, expected, loading = timed(lambda: SparseDelta.load(ours), lambda: plain_load(plain))
    for name, (positions, values) in expected.items():
        assert torch.equal(loaded.mask.index[name], positions)
        assert torch.equal(loaded.values[name], values)
    added, plainly = ({n: t.clone() for n, t in delta.items()} for _ in range(2))
    loaded.add_to(added)
    plain_apply(plainly, expected)
    assert all(torch.equal(added[name], plainly[name]) for name in delta)
    # Each repeat adds to the weights again, which takes the same time.
    *_, adding = timed(lambda: loaded.add_to(added), lambda: plain_apply(plainly, expected))
    *_, both = timed(lambda: SparseDelta.load(ours).add_to(added))
    before, model = {n: t.clone() for n, t in added.items()}, model_of(added)
    *_, applying = timed(lambda: apply_and_undo(loaded, model))
    assert all(torch.equal(added[name], before[name]) for name in delta)
    row(f"{target}, K = {k:,}: save", *saving, size=sizes)
    row("  SHA-256 of the file alone", *hashing)
    row("  load", *loading)
    row("  add to the weights", *adding)
    row("  load and add", *both)
    row("  apply to a model and undo", *applying)


def main():
    args = arguments("A sparse vector.")
    delta = difference(args.shape, args.device)
    with tempfile.TemporaryDirectory() as folder:
        begin_table()
        for target, k in budgets(delta).items():
            compare(target, k, delta, args, folder)
    print("\nThe same positions, values and weights as in plain code; undone bit for bit.")


if __name__ == "__main__":
    main()
