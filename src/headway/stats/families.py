"""Distributions of responses with their links (McCullagh & Nelder 1989, Generalized Linear Models, ch. 2).

`FAMILIES` have their canonical link, which mixed models need. `SMOOTH_FAMILIES` are those of additive models: also Gaussian, Gamma
and beta (Ferrari & Cribari-Neto 2004, J. Appl. Stat. 31, 799-815), which have one parameter besides the mean.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np

from headway.errors import StatisticsError

Floats = np.ndarray


class LogDensity(NamedTuple):
    """log p(y | η, e) of each row (n,), its derivatives by η, and those by the parameter e, if there is one.

    `expected` is the expectation of -second: Fisher's information about η. Derivatives by e: of the sum, and of first and second.
    """

    value: Floats
    first: Floats
    second: Floats
    third: Floats
    expected: Floats
    by_extra: float = 0.0
    first_by_extra: Floats | None = None
    second_by_extra: Floats | None = None


class SmoothFamily(Protocol):
    """A distribution as additive models need it. `prior` are the weights of rows: trials for the binomial.

    `extra` is its parameter besides the mean, a logarithm, or None; `extra_is_scale` says whether it is the scale φ of the
    variance, as opposed to a parameter that stands for itself.
    """

    name: str
    link: str
    extra_name: str
    extra_is_scale: bool

    def require(self, y: Floats, prior: Floats, response: str) -> None:
        """Check that the response can come from this distribution.

        Raises:
            StatisticsError: it cannot.
        """

    def mean(self, eta: Floats) -> Floats:
        """μ = g⁻¹(η)."""

    def variance(self, mu: Floats) -> Floats:
        """Var(y) for weight 1, without the scale."""

    def slope(self, mu: Floats) -> Floats:
        """dμ/dη."""

    def scale(self, y: Floats, mu: Floats, prior: Floats, df_resid: float) -> float:
        """Estimate of the scale φ of the variance; 1 where the family has none."""

    def start(self, y: Floats, prior: Floats) -> Floats:
        """η of each row from which iterations start."""

    def start_extra(self, y: Floats) -> tuple[float, ...]:
        """`extra` from which iterations start; empty if there is none."""

    def derivatives(self, y: Floats, eta: Floats, prior: Floats, extra: float | None) -> LogDensity:
        """The log density with its derivatives."""

    def deviance(self, y: Floats, mu: Floats, prior: Floats, extra: float | None) -> float:
        """Twice the distance to the largest possible log density, without the scale."""


class Family(SmoothFamily, Protocol):
    """A distribution with its canonical link η = g(μ). `prior` are the weights of rows: trials for the binomial."""

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


class Canonical:
    """What all families with their canonical link share: dμ/dη is the variance, and there is no other parameter."""

    extra_name, extra_is_scale = "", False

    def slope(self: Family, mu: Floats) -> Floats:
        return self.variance(mu)

    def scale(self, y: Floats, mu: Floats, prior: Floats, df_resid: float) -> float:
        return 1.0

    def start_extra(self, y: Floats) -> tuple[float, ...]:
        return ()

    def derivatives(self: Family, y: Floats, eta: Floats, prior: Floats, extra: float | None) -> LogDensity:
        mu = self.mean(eta)
        information = prior * self.variance(mu)
        third = -prior * self.variance_slope(mu)
        return LogDensity(self.log_density(y, mu, prior), prior * (y - mu), -information, third, information)

    def deviance(self: Family, y: Floats, mu: Floats, prior: Floats, extra: float | None) -> float:
        return float(2 * np.sum(self.log_density(y, y, prior) - self.log_density(y, mu, prior)))


class Binomial(Canonical):
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


class Poisson(Canonical):
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


class Gaussian:
    """Any y with constant variance φ and the identity as link. The other parameter is log φ."""

    name, link, extra_name, extra_is_scale = "gaussian", "identity", "scale", True

    def require(self, y: Floats, prior: Floats, response: str) -> None:
        pass  # any number will do

    def mean(self, eta: Floats) -> Floats:
        return eta

    def variance(self, mu: Floats) -> Floats:
        return np.ones_like(mu)

    def slope(self, mu: Floats) -> Floats:
        return np.ones_like(mu)

    def scale(self, y: Floats, mu: Floats, prior: Floats, df_resid: float) -> float:
        return float(np.sum(prior * (y - mu) ** 2)) / df_resid

    def start(self, y: Floats, prior: Floats) -> Floats:
        return y

    def start_extra(self, y: Floats) -> tuple[float, ...]:
        return (float(np.log(np.var(y) / 10)),)

    def derivatives(self, y: Floats, eta: Floats, prior: Floats, extra: float | None) -> LogDensity:
        weight = prior * np.exp(-_given(extra))
        rest = y - eta
        value = (np.log(weight / (2 * np.pi)) - weight * rest**2) / 2
        by_extra = float(np.sum(weight * rest**2 - 1)) / 2
        return LogDensity(value, weight * rest, -weight, 0 * eta, weight, by_extra, -weight * rest, weight)

    def deviance(self, y: Floats, mu: Floats, prior: Floats, extra: float | None) -> float:
        return float(np.sum(prior * (y - mu) ** 2))


class Gamma:
    """Positive y with a variance of φμ² and the logarithmic link. The other parameter is log φ."""

    name, link, extra_name, extra_is_scale = "gamma", "log", "scale", True

    def require(self, y: Floats, prior: Floats, response: str) -> None:
        if np.any(y <= 0):
            raise StatisticsError(f"the response {response} must be positive for the gamma family")

    def mean(self, eta: Floats) -> Floats:
        return np.exp(np.minimum(eta, 700.0))  # e^710 overflows

    def variance(self, mu: Floats) -> Floats:
        return mu**2

    def slope(self, mu: Floats) -> Floats:
        return mu

    def scale(self, y: Floats, mu: Floats, prior: Floats, df_resid: float) -> float:
        """Pearson's estimate with the correction of Fletcher (2012) Biometrika 99, 230-237."""
        pearson = float(np.sum(prior * ((y - mu) / mu) ** 2)) / df_resid
        return pearson / (1 + max(-0.9, float(np.mean(2 * (y - mu) / mu))))

    def start(self, y: Floats, prior: Floats) -> Floats:
        return np.log(y)

    def start_extra(self, y: Floats) -> tuple[float, ...]:
        return (float(np.log(np.var(y) / np.mean(y) ** 2 / 2)),)

    def derivatives(self, y: Floats, eta: Floats, prior: Floats, extra: float | None) -> LogDensity:
        from scipy.special import digamma, gammaln

        shape = prior * np.exp(-_given(extra))
        mu = self.mean(eta)
        ratio = y / mu
        value = shape * (np.log(shape) + np.log(ratio) - ratio) - np.log(y) - gammaln(shape)
        first, second = shape * (ratio - 1), -shape * ratio
        by_shape = np.log(shape) + 1 + np.log(ratio) - ratio - digamma(shape)
        by_extra = float(-np.sum(shape * by_shape))  # d shape / d log φ = -shape
        return LogDensity(value, first, second, -second, shape, by_extra, -first, -second)

    def deviance(self, y: Floats, mu: Floats, prior: Floats, extra: float | None) -> float:
        return float(2 * np.sum(prior * ((y - mu) / mu - np.log(y / mu))))


class Beta:
    """Shares y strictly between 0 and 1, with a variance of μ(1 - μ)/(1 + θ) and the logit link. The other parameter is log θ."""

    name, link, extra_name, extra_is_scale = "beta", "logit", "precision", False

    def require(self, y: Floats, prior: Floats, response: str) -> None:
        if np.any((y <= 0) | (y >= 1)):
            raise StatisticsError(
                f"the response {response} must lie strictly between 0 and 1 for the beta family. Shares of counts are binomial"
            )

    def mean(self, eta: Floats) -> Floats:
        from scipy.special import expit

        return np.asarray(expit(np.clip(eta, -36.0, 36.0)))  # beyond, 1 - μ is rounding

    def variance(self, mu: Floats) -> Floats:
        return mu * (1 - mu)

    def slope(self, mu: Floats) -> Floats:
        return mu * (1 - mu)

    def scale(self, y: Floats, mu: Floats, prior: Floats, df_resid: float) -> float:
        return 1.0

    def start(self, y: Floats, prior: Floats) -> Floats:
        return np.log(y / (1 - y))

    def start_extra(self, y: Floats) -> tuple[float, ...]:
        mean = float(np.mean(y))
        return (float(np.log(max(2 * mean * (1 - mean) / np.var(y) - 1, 1.0))),)

    def derivatives(self, y: Floats, eta: Floats, prior: Floats, extra: float | None) -> LogDensity:
        from scipy.special import digamma, gammaln, polygamma

        theta, mu = np.exp(_given(extra)), self.mean(eta)
        a, b = mu * theta, (1 - mu) * theta
        log_y, log_rest = np.log(y), np.log1p(-y)
        value = gammaln(theta) - gammaln(a) - gammaln(b) + (a - 1) * log_y + (b - 1) * log_rest
        by_theta = digamma(theta) - mu * digamma(a) - (1 - mu) * digamma(b) + mu * log_y + (1 - mu) * log_rest

        # by μ, and of these by log θ
        d1 = theta * (log_y - log_rest - digamma(a) + digamma(b))
        d2 = -(theta**2) * (polygamma(1, a) + polygamma(1, b))
        d3 = -(theta**3) * (polygamma(2, a) - polygamma(2, b))
        d1_theta = d1 - theta**2 * (mu * polygamma(1, a) - (1 - mu) * polygamma(1, b))
        d2_theta = 2 * d2 - theta**3 * (mu * polygamma(2, a) + (1 - mu) * polygamma(2, b))

        # by η, through the derivatives of μ by η
        m1 = mu * (1 - mu)
        m2, m3 = m1 * (1 - 2 * mu), m1 * (1 - 6 * m1)
        return LogDensity(
            prior * value,
            prior * d1 * m1,
            prior * (d2 * m1**2 + d1 * m2),
            prior * (d3 * m1**3 + 3 * d2 * m1 * m2 + d1 * m3),
            -prior * d2 * m1**2,
            float(np.sum(prior * theta * by_theta)),
            prior * d1_theta * m1,
            prior * (d2_theta * m1**2 + d1_theta * m2),
        )

    def deviance(self, y: Floats, mu: Floats, prior: Floats, extra: float | None) -> float:
        eta = self._saturated(y, extra)
        fitted = np.log(mu / (1 - mu))
        here, there = (self.derivatives(y, at, prior, extra).value for at in (fitted, eta))
        return float(2 * np.sum(there - here))

    def _saturated(self, y: Floats, extra: float | None) -> Floats:
        """η of each row at which its own density is largest, by Newton's method with Fisher's information."""
        eta, ones = self.start(y, np.ones_like(y)), np.ones_like(y)
        for _ in range(_MOST_STEPS):
            at = self.derivatives(y, eta, ones, extra)
            step = np.clip(at.first / at.expected, -2.0, 2.0)
            eta = eta + step
            if np.abs(step).max() < 1e-10:
                break
        return eta


_MOST_STEPS = 100


def _given(extra: float | None) -> float:
    assert extra is not None
    return extra


FAMILIES: dict[str, Family] = {family.name: family for family in (Binomial(), Poisson())}
SMOOTH_FAMILIES: dict[str, SmoothFamily] = {
    **FAMILIES,
    **{family.name: family for family in (Gaussian(), Gamma(), Beta())},
}


def family_of(name: str) -> Family:
    """Return the family of that name.

    Raises:
        StatisticsError: there is none.
    """
    if name not in FAMILIES:
        raise StatisticsError(f"unknown family {name!r}: choose {' or '.join(map(repr, FAMILIES))}")
    return FAMILIES[name]


def smooth_family_of(name: str) -> SmoothFamily:
    """Return the family of that name, for an additive model.

    Raises:
        StatisticsError: there is none.
    """
    if name not in SMOOTH_FAMILIES:
        raise StatisticsError(f"unknown family {name!r}: choose {', '.join(map(repr, SMOOTH_FAMILIES))}")
    return SMOOTH_FAMILIES[name]


SEPARATED = "some fitted means are 0 or 1 up to rounding, so estimates and standard errors may be without bound"


def separated(family: SmoothFamily, mu: Floats) -> bool:
    """Whether fitted means of a binomial are 0 or 1 up to rounding."""
    return family.name == "binomial" and bool(np.any(mu * (1 - mu) < 1e-9))
