"""Models with real shapes and random weights, and data with real statistics, without downloads.

Speed depends on shapes, the number of embedding rows in a batch, the lengths of sentences, and the
positions of chosen entries. This module generates these four, each from a stated source.
"""

import math
from collections.abc import Mapping

import numpy as np
import torch
from transformers import (
    XLMRobertaConfig,
    XLMRobertaForMaskedLM,
    XLMRobertaForSequenceClassification,
)

from deftx.core.mask import Mask
from deftx.models.load import untie_decoder

SIZES = {
    "xlm-r-base": {  # Conneau et al. 2020, and the model's config.json
        "vocab_size": 250_002,
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
        "max_position_embeddings": 514,
    },
    "xlm-r-large": {  # from the same sources
        "vocab_size": 250_002,
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "intermediate_size": 4096,
        "max_position_embeddings": 514,
    },
    "mini": {
        "vocab_size": 32_000,
        "hidden_size": 384,
        "num_hidden_layers": 8,
        "num_attention_heads": 6,
        "intermediate_size": 1536,
        "max_position_embeddings": 258,
    },
    "tiny": {
        "vocab_size": 2_000,
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 256,
        "max_position_embeddings": 258,
    },
}
"""Shapes by name; `mini` is a tenth of XLM-R base, and `tiny` is for tests."""

START, PAD, END = 0, 1, 2
"""XLM-R's special tokens; 3 is the unknown token, and the last of the vocabulary is the mask."""

CHOSEN = {"language": 7_667_712 / 277_414_656, "task": 14_155_776 / 277_414_656}
"""K of a language's and of a task's vector as parts of XLM-R base's maskable entries."""

PIECES, PIECES_SHARE, OFFSET, EXPONENT = 13_400, 0.42, 2.7, 1.2

SHARES = (0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1)
LENGTHS = (3, 4, 10, 14, 24, 39, 65, 88, 96, 109, 128)


def config(size: str, **settings) -> XLMRobertaConfig:
    """The configuration of a size, with XLM-R's other values (dropout 0.1)."""
    return XLMRobertaConfig(
        **{
            **SIZES[size],
            "type_vocab_size": 1,
            "layer_norm_eps": 1e-5,
            "bos_token_id": START,
            "pad_token_id": PAD,
            "eos_token_id": END,
            **settings,
        }
    )


def masked_lm(size: str, seed: int = 0, **settings) -> XLMRobertaForMaskedLM:
    """A masked-language model whose decoder is an untied, frozen copy of its embeddings."""
    model = _seeded(XLMRobertaForMaskedLM, config(size, **settings), seed)
    untie_decoder(model)
    return model


def classifier(size: str, labels: int = 3, seed: int = 0, **settings):
    """A sequence classifier."""
    settings = {"num_labels": labels, **settings}
    return _seeded(XLMRobertaForSequenceClassification, config(size, **settings), seed)


def _seeded(kind, configuration, seed):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return kind(configuration)


def maskable_shapes(model: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    """Name in the encoder → shape of every maskable tensor: all but normalisation layers."""
    return {
        name: tuple(parameter.shape)
        for name, parameter in model.base_model.named_parameters()
        if "LayerNorm" not in name and not name.startswith("pooler.")
    }


def word_distribution(vocabulary: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """The pieces that one language uses, most frequent first, and their probabilities.

    Zipf-Mandelbrot: p ∝ (rank + 2.7)^-1.2 over 13,400 pieces, or over 42 % of a vocabulary
    smaller than 32,000. Fitted by eye to Minangkabau text in a SentencePiece vocabulary of 32,000
    (20,000 lines, 2.1 million tokens): 13,434 pieces occur, the most frequent one is 2.9 % of the
    tokens, the 10th 1.2 %, the 100th 0.14 %, the 1000th 0.012 %; 8 blocks of 256 tokens hold 750
    distinct pieces (Guarani 635, Indonesian 1,015), and here 730. In a larger vocabulary the
    pieces are spread over it at random.
    """
    generator = np.random.default_rng(seed)
    usable = np.arange(4, vocabulary - 1)
    count = min(PIECES, round(PIECES_SHARE * vocabulary), len(usable))
    pieces = generator.permutation(usable)[:count]
    weights = (np.arange(1, count + 1) + OFFSET) ** -EXPONENT
    return pieces, weights / weights.sum()


def blocks(size: str, count: int, length: int = 256, seed: int = 0) -> list[dict]:
    """Blocks of running text as an `Objective` holds them: lists of token ids, nothing masked.

    Independent draws from `word_distribution`, without special tokens.
    """
    pieces, weights = word_distribution(SIZES[size]["vocab_size"])
    generator = np.random.default_rng([seed, 1])
    tokens = generator.choice(pieces, size=(count, length), p=weights)
    return [
        {
            "input_ids": row,
            "attention_mask": [1] * length,
            "special_tokens_mask": [0] * length,
        }
        for row in tokens.tolist()
    ]


def masked_batch(
    examples: list[dict], size: str, seed: int = 0, probability: float = 0.15
) -> dict[str, torch.Tensor]:
    """Blocks of one length as a batch for masked-language modelling.

    Each token is chosen with `probability`; of the chosen ones 80 % become the mask token, 10 % a
    random one and 10 % stay. `labels` has the chosen tokens, and -100 elsewhere.
    """
    vocabulary = SIZES[size]["vocab_size"]
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.tensor([example["input_ids"] for example in examples])
    chosen = torch.rand(tokens.shape, generator=generator) < probability
    labels = tokens.masked_fill(~chosen, -100)
    fate = torch.rand(tokens.shape, generator=generator)
    other = torch.randint(vocabulary, tokens.shape, generator=generator)
    inputs = torch.where(chosen & (fate < 0.8), vocabulary - 1, tokens)
    inputs = torch.where(chosen & (fate >= 0.9), other, inputs)
    return {"input_ids": inputs, "attention_mask": torch.ones_like(inputs), "labels": labels}


def language_batches(
    size: str, count: int, batch_size: int = 8, length: int = 256, seed: int = 0
) -> list[dict[str, torch.Tensor]]:
    """Masked batches of B x L tokens; no two share a block."""
    examples = blocks(size, count * batch_size, length, seed)
    return [
        masked_batch(examples[i * batch_size : (i + 1) * batch_size], size, seed=seed + i)
        for i in range(count)
    ]


def task_lengths(count: int, generator: np.random.Generator) -> np.ndarray:
    """Token counts of sentences, special tokens included, cut at 128.

    The inverse of a distribution function, linear between the quantiles in `SHARES` and `LENGTHS`:
    those of SmSA's 11,000 training texts (IndoNLU, Indonesian sentiment) in a SentencePiece
    vocabulary of 32,000 for 40 languages, cut at 128 (0.1 % are longer): mean 45.65, standard
    deviation 27.5, and 88.8 for the longest of 8. Here: 45.9, 27.5 and 88.9. (A log-normal does
    not fit: the logarithms have a skewness of -1.3.)
    """
    return np.rint(np.interp(generator.random(count), SHARES, LENGTHS)).astype(np.int64)


def task_examples(size: str, count: int, labels: int = 3, seed: int = 0) -> list[dict]:
    """Labelled sentences as an `Objective` holds them, not padded: lengths from `task_lengths`,
    pieces from `word_distribution` between the start and the end token, random labels."""
    pieces, weights = word_distribution(SIZES[size]["vocab_size"])
    generator = np.random.default_rng([seed, 2])
    lengths = task_lengths(count, generator)
    tokens = generator.choice(pieces, size=int(lengths.sum()), p=weights)
    classes = generator.integers(labels, size=count).tolist()
    examples = []
    for row, label in zip(np.split(tokens, np.cumsum(lengths)[:-1]), classes, strict=True):
        row[0], row[-1] = START, END
        examples.append(
            {"input_ids": row.tolist(), "attention_mask": [1] * len(row), "labels": label}
        )
    return examples


def random_mask(
    shapes: Mapping[str, tuple[int, ...]],
    target: str = "language",
    seed: int = 0,
    device: str | torch.device = "cpu",
) -> Mask:
    """K chosen entries, spread as in a real vector; K is the part of the maskable entries that a
    `target`, "language" or "task", has on XLM-R base.

    Spread after the released Guarani vector of LT-SFT: 19.5 % of the entries lie in the word
    embeddings, and the rest in the layers, where feed-forward matrices are 2.5 times as dense as
    other tensors, and the last two layers twice as dense as those before (there: feed-forward
    densities of 7 to 16 %, 10.6 and 12.0 % of all entries in the last two layers). Inside the word
    embeddings an entry's row is drawn by how frequent its piece is in `word_distribution`: rows
    without a gradient do not move, and so are not chosen. Inside of every other tensor, uniformly.
    For a task the same is assumed. `device` draws.
    """
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    total = sum(sizes.values())
    k = round(CHOSEN[target] * total)
    words = "embeddings.word_embeddings.weight"
    others = sorted(sizes.keys() - {words})
    in_words = round(0.195 * k)
    weights = np.array([sizes[name] * _density(name, shapes) for name in others], dtype=float)
    # Differences of rounded running sums: they add up to exactly what is left.
    ends = np.rint(np.cumsum(weights) / weights.sum() * (k - in_words)).astype(np.int64)
    parts = dict(zip(others, np.diff(ends, prepend=0).tolist(), strict=True))
    rows, frequencies = word_distribution(shapes[words][0])
    columns = shapes[words][1]
    places = torch.from_numpy(rows).unsqueeze(1) * columns + torch.arange(columns)
    with torch.random.fork_rng(devices=[]), torch.device(device):
        torch.manual_seed(seed)
        # The largest of log(uniform) / weight are a weighted draw without replacement.
        draws = torch.rand(places.shape).log_()
        draws /= torch.tensor(frequencies, dtype=draws.dtype).unsqueeze(1)
        index = {words: places.flatten()[_largest(draws, in_words)]}
        for name, part in parts.items():
            if part:
                index[name] = _largest(torch.rand(sizes[name]), part)
    return Mask(
        {name: index[name].sort().values for name in sorted(index)},
        {name: tuple(shapes[name]) for name in sorted(index)},
    )


def _largest(draws: torch.Tensor, count: int) -> torch.Tensor:
    return draws.flatten().topk(count, sorted=False).indices.cpu()


def _density(name: str, shapes: Mapping[str, tuple[int, ...]]) -> float:
    layers = 1 + max(int(n.split(".")[2]) for n in shapes if n.startswith("encoder.layer."))
    feed_forward = "intermediate." in name or (".output." in name and ".attention." not in name)
    late = any(name.startswith(f"encoder.layer.{i}.") for i in (layers - 2, layers - 1))
    return (2.5 if feed_forward else 1.0) * (2.0 if late and layers > 2 else 1.0)
