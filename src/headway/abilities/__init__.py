"""Abilities of a model, one number per checkpoint: next-token loss and accuracy."""

from headway.abilities.next_tokens import Predictions, next_token_predictions

__all__ = ["Predictions", "next_token_predictions"]
