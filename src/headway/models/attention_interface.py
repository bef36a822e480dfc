"""Check that headway can replace the attention function of a model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headway.errors import UnsupportedModel
from headway.models.architectures import known_architectures

if TYPE_CHECKING:
    from torch import nn


def require_attention_interface(model: nn.Module) -> None:
    """Check that transformers lets headway replace the attention function of `model`.

    Raises:
        UnsupportedModel: the architecture computes attention in its own code, which cannot be replaced.
    """
    if not getattr(model, "_supports_attention_backend", False):
        raise UnsupportedModel(
            f"the attention of {type(model).__name__} does not go through transformers' AttentionInterface, so headway "
            f"cannot see its heads. Use one of {known_architectures()}, or another decoder whose attention goes through it"
        )
