"""Ablate, swap, permute or patch heads, and measure the effect on the model's predictions."""

from typing import TYPE_CHECKING, Any

from headway.options import SUBSTITUTES

__all__ = [
    "SUBSTITUTES",
    "Ablate",
    "Effect",
    "Grouping",
    "Intervention",
    "KeepOnly",
    "Patch",
    "Permute",
    "Positions",
    "Replace",
    "Resample",
    "Substitutes",
    "SwapClusters",
    "TextEffect",
    "effects",
    "mean_outputs",
    "percentile",
    "share_at_least",
    "swap_order",
    "top_tokens",
]

if TYPE_CHECKING:
    from headway.interventions.controls import percentile, share_at_least
    from headway.interventions.groups import Grouping
    from headway.interventions.objects import (
        Ablate,
        Intervention,
        KeepOnly,
        Patch,
        Permute,
        Replace,
        Resample,
        Substitutes,
        SwapClusters,
        swap_order,
    )
    from headway.interventions.text_effects import Effect, Positions, TextEffect, effects, top_tokens
    from headway.models.anatomy import mean_outputs

_MODULES = {
    **dict.fromkeys(("percentile", "share_at_least"), "interventions.controls"),
    **dict.fromkeys(("Effect", "Positions", "TextEffect", "effects", "top_tokens"), "interventions.text_effects"),
    "Grouping": "interventions.groups",
    **dict.fromkeys(
        (
            "Ablate",
            "Intervention",
            "KeepOnly",
            "Patch",
            "Permute",
            "Replace",
            "Resample",
            "Substitutes",
            "SwapClusters",
        ),
        "interventions.objects",
    ),
    "swap_order": "interventions.objects",
    "mean_outputs": "models.anatomy",
}


def __getattr__(name: str) -> Any:
    """Import torch when one of these names is first used: a command whose workers compute needs none of it."""
    if name in _MODULES:
        from importlib import import_module

        return getattr(import_module(f"headway.{_MODULES[name]}"), name)
    raise AttributeError(f"headway.interventions has no {name!r}; it has {', '.join(__all__)}")
