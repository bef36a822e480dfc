"""Ablate, swap, permute or patch heads, and measure the effect on the model's predictions."""

from headway.interventions.controls import percentile, share_at_least
from headway.interventions.effects import Effect, Positions, TextEffect, effects, top_tokens
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
from headway.models.anatomy import mean_outputs
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
