"""Explained variance of a mixed model (Nakagawa & Schielzeth 2013; with random slopes, Johnson 2014), and its ICC."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from headway.stats.random_effects import RandomTerm


class Variances(NamedTuple):
    """Variance of the fixed effects' prediction over rows, mean variance of the random effects over rows, and σ²."""

    fixed: float
    random: float
    residual: float

    @property
    def r_squared(self) -> RSquared:
        total = self.fixed + self.random + self.residual
        return RSquared(self.fixed / total, (self.fixed + self.random) / total)

    @property
    def icc(self) -> float:
        return self.random / (self.random + self.residual)


class RSquared(NamedTuple):
    """Share of variance of the fixed effects (`marginal`), and of fixed and random effects together (`conditional`)."""

    marginal: float
    conditional: float


def variances(
    prediction: np.ndarray, terms: Sequence[RandomTerm], factors: Sequence[np.ndarray], sigma: float
) -> Variances:
    """The three parts of the response's variance.

    Args:
        prediction: Xβ̂ (n,).
        terms: the random terms, with the lower triangle T of each in `factors`.
        sigma: the residual standard deviation.
    """
    # A row's random effects z'b have variance σ² |T'z|².
    random = sum(np.mean(np.sum((term.columns @ t) ** 2, axis=1)) for term, t in zip(terms, factors, strict=True))
    return Variances(float(np.var(prediction, ddof=1)), float(sigma**2 * random), sigma**2)
