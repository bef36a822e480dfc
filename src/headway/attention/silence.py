"""Let the encoder of a speech model hear silence, once for all texts: what it makes of it is the same beside every text.

Shapes: B texts, S frames after the encoder, M hidden_size.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from headway.models.stacks import SILENCE

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def silence_heard(model: PreTrainedModel) -> Tensor:
    """What the encoder makes of silence, as long as the audio that it always reads: (1, S, M)."""
    config: Any = model.config
    frames = 2 * config.max_source_positions  # a convolution halves them
    silence = torch.full((1, config.num_mel_bins, frames), SILENCE[config.model_type])
    found: Tensor = model.get_encoder()(silence.to(model.device, model.dtype)).last_hidden_state
    return found


@contextmanager
def projected_once(model: PreTrainedModel) -> Iterator[None]:
    """While the block runs, linear layers project what all texts of a batch share once, and not B times.

    Such inputs (B, S, M) are one tensor that is expanded over the texts. The keys and values of 1,500 frames would
    otherwise take most of the time: a text has about 50 tokens.
    """
    n_texts = [1]

    def shorten(module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        n_texts[0] = len(args[0])
        return (args[0][:1],) if args[0].stride(0) == 0 else args

    def expand(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return output.expand(n_texts[0], *output.shape[1:])

    linear = [module for module in model.get_decoder().modules() if isinstance(module, nn.Linear)]
    handles = [module.register_forward_pre_hook(shorten) for module in linear]
    handles += [module.register_forward_hook(expand) for module in linear]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
