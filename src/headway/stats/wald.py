"""Normal tests and intervals of a fit by maximum likelihood (Wald)."""

from __future__ import annotations

from abc import abstractmethod
from functools import cached_property

import numpy as np
import polars as pl

from headway.errors import StatisticsError
from headway.stats.distributions import normal_p, normal_quantile
from headway.stats.model_frame import Design
from headway.stats.shown import Reported


class WaldTested(Reported):
    """A fit with coefficients `beta` (p,) and their covariance `vcov` (p, p), whose tests take them as normal."""

    x: Design

    @property
    @abstractmethod
    def beta(self) -> np.ndarray:
        """The coefficients: (p,)."""

    @property
    @abstractmethod
    def vcov(self) -> np.ndarray:
        """Their covariance: (p, p)."""

    @cached_property
    def coefficients(self) -> pl.DataFrame:
        """term, estimate, std_error, z, p."""
        std_error = np.sqrt(np.diag(self.vcov))
        z = self.beta / std_error
        columns = {"estimate": self.beta, "std_error": std_error, "z": z, "p": normal_p(z)}
        return pl.DataFrame({"term": list(self.x.names), **columns}, schema_overrides={"term": pl.String})

    def coefficient_tests(self) -> pl.DataFrame:
        """term, estimate, std_error, df, t, p, with infinite df: t is z."""
        infinite = pl.lit(float("inf")).alias("df")
        return self.coefficients.select("term", "estimate", "std_error", infinite, pl.col("z").alias("t"), "p")

    def confint(self, level: float = 0.95) -> pl.DataFrame:
        """term, lower, upper: normal intervals of the coefficients.

        Raises:
            StatisticsError: the level is not between 0 and 1.
        """
        if not 0 < level < 1:
            raise StatisticsError(f"the level of an interval must be between 0 and 1, such as 0.95; it is {level}")
        margin = normal_quantile((1 + level) / 2) * self.coefficients["std_error"].to_numpy()
        return pl.DataFrame(
            {"term": self.coefficients["term"], "lower": self.beta - margin, "upper": self.beta + margin}
        )
