"""Forward pass -> head scores: `scores` says what they are, `attention` and `kernels` how they are computed.

The room can be called: `headway.measure(suite, corpus=..., out=...)` is the verb.
"""

import sys
from typing import TYPE_CHECKING, Any

from headway.callable_room import CallableRoom

__all__ = ["DEFAULT_SCORES", "HeadScores", "Predictions", "define", "head_scores", "next_token_predictions"]

if TYPE_CHECKING:
    from headway.measure.heads import head_scores
    from headway.measure.job import HeadScores
    from headway.measure.next_tokens import Predictions, next_token_predictions
    from headway.measure.scores import define

DEFAULT_SCORES = ("prev", "self", "first", "prev_self_ratio", "prev_all_ratio", "prev_fraction")

_MODULES = {"head_scores": "heads", "HeadScores": "job", "define": "scores"}
_MODULES |= dict.fromkeys(("Predictions", "next_token_predictions"), "next_tokens")


def __getattr__(name: str) -> Any:
    """torch is imported when one of these is first used."""
    if name in _MODULES:
        from importlib import import_module

        return getattr(import_module(f"headway.measure.{_MODULES[name]}"), name)
    raise AttributeError(f"headway.measure has no {name!r}; it has {', '.join(__all__)}")


sys.modules[__name__].__class__ = CallableRoom
