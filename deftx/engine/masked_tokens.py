"""The loss of masked-language modelling, computed where there is something to predict.

Design choice. For 15 % masked tokens and 250,002 pieces the decoder at all positions is half of
a step's arithmetic and most of its memory; its result is the same.
"""

import copy
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from deftx.engine.decoder import decoder_loss, padded
from deftx.engine.objective import Learner, at_least_float32
from deftx.models.token_arrays import IGNORED
from deftx.store.errors import InputError


class MaskedTokens(Learner):
    """Batch → the sum of the cross-entropies at its masked positions.

    A decoder that is frozen when this is made is taken out of the model until `close`, and may be
    kept in `decoder_dtype`, which halves its memory in bfloat16.
    """

    def __init__(self, model: PreTrainedModel, decoder_dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.model = model
        decoder, words = model.get_output_embeddings(), model.get_input_embeddings().weight
        if decoder.weight is words and not words.requires_grad:
            raise InputError(
                "the decoder is tied to the word embeddings, which train only in part: "
                "load the model with load_masked_lm, which gives it frozen weights of its own"
            )
        # In a tuple, where moving the learner to a device does not find it.
        self._taken = () if decoder.weight.requires_grad else (decoder,)
        if self._taken:
            model.set_output_embeddings(_Passing(decoder, decoder_dtype))
        # The model without its backbone, whose last hidden states are given as `inputs_embeds`.
        # For any architecture: all of transformers' models look their parts up by name.
        self.head = copy.copy(model)
        self.head.__dict__["_modules"] = {**model._modules, model.base_model_prefix: _Given()}

    def forward(
        self,
        input_ids: torch.Tensor,
        positions: torch.Tensor,
        targets: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """`input_ids` (batch, length); `positions` (p,) into the flattened batch; `targets` (p,),
        IGNORED where a position only pads; `attention_mask` None if nothing is padded."""
        base = self.model.base_model(input_ids=input_ids, attention_mask=attention_mask)
        chosen = base.last_hidden_state.flatten(0, 1).index_select(0, positions)
        result = self.head(inputs_embeds=chosen.unsqueeze(0)).logits[0]
        if not self._taken:
            logits = at_least_float32(result)
            return cross_entropy(logits, targets, ignore_index=IGNORED, reduction="sum")
        decoder = self.model.get_output_embeddings()
        return decoder_loss(result, decoder.weight, decoder.bias, targets)

    def close(self) -> None:
        """Put the decoder back."""
        for decoder in self._taken:
            decoder.to(self.model.device)
            self.model.set_output_embeddings(decoder)


class _Passing(torch.nn.Module):
    """In the place of a decoder: hands its input on, so that the head ends before it."""

    def __init__(self, decoder: torch.nn.Linear, dtype: torch.dtype) -> None:
        super().__init__()
        weight = decoder.weight.detach()
        low = weight if dtype == torch.float32 else weight.to(dtype)
        if low.is_cuda and decoder.bias is not None:  # whose length says how much is padding
            low = padded(low)
        self.weight = torch.nn.Parameter(low, requires_grad=False)
        self.bias = decoder.bias
        if low is not weight:  # the device has no room for both
            decoder.weight.data = weight.cpu()

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features


class _Given(torch.nn.Module):
    """In the place of a backbone: its result is what it is given as embeddings."""

    def forward(self, *_: Any, inputs_embeds: torch.Tensor, **__: Any) -> BaseModelOutput:
        return BaseModelOutput(last_hidden_state=inputs_embeds)
