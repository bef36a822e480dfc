"""Compares headway's fits with what R said of them, quantity by quantity."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import polars as pl

from headway.stats.lmm import MixedModel
from headway.stats.ols import LinearModel


def frame(columns: dict[str, list[Any]]) -> pl.DataFrame:
    """A table that R wrote as JSON."""
    return pl.DataFrame(columns, strict=False)


def relative(ours: Any, theirs: Any, scale: float | None = None) -> float:
    """The largest difference, as a share of `scale` or else of the value itself."""
    a, b = (np.atleast_1d(np.asarray(v, dtype=float)) for v in (ours, theirs))
    assert a.shape == b.shape, f"shapes {a.shape} and {b.shape}"
    nan = np.isnan(a) & np.isnan(b)
    difference = np.where(nan | (a == b), 0.0, np.abs(a - b))
    size = np.where(nan, 1.0, np.abs(b)) if scale is None else np.full(b.shape, scale)
    return float(np.max(difference / np.where(size == 0, 1.0, size), initial=0.0))


def lmm_differences(fit: MixedModel, r: dict[str, Any], table: pl.DataFrame) -> dict[str, float]:
    """How far each quantity of a mixed model is from R's."""
    fixed, random = r["fixed"], r["random"]
    terms = np.atleast_1d(fixed["term"]).tolist()
    assert fit.fixed["term"].to_list() == terms
    assert list(fit.n_groups.items()) == list(r["n_groups"].items())
    assert fit.random["group"].to_list() == np.atleast_1d(random["group"]).tolist()
    assert fit.random["term"].to_list() == np.atleast_1d(random["term"]).tolist()
    assert (fit.df_resid, fit.n_obs, fit.singular) == (r["df_resid"], r["n_obs"], r["singular"])
    assert fit.converged
    sd_beta = np.atleast_1d(fixed["std_error"]).astype(float)
    out = {
        # a criterion is a logarithm: what matters is its absolute error
        "criterion": relative(fit.criterion, r["criterion"], 1.0),
        "log_lik": relative(fit.log_lik, r["log_lik"], 1.0),
        "aic, bic": max(relative(fit.aic, r["aic"], 1.0), relative(fit.bic, r["bic"], 1.0)),
        "sigma": relative(fit.sigma, r["sigma"]),
        # an estimate near 0 has no relative error of its own: in units of its standard error
        "estimate": relative((fit.fixed["estimate"].to_numpy() - fixed["estimate"]) / sd_beta, 0 * sd_beta, 1.0),
        "std_error": relative(fit.fixed["std_error"], fixed["std_error"]),
        "df": relative(fit.fixed["df"], fixed["df"]),
        "t": _t_difference(fit.fixed["t"], fixed["t"]),
        "p": _p_difference(fit.fixed["p"], fixed["p"]),
        "vcov": relative(fit.vcov / np.outer(sd_beta, sd_beta), np.array(r["vcov"]) / np.outer(sd_beta, sd_beta), 1.0),
        # a standard deviation that is 0 in one program is 1e-5 in the other: in units of the residual's
        "random sd": relative(fit.random["sd"], random["sd"], r["sigma"]),
        "scaled residuals": relative(list(fit.scaled_residuals), r["scaled_residuals"], 1.0),
        "fitted": relative(fit.fitted[:20], r["fitted"], r["sigma"]),
        "ranef": _ranef_difference(fit, r, "value"),
        "ranef sd": _ranef_difference(fit, r, "sd"),
        "wald interval": _interval_difference(fit.confint(method="wald"), r["wald"], sd_beta),
    }
    correlations = dict(r["random_correlations"])
    if correlations["group"]:
        assert fit.random_correlations["group"].to_list() == correlations["group"]
        assert fit.random_correlations["term_2"].to_list() == correlations["term_2"]
        theirs = np.array(correlations["correlation"], dtype=float)
        out["random correlation"] = relative(fit.random_correlations["correlation"], theirs, 1.0)
    rows = table[[row - 1 for row in r["rows"]]]
    whole = [row for row in range(len(rows)) if r["predicted"][row] is not None]
    for key, random_too in (("predicted", True), ("population", False)):
        theirs = np.array([r[key][row] for row in whole], dtype=float)
        out["predict"] = max(
            out.get("predict", 0.0), relative(fit.predict(rows[whole], random=random_too), theirs, r["sigma"])
        )
    if r.get("anova"):
        ours, theirs = fit.anova(), r["anova"]
        out["anova F"] = relative(ours["f"], theirs["f"])
        out["anova df"] = relative(ours["den_df"], theirs["den_df"])
        out["anova sum_sq"] = relative(ours["sum_sq"], theirs["sum_sq"])
        assert ours["num_df"].to_list() == np.atleast_1d(theirs["num_df"]).tolist()
        assert ours["term"].to_list() == np.atleast_1d(theirs["term"]).tolist()
    return out


def _t_difference(ours: pl.Series, theirs: Any) -> float:
    """Relative, or absolute where |t| < 1: a t near 0 has no relative error of its own."""
    t = np.atleast_1d(theirs).astype(float)
    return relative((ours.to_numpy() - t) / np.maximum(np.abs(t), 1), 0 * t, 1.0)


def _p_difference(ours: Any, theirs: Any) -> float:
    """Of log p, relative where p < 1/e: a tiny p is as good as its t. Those below 1e-300 are not compared."""
    pairs = zip(np.atleast_1d(ours).tolist(), np.atleast_1d(theirs).tolist(), strict=True)
    logs = [(math.log(a), math.log(b)) for a, b in pairs if b > 1e-300]
    return max((abs(a - b) / max(abs(b), 1) for a, b in logs), default=0.0)


def _ranef_difference(fit: MixedModel, r: dict[str, Any], column: str) -> float:
    """In units of the residual's standard deviation, divided by what the effect multiplies."""
    theirs = {
        (group, level, term): value
        for group, level, term, value in zip(*(r["ranef"][k] for k in ("group", "level", "term", column)), strict=True)
    }
    size = {
        (term.bar.group_name, effect): s
        for term in fit.terms
        for effect, s in zip(term.effects, term.scale, strict=True)
    }
    ours = fit.ranef.with_columns(group=pl.col("group").str.replace(r"\.\d+$", ""))
    assert ours.height == len(theirs)
    return max(
        abs(row[column] - theirs[row["group"], row["level"], row["term"]])
        * size[row["group"], row["term"]]
        / r["sigma"]
        for row in ours.iter_rows(named=True)
    )


def _interval_difference(ours: pl.DataFrame, theirs: dict[str, Any], sd: np.ndarray) -> float:
    pairs = ((ours[side].to_numpy() - np.array(theirs[side])) / sd for side in ("lower", "upper"))
    return max(float(np.abs(pair).max()) for pair in pairs)


def ols_differences(fit: LinearModel, r: dict[str, Any], table: pl.DataFrame) -> dict[str, float]:
    """How far each quantity of a linear model is from R's."""
    coefficients = r["coefficients"]
    assert fit.coefficients["term"].to_list() == np.atleast_1d(coefficients["term"]).tolist()
    assert fit.df_resid == r["df_resid"]
    sd = np.atleast_1d(coefficients["std_error"]).astype(float)
    out = {
        "estimate": relative((fit.beta - coefficients["estimate"]) / sd, 0 * sd, 1.0),
        "std_error": relative(fit.coefficients["std_error"], sd),
        "t": _t_difference(fit.coefficients["t"], coefficients["t"]),
        "p": _p_difference(fit.coefficients["p"], coefficients["p"]),
        "sigma": relative(fit.sigma, r["sigma"]),
        "r_squared": relative([fit.r_squared, fit.adj_r_squared], [r["r_squared"], r["adj_r_squared"]], 1.0),
        "residuals": relative(list(fit.residual_quantiles), r["residuals"], r["sigma"]),
        "log_lik, aic, bic": relative([fit.log_lik, fit.aic, fit.bic], [r["log_lik"], r["aic"], r["bic"]]),
        "vcov": relative(fit.vcov / np.outer(sd, sd), np.array(r["vcov"]) / np.outer(sd, sd), 1.0),
        "interval": _interval_difference(fit.confint(), r, sd),
    }
    if r["f"]:
        assert list(fit.f_df) == [int(df) for df in r["f_df"]]
        out["f"] = relative(fit.f, r["f"])
        out["f p"] = _p_difference(fit.p, r["p"])
    rows = table[[row - 1 for row in r["rows"]]]
    theirs = np.array(r["predicted"], dtype=float)
    out["predict"] = relative(fit.predict(rows), theirs, r["sigma"])
    return out
