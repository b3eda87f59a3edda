"""The fixed cost of a forward and backward pass, in tokens; deftx.engine.steps uses it.

    python -m benchmarks.passes --size mini --target task

It is the intercept of a line through the times of passes of 8 sentences of several lengths, taken
in turns. In the sparse phase a pass includes gathering the gradients of the chosen entries.
"""

import argparse
import statistics
import time

import numpy as np
import torch

from benchmarks import measure, training
from deftx.core.parameters import backbone_parameters, head_parameters, layer_norm_names
from deftx.engine.loop import freeze
from deftx.engine.session import resolve
from deftx.engine.sparse import PackedEntries

LENGTHS = (8, 16, 32, 64, 96, 128)


def seconds(
    case: training.Case, engine: training.deftx.Engine, rounds: int
) -> list[tuple[int, float]]:
    """(tokens, seconds of one pass) for each length, the median over the rounds."""
    model, objective, mask = case.model(), case.objective(), case.mask()
    freeze(model)
    low = resolve(engine, model.device).low
    norms = layer_norm_names(model)
    trained = [p for n, p in backbone_parameters(model).items() if n not in norms]
    trained = [*head_parameters(model).values(), *(trained if mask is None else [])]
    for parameter in trained:
        parameter.requires_grad_(True)
    gather = list
    if mask is not None:
        packed = PackedEntries(model, mask, low)
        gather = packed.gather
    learner = objective.learner(model, low).train()
    # On a CPU the time of the process, which other work on the machine disturbs less.
    clock = time.perf_counter if model.device.type == "cuda" else time.process_time
    vocabulary = model.get_input_embeddings().weight.shape[0]
    found: dict[int, list[float]] = {length: [] for length in LENGTHS}
    for turn in range(rounds + 2):
        for length in LENGTHS:
            batch = {
                "input_ids": torch.randint(4, vocabulary - 1, (case.batch, length)),
                "attention_mask": torch.ones(case.batch, length, dtype=torch.long),
            }
            if case.target == "language":
                count = case.batch * length * 15 // 100
                batch["positions"] = torch.arange(count)
                batch["targets"] = torch.randint(4, vocabulary - 1, (count,))
                del batch["attention_mask"]
            else:
                batch["labels"] = torch.zeros(case.batch, dtype=torch.long)
            batch = {name: tensor.to(model.device) for name, tensor in batch.items()}
            measure.synchronize()
            began = clock()
            enabled = low == torch.bfloat16
            with torch.autocast(model.device.type, torch.bfloat16, enabled=enabled):
                loss = learner(**batch)
            leaves = trained if mask is None else [*packed.leaves(), *trained]
            gather(torch.autograd.grad(loss, leaves)[: len(leaves) - len(trained)])
            measure.synchronize()
            if turn > 1:
                found[length].append(clock() - began)
    return [(case.batch * length, statistics.median(times)) for length, times in found.items()]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    training.arguments_of_cases(parser)
    parser.add_argument("--rounds", type=int, default=9)
    given = parser.parse_args(arguments)
    for case in training.cases(given):
        points = seconds(case, training.engine_of(given.engine), given.rounds)
        tokens, times = np.array(points).T
        # Weighted by 1/time, as errors are proportional to times.
        each, fixed = np.polyfit(tokens, times, 1, w=1 / times)
        passes = ", ".join(f"{int(t)}: {1000 * s:.1f}" for t, s in points)
        print(
            f"{case}\n  ms by tokens: {passes}\n  {1e6 * each:.2f} µs a token, "
            f"{1000 * fixed:.2f} ms a pass, which is {fixed / each:.0f} tokens",
            flush=True,
        )
    print(measure.machine())


if __name__ == "__main__":
    main()
