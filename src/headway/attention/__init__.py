"""Compute head scores in one forward pass: `scores` defines them, `attention`, `effects` and `circuits` compute what they need.

`headway.measure` applies them to a whole suite.
"""

from typing import TYPE_CHECKING, Any

from headway.options import SCORES

__all__ = ["DEFAULT_SCORES", "HeadScores", "Needs", "define", "head_scores"]

if TYPE_CHECKING:
    from headway.attention.heads import head_scores
    from headway.attention.job import HeadScores
    from headway.attention.needs import Needs
    from headway.attention.scores import define

DEFAULT_SCORES = SCORES.default

_MODULES = {"head_scores": "heads", "HeadScores": "job", "Needs": "needs", "define": "scores"}


def __getattr__(name: str) -> Any:
    """Import torch when one of these names is first used."""
    if name in _MODULES:
        from importlib import import_module

        return getattr(import_module(f"headway.attention.{_MODULES[name]}"), name)
    raise AttributeError(f"headway.attention has no {name!r}; it has {', '.join(__all__)}")
