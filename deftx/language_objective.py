"""Masked-language modelling of a text."""

from collections.abc import Sequence

import torch
from transformers import DataCollatorForLanguageModeling, PreTrainedTokenizerBase

from deftx.objective import Example, Objective
from deftx.settings.training import LanguageTraining

VALIDATION_SEED = 0
"""The masks of held-out text are the same in every evaluation and for every method."""


def masked_language_modelling(
    lines: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    settings: LanguageTraining,
    seed: int,
) -> Objective:
    """Blocks of `max_length` tokens from running text; the first lines are held out.

    Masking is dynamic (15 %: 80 % mask, 10 % random, 10 % kept) in training, a stream of `seed`,
    and fixed in validation. Source: the LT-SFT settings (Ansell et al. 2022).

    Raises ValueError if there is too little text for one training and one validation line.
    """
    held_out = max(1, round(settings.held_out * len(lines)))
    if held_out >= len(lines):
        raise ValueError(
            f"the text has {len(lines)} lines: at least 2 are needed, one to train on and one to "
            "hold out"
        )
    mask = _masker(tokenizer, settings, seed)
    fixed = _masker(tokenizer, settings, VALIDATION_SEED)
    pad = DataCollatorForLanguageModeling(tokenizer, mlm=False)

    def collate(examples: list[Example]) -> dict[str, torch.Tensor]:
        if "labels" not in examples[0]:
            return dict(mask(examples))
        labels = [torch.tensor(example["labels"]) for example in examples]
        batch = dict(pad([{k: v for k, v in e.items() if k != "labels"} for e in examples]))
        batch["labels"] = torch.nn.utils.rnn.pad_sequence(
            labels, batch_first=True, padding_value=-100
        )
        return batch

    valid = [
        {key: value[0].tolist() for key, value in fixed([block]).items()}
        for block in blocks(lines[:held_out], tokenizer, settings.max_length)
    ]
    train = blocks(lines[held_out:], tokenizer, settings.max_length)
    return Objective(train, valid, collate, best="loss")


def blocks(lines: Sequence[str], tokenizer: PreTrainedTokenizerBase, length: int) -> list[Example]:
    """The lines, each with its special tokens, run together and cut into blocks of `length`
    tokens; the last one is shorter, so that nothing of a small corpus is lost."""
    encoded = tokenizer(list(lines), return_special_tokens_mask=True, verbose=False)
    tokens = [token for line in encoded["input_ids"] for token in line]
    special = [flag for line in encoded["special_tokens_mask"] for flag in line]
    return [
        {
            "input_ids": tokens[i : i + length],
            "attention_mask": [1] * len(tokens[i : i + length]),
            "special_tokens_mask": special[i : i + length],
        }
        for i in range(0, len(tokens), length)
    ]


def _masker(
    tokenizer: PreTrainedTokenizerBase, settings: LanguageTraining, seed: int
) -> DataCollatorForLanguageModeling:
    return DataCollatorForLanguageModeling(
        tokenizer, mlm_probability=settings.mask_probability, seed=seed
    )
