"""Influence of each level of a group on the fixed effects of a mixed model, by leaving it out."""

from __future__ import annotations

import numpy as np
import polars as pl

from headway.errors import StatisticsError
from headway.stats.lmm import MixedModel, fit_frame


def influence(fit: MixedModel, group: str) -> pl.DataFrame:
    """level, n_rows, cook_d, and each fixed effect without that level.

    Cook's distance is (β̂ - β̂₋ⱼ)' V⁻¹ (β̂ - β̂₋ⱼ) / p, where V is the covariance of all p fixed effects of the full fit (Cook
    1977; for groups, Demidenko & Stukel 2005). A level without which the model cannot be fitted has null.

    Raises:
        StatisticsError: `group` is no group of the random terms.
    """
    groups = {term.bar.group_name: term.group for term in fit.terms}
    if group not in groups:
        raise StatisticsError(f"{group!r} is no group of {fit.formula!r}: its random terms have {', '.join(groups)}")
    codes, rows = groups[group].codes, []
    for level, name in enumerate(groups[group].levels):
        try:
            without = fit_frame(fit.frame.subset(np.flatnonzero(codes != level)), fit.method)
            beta = without.beta if without.x.names == fit.x.names else None
        except StatisticsError:
            beta = None
        change = None if beta is None else fit.beta - beta
        distance = None if change is None else float(change @ np.linalg.solve(fit.vcov, change)) / len(change)
        effects = dict(zip(fit.x.names, [None] * len(fit.beta) if beta is None else beta.tolist(), strict=True))
        rows.append({"level": name, "n_rows": int(np.sum(codes == level)), "cook_d": distance, **effects})
    schema = {"level": pl.String, "n_rows": pl.Int64, "cook_d": pl.Float64, **dict.fromkeys(fit.x.names, pl.Float64)}
    return pl.DataFrame(rows, schema=schema)
