"""Masked-language modelling of a text."""

import math
from collections.abc import Sequence
from functools import cached_property

import torch
from transformers import DataCollatorForLanguageModeling, PreTrainedModel, PreTrainedTokenizerBase

from deftx.engine.masked_tokens import MaskedTokens
from deftx.engine.objective import Batch, Learner, Objective, rounded_up
from deftx.engine.settings import LanguageTraining
from deftx.models.base import Base
from deftx.models.device import available_device
from deftx.models.load import load_masked_lm, load_tokenizer
from deftx.models.token_arrays import IGNORED, Example, Examples, Tokens
from deftx.models.tokens import encode_text
from deftx.store.errors import InputError
from deftx.store.items import Items

VALIDATION_SEED = 0
"""The masks of held-out text are the same in every evaluation and for every method."""

VALIDATION_TOKENS = 16_384
"""Tokens that go through the model at a time in validation, where no gradients need memory."""

FEW_SIZES = 64
"""Numbers of masked tokens are rounded up to a multiple of this where code is compiled for each."""


class MaskedLanguageModelling(Objective):
    """Predicting masked tokens of blocks of text.

    Masking is dynamic (15 %: 80 % mask, 10 % random, 10 % kept) in training, and fixed in
    validation. Source: the LT-SFT settings (Ansell et al. 2022).
    """

    best = "loss"

    def __init__(
        self,
        train: Examples,
        valid: Sequence[Example],
        tokenizer: PreTrainedTokenizerBase,
        mask_probability: float,
    ) -> None:
        super().__init__(train)
        self._pad, self._probability = tokenizer.pad_token_id, mask_probability
        self._masker = DataCollatorForLanguageModeling(tokenizer, mlm_probability=mask_probability)
        self.valid = self._masked(valid, VALIDATION_SEED) if valid else []
        self.validates = bool(valid)

    def examples(self, indices: Sequence[int], seed: int) -> list[Example]:
        """Blocks, their tokens masked anew."""
        return self._masked([self._train[i] for i in indices], seed)

    def _masked(self, blocks: Sequence[Example], seed: int) -> list[Example]:
        self._masker.generator = torch.Generator().manual_seed(seed)
        lengths = [len(block["input_ids"]) for block in blocks]
        # Drawn for all at once: thousands of draws block by block would cost more than a step.
        inputs, labels = self._masker.torch_mask_tokens(
            torch.cat([block["input_ids"] for block in blocks]).long().unsqueeze(0),
            torch.cat([block["special_tokens_mask"] for block in blocks]).unsqueeze(0),
        )
        parts = zip(inputs[0].split(lengths), labels[0].split(lengths), strict=True)
        return [{"input_ids": ids, "labels": wanted} for ids, wanted in parts]

    def collate(self, examples: Sequence[Example], rows: int = 0) -> Batch:
        """`input_ids`, the `positions` of masked tokens in them and their `targets`, and an
        `attention_mask` if an example is shorter than others: without one attention takes a faster
        kernel. Rows that fill up are padding, which nothing of the others attends to."""
        lengths = [len(example["input_ids"]) for example in examples]
        length = self._longest if rows else max(lengths)
        shape = (max(rows, len(examples)), length)
        ids, labels = torch.full(shape, self._pad), torch.full(shape, IGNORED)
        for row, example in enumerate(examples):
            ids[row, : lengths[row]] = example["input_ids"]
            labels[row, : lengths[row]] = example["labels"]
        positions = torch.nonzero(labels.view(-1) != IGNORED).squeeze(1)
        targets = labels.view(-1)[positions]
        size = self._positions(shape, len(positions)) if rows else max(1, len(positions))
        more = size - len(positions)
        batch = {
            "input_ids": ids,
            "positions": torch.nn.functional.pad(positions, (0, more)),
            "targets": torch.nn.functional.pad(targets, (0, more), value=IGNORED),
        }
        if min(lengths) < length:
            here = torch.tensor([*lengths, *[length] * (shape[0] - len(lengths))])
            batch["attention_mask"] = (torch.arange(length) < here.unsqueeze(1)).long()
        return batch

    @cached_property
    def _longest(self) -> int:
        return max(len(self._train[i]["input_ids"]) for i in range(len(self)))

    def _positions(self, shape: tuple[int, int], masked: int) -> int:
        """Room for so many masked tokens as a batch of a shape hardly ever has, so that nearly all
        batches have the same room: of 8 × 256 tokens 307 ± 16 are masked, of 384 at most."""
        p, count = self._probability, shape[0] * shape[1]
        hardly_ever = p * count + 4 * math.sqrt(p * (1 - p) * count)
        return rounded_up(max(masked, round(hardly_ever)), FEW_SIZES)

    def labels(self, example: Example) -> int:
        """How many tokens are masked."""
        return int((example["labels"] != IGNORED).sum())

    def learner(self, model: PreTrainedModel, low: torch.dtype = torch.float32) -> MaskedTokens:
        """Cross-entropy at masked positions."""
        return MaskedTokens(model, low)

    @torch.no_grad()
    def validate(self, learner: Learner, device: torch.device) -> dict[str, float]:
        """The mean `loss` of held-out tokens."""
        total, count = 0.0, 0
        rows = max(1, VALIDATION_TOKENS // max(len(e["input_ids"]) for e in self.valid))
        for first in range(0, len(self.valid), rows):
            few = self.valid[first : first + rows]
            batch = {name: tensor.to(device) for name, tensor in self.collate(few).items()}
            total += float(learner.forward(**batch))
            count += sum(self.labels(example) for example in few)
        return {"loss": total / max(1, count)}


def masked_language_modelling(
    lines: Sequence[str] | Items | Tokens,
    tokenizer: PreTrainedTokenizerBase,
    settings: LanguageTraining,
) -> MaskedLanguageModelling:
    """The objective of a text: its lines, their tokens, or items or a `datasets.Dataset` whose
    `text` they are. The first lines are held out.

    Raises InputError if there is too little text for one training and one validation line.
    """
    if isinstance(lines, Tokens):
        text = lines
    else:
        plain = [line if isinstance(line, str) else str(line["text"]) for line in lines]
        text = encode_text(plain, tokenizer, None if settings.packed else settings.max_length)
    held_out = max(1, round(settings.held_out * len(text)))
    if held_out >= len(text):
        raise InputError(
            f"the text has {len(text)} lines: at least 2 are needed, one to train on and one to "
            "hold out"
        )
    train, valid = text[held_out:], text[:held_out]
    if settings.packed:
        train, valid = (part.blocks(settings.max_length) for part in (train, valid))
    return MaskedLanguageModelling(train, valid, tokenizer, settings.mask_probability)


def loss_of_base(base: Base, text: Tokens, settings: LanguageTraining) -> float:
    """The loss of a base before any training, in nats per masked token of the text's held-out
    lines, which have the masks that a training on this text is validated with."""
    objective = masked_language_modelling(text, load_tokenizer(base), settings)
    model, device = load_masked_lm(base).eval(), available_device()
    torch.nn.Module.to(model, device)
    return objective.validate(objective.learner(model), device)["loss"]
