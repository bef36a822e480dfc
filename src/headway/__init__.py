"""Developmental interpretability of attention heads: when, where and how consistently they take on a role."""

__version__ = "0.1.0"
