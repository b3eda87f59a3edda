"""The plain training loop with which the engine is compared.

A step does what the public LT-SFT code does, in simple code of our own: float32, not compiled,
logits at all positions, L1 through autograd, dense gradients times boolean masks, and AdamW over
dense tensors. Task examples are padded to 128 tokens.

    python -m benchmarks.reference --size mini
"""

import argparse
from collections.abc import Iterable, Mapping

import torch
from torch.nn.functional import cross_entropy

from benchmarks import measure, models


class Reference:
    """A model in training.

    Everything except the encoder's normalisation layers and a frozen decoder is trained; with
    `masks`, only the chosen entries of the encoder and the whole head.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        masks: Mapping[str, torch.Tensor] | None = None,
        learning_rate: float = 5e-5,
        l1: float = 0.0,
        steps: int = 1000,
        micro_batches: int = 1,
        fast: bool = False,
    ) -> None:
        """Prepare one phase of `steps` steps.

        `masks`: name in the encoder → booleans with the tensor's shape; no entry of an absent
        tensor is trained; None means the full phase. `micro_batches`: the number of parts of each
        batch whose gradients are added (2 in the public code's settings). `fast`: matrix products
        in bfloat16 by autocast, and the fused optimiser.
        """
        self.model = model.train()
        self.l1 = l1
        self.micro_batches = micro_batches
        self.fast = fast
        self.device = next(model.parameters()).device
        self.entries = sum(parameter.numel() for parameter in model.parameters())
        prefix = model.base_model_prefix + "."
        for name, parameter in model.named_parameters():
            if "LayerNorm" in name:
                parameter.requires_grad_(False)
        trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
        self.trained = list(trained.values())
        self.start = [p.detach().clone() for p in self.trained] if l1 else []
        self.masked = []
        if masks is not None:
            for name, parameter in trained.items():
                if name.startswith(prefix):
                    mask = masks.get(name.removeprefix(prefix))
                    if mask is None:
                        mask = torch.zeros(parameter.shape, dtype=torch.bool)
                    self.masked.append((parameter, mask.to(self.device)))
        self.optimizer = torch.optim.AdamW(
            self.trained, lr=learning_rate, weight_decay=0.0, fused=fast or None
        )
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda step: max(0.0, 1 - step / steps)
        )

    def step(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Make one step of the optimiser; the loss before it, without the L1 term.

        Raises RuntimeError if a contestant has left TF32 switched on.
        """
        if torch.backends.cuda.matmul.fp32_precision == "tf32":
            raise RuntimeError("the reference computes in float32, but TF32 is switched on")
        batch = {name: tensor.to(self.device) for name, tensor in batch.items()}
        parts = {name: tensor.chunk(self.micro_batches) for name, tensor in batch.items()}
        total = torch.zeros((), device=self.device)
        for i in range(self.micro_batches):
            loss = self.loss({name: part[i] for name, part in parts.items()}) / self.micro_batches
            loss.backward()
            total += loss.detach()
            if self.l1 and i == 0:
                self.penalty().backward()
            for parameter, mask in self.masked:
                if parameter.grad is not None:
                    parameter.grad *= mask
        torch.nn.utils.clip_grad_norm_(self.trained, 1.0)
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad()
        return total

    def loss(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Cross-entropy over the batch, of all positions or of all sentences."""
        inputs = {name: tensor for name, tensor in batch.items() if name != "labels"}
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.fast):
            logits = self.model(**inputs).logits
            return cross_entropy(
                logits.view(-1, logits.shape[-1]), batch["labels"].view(-1), ignore_index=-100
            )

    def penalty(self) -> torch.Tensor:
        """λ·Σ|p − p_start| / N over trained entries; N is the size of the whole model."""
        distances = [(p - s).abs().sum() for p, s in zip(self.trained, self.start, strict=True)]
        return self.l1 * sum(distances) / self.entries


def padded(examples: Iterable[Mapping], length: int = 128) -> dict[str, torch.Tensor]:
    """Task examples as a batch, each cut or padded to `length`."""
    tokens, attention, labels = [], [], []
    for example in examples:
        row = example["input_ids"][:length]
        tokens.append(row + [models.PAD] * (length - len(row)))
        attention.append([1] * len(row) + [0] * (length - len(row)))
        labels.append(example["labels"])
    return {
        "input_ids": torch.tensor(tokens),
        "attention_mask": torch.tensor(attention),
        "labels": torch.tensor(labels),
    }


def prepared(
    target: str,
    phase: str,
    size: str,
    batch: int = 8,
    length: int = 256,
    micro_batches: int = 1,
    fast: bool = False,
    compiled: bool = False,
):
    """A function that trains a new model for one step on the next batch.

    The settings are those of the public code: learning rate 5e-5 and L1 0.1 for a language, 2e-5
    and no L1 for a task. `length` is the length of text blocks; `fast` is explained in `Reference`;
    `compiled`: by torch.compile.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if target == "language":
        with device:
            model = models.masked_lm(size)
        batches = models.language_batches(size, 16, batch, length)
        settings = {"learning_rate": 5e-5, "l1": 0.1}
    else:
        with device:
            model = models.classifier(size)
        examples = models.task_examples(size, 16 * batch)
        batches = [padded(examples[i * batch : (i + 1) * batch]) for i in range(16)]
        settings = {"learning_rate": 2e-5}
    masks = None
    if phase == "sparse":
        mask = models.random_mask(models.maskable_shapes(model), target, device=device)
        masks = {name: mask.dense(name) for name in mask.index}
    if compiled:
        model.compile()
    reference = Reference(
        model, masks, steps=10_000, micro_batches=micro_batches, fast=fast, **settings
    )
    done = 0

    def step() -> None:
        nonlocal done
        reference.step(batches[done % len(batches)])
        done += 1

    return step


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", choices=models.SIZES, default="mini")
    parser.add_argument("--target", choices=models.CHOSEN, default="language")
    parser.add_argument(
        "--phase", choices=["full", "sparse"], nargs="+", default=["full", "sparse"]
    )
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--length", type=int, default=256, help="tokens per block of text")
    parser.add_argument("--micro-batches", type=int, default=1)
    measure.add_arguments(parser)
    given = parser.parse_args(arguments)

    def make(phase):
        shape = given.size, given.batch, given.length, given.micro_batches
        return lambda: prepared(given.target, phase, *shape)

    what = f"{given.batch} x {given.length if given.target == 'language' else 128}"
    print(f"reference, {given.target}, {given.size}, {what} tokens, parts {given.micro_batches}")
    timings = measure.compare(
        {phase: make(phase) for phase in given.phase}, **measure.settings(given)
    )
    print(measure.table(timings))
    print(measure.machine())


if __name__ == "__main__":
    main()
