"""Developmental interpretability of attention heads: when, where and how consistently do they take on a role?"""

__version__ = "0.1.0"
