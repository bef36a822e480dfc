"""Abilities of a model, one number per checkpoint: loss, in-context score, repetition, minimal pairs and cloze."""

from typing import TYPE_CHECKING, Any

from headway.abilities.items import asked_abilities

__all__ = ["CheckpointAbilities", "Predictions", "asked_abilities", "next_token_predictions"]

if TYPE_CHECKING:
    from headway.abilities.job import CheckpointAbilities
    from headway.abilities.next_tokens import Predictions, next_token_predictions

_MODULES = {"CheckpointAbilities": "job", "Predictions": "next_tokens", "next_token_predictions": "next_tokens"}


def __getattr__(name: str) -> Any:
    """Import torch when one of these names is first used."""
    if name in _MODULES:
        from importlib import import_module

        return getattr(import_module(f"headway.abilities.{_MODULES[name]}"), name)
    raise AttributeError(f"headway.abilities has no {name!r}; it has {', '.join(__all__)}")
