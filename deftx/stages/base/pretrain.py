"""Making a small multilingual encoder from nothing: a BPE tokenizer and an XLM-R, by MLM."""

import math
from collections.abc import Sequence

import torch
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    XLMRobertaConfig,
    XLMRobertaForMaskedLM,
)

from deftx.core.parameters import backbone_parameters
from deftx.engine.checkpoint import Checkpoint
from deftx.engine.language import MaskedLanguageModelling
from deftx.engine.loop import freeze, train_with_head
from deftx.engine.session import Session
from deftx.engine.settings import Engine, LanguageTraining
from deftx.models.tokens import encode_text
from deftx.stages.base.settings import Pretrain
from deftx.store.errors import InputError
from deftx.store.seeds import stream

MASK_PROBABILITY = 0.15

SPECIAL = {"bos": "<s>", "pad": "<pad>", "eos": "</s>", "unk": "<unk>", "mask": "<mask>"}


def train_tokenizer(lines: Sequence[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """A BPE tokenizer with XLM-R's special tokens and pair format, of at most `vocabulary` pieces.

    Not Unigram as in XLM-R: training that gives other scores each time, and then nothing below
    would be the same bytes again.

    Raises InputError if the text has too few different pieces to reach half of `vocabulary`.
    """
    tokenizer = Tokenizer(models.BPE(unk_token=SPECIAL["unk"]))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Punctuation(), pre_tokenizers.Metaspace()]
    )
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=list(SPECIAL.values()), show_progress=False
    )
    tokenizer.train_from_iterator(lines, trainer)
    if tokenizer.get_vocab_size() < vocabulary // 2:
        raise InputError(
            f"vocabulary is {vocabulary}, but the text yields only {tokenizer.get_vocab_size()} "
            "pieces: lower it, or give more text"
        )
    bos, eos = ((SPECIAL[name], tokenizer.token_to_id(SPECIAL[name])) for name in ("bos", "eos"))
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos[0]} $A {eos[0]}",
        pair=f"{bos[0]} $A {eos[0]} {eos[0]} $B {eos[0]}",
        special_tokens=[bos, eos],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        **{f"{name}_token": token for name, token in SPECIAL.items()},
        cls_token=SPECIAL["bos"],
        sep_token=SPECIAL["eos"],
        model_input_names=["input_ids", "attention_mask"],
    )


def architecture(tokenizer: PreTrainedTokenizerBase, settings: Pretrain) -> XLMRobertaConfig:
    """The shape of the model, for this tokenizer."""
    return XLMRobertaConfig(
        vocab_size=len(tokenizer),
        hidden_size=settings.hidden,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        intermediate_size=settings.intermediate,
        hidden_dropout_prob=settings.dropout,
        attention_probs_dropout_prob=settings.dropout,
        initializer_range=0.05,
        # XLM-R numbers positions from padding_idx + 1 on.
        max_position_embeddings=settings.max_length + tokenizer.pad_token_id + 1,
        type_vocab_size=1,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )


@torch.no_grad()
def _start_positions_as_waves(embedding: torch.nn.Embedding) -> None:
    """Set position embeddings to small sines and cosines of wavelengths from 6 to 190 tokens.

    Design choice: from random ones a model of this size needs most of a short pretraining to learn
    which tokens are neighbours.
    """
    positions, size = embedding.weight.shape
    frequency = torch.exp(-math.log(30) * torch.arange(0, size, 2) / size)
    angle = torch.arange(positions).unsqueeze(1) * frequency
    embedding.weight.copy_(0.1 * torch.cat([angle.sin(), angle.cos()], dim=1))
    if embedding.padding_idx is not None:
        embedding.weight[embedding.padding_idx] = 0


def pretrain(
    lines: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    settings: Pretrain,
    checkpoint: Checkpoint | None = None,
) -> PreTrainedModel:
    """An XLM-R of the given shape, trained on the lines by masked-language modelling (15 %),
    embeddings tied; AdamW with warm-up and linear decay."""
    tokenizer.model_max_length = settings.max_length
    torch.manual_seed(stream(settings.seed, "pretrain", "weights"))
    model = XLMRobertaForMaskedLM(architecture(tokenizer, settings))
    _start_positions_as_waves(model.roberta.embeddings.position_embeddings)
    objective = MaskedLanguageModelling(
        encode_text(lines, tokenizer, None).blocks(settings.max_length),
        [],
        tokenizer,
        MASK_PROBABILITY,
    )
    total = freeze(model)
    order, masks, dropout = (
        stream(settings.seed, "pretrain", name) for name in ("order", "masks", "dropout")
    )
    session = Session(order, masks, dropout, Engine(precision="fp32"), checkpoint)
    train_with_head(
        model,
        backbone_parameters(model),
        objective,
        LanguageTraining(
            learning_rate=settings.learning_rate,
            batch_size=settings.batch_size,
            min_steps=settings.steps,
            max_steps=settings.steps,
            max_length=settings.max_length,
            weight_decay=0.01,
            warmup_steps=settings.warmup_steps,
            l1=0.0,
        ),
        session,
        total=total,
    )
    return model
