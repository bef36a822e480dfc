"""Explained variance of a mixed model (Nakagawa & Schielzeth 2013; with random slopes, Johnson 2014), and its ICC."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from headway.stats.lmm import MixedModel


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


def variances(fit: MixedModel) -> Variances:
    """The three parts of the response's variance."""
    factors = fit.state.shape.factors(fit.state.theta)
    # A row's random effects z'b have variance σ² |T'z|².
    random = sum(
        np.mean(np.sum((term.columns @ factor) ** 2, axis=1)) for term, factor in zip(fit.terms, factors, strict=True)
    )
    return Variances(float(np.var(fit.x.matrix @ fit.beta, ddof=1)), float(fit.sigma**2 * random), fit.sigma**2)
