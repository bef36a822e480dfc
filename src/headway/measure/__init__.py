"""Forward pass -> head scores: `scores` says what, `attention` and `kernels` say how."""

from headway.measure.heads import head_scores

__all__ = ["head_scores"]
