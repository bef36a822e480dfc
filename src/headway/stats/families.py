"""Distributions of responses, each with its canonical link (McCullagh & Nelder 1989, Generalized Linear Models, ch. 2)."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from headway.errors import StatisticsError

Floats = np.ndarray


class Family(Protocol):
    """A distribution with its canonical link η = g(μ). `prior` are the weights of rows: trials for the binomial."""

    name: str
    link: str

    def require(self, y: Floats, prior: Floats, response: str) -> None:
        """Check that the response can come from this distribution.

        Raises:
            StatisticsError: it cannot.
        """

    def mean(self, eta: Floats) -> Floats:
        """μ = g⁻¹(η)."""

    def variance(self, mu: Floats) -> Floats:
        """Var(y) for weight 1. With the canonical link this is also dμ/dη."""

    def variance_slope(self, mu: Floats) -> Floats:
        """d variance / dη."""

    def log_density(self, y: Floats, mu: Floats, prior: Floats) -> Floats:
        """log p(y | μ) of each row, with all constants, so that AIC is R's."""

    def start(self, y: Floats, prior: Floats) -> Floats:
        """η of each row from which iterations start."""


class Binomial:
    """Share y of successes in `prior` trials, with the logit link."""

    name, link = "binomial", "logit"

    def require(self, y: Floats, prior: Floats, response: str) -> None:
        if np.any((y < 0) | (y > 1)):
            raise StatisticsError(
                f"the response {response} must lie between 0 and 1: it is a share of successes, or 0 and 1 themselves"
            )
        counts = y * prior
        if np.any(np.abs(counts - np.round(counts)) > 1e-6 * np.maximum(counts, 1)):
            raise StatisticsError(
                f"the response {response} times its number of trials is not whole: give the trials as weights"
            )

    def mean(self, eta: Floats) -> Floats:
        from scipy.special import expit

        return np.asarray(expit(eta))

    def variance(self, mu: Floats) -> Floats:
        return mu * (1 - mu)

    def variance_slope(self, mu: Floats) -> Floats:
        return mu * (1 - mu) * (1 - 2 * mu)

    def log_density(self, y: Floats, mu: Floats, prior: Floats) -> Floats:
        from scipy.special import gammaln, xlog1py, xlogy

        hits = np.round(y * prior)
        choices = gammaln(prior + 1) - gammaln(hits + 1) - gammaln(prior - hits + 1)
        return np.asarray(choices + xlogy(hits, mu) + xlog1py(prior - hits, -mu))

    def start(self, y: Floats, prior: Floats) -> Floats:
        share = (prior * y + 0.5) / (prior + 1)
        return np.log(share / (1 - share))


class Poisson:
    """Counts y with the logarithmic link."""

    name, link = "poisson", "log"

    def require(self, y: Floats, prior: Floats, response: str) -> None:
        if np.any((y < 0) | (y != np.round(y))):
            raise StatisticsError(f"the response {response} must be a count: 0, 1, 2 and so on")

    def mean(self, eta: Floats) -> Floats:
        return np.exp(np.minimum(eta, 700.0))  # e^710 overflows

    def variance(self, mu: Floats) -> Floats:
        return mu

    def variance_slope(self, mu: Floats) -> Floats:
        return mu

    def log_density(self, y: Floats, mu: Floats, prior: Floats) -> Floats:
        from scipy.special import gammaln, xlogy

        return np.asarray(prior * (xlogy(y, mu) - mu - gammaln(y + 1)))

    def start(self, y: Floats, prior: Floats) -> Floats:
        return np.log(y + 0.1)


FAMILIES: dict[str, Family] = {family.name: family for family in (Binomial(), Poisson())}


def family_of(name: str) -> Family:
    """Return the family of that name.

    Raises:
        StatisticsError: there is none.
    """
    if name not in FAMILIES:
        raise StatisticsError(f"unknown family {name!r}: choose {' or '.join(map(repr, FAMILIES))}")
    return FAMILIES[name]
