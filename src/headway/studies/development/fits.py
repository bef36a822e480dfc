"""Fitted models as the study's JSON has them: R's names, numbers as numbers, coefficients as objects."""

from __future__ import annotations

from typing import Any

import polars as pl


def lmm_values(fit: Any, formula: str, method: str) -> dict[str, Any]:
    """A mixed model of `headway.stats.lmm`."""
    values: dict[str, Any] = {"formula": formula, "method": method}
    if method == "REML":
        values["criterion"] = fit.criterion
    values |= {"aic": fit.aic, "bic": fit.bic, "log_lik": fit.log_lik, "minus_two_log_lik": -2 * fit.log_lik}
    return values | {
        "df_resid": fit.df_resid,
        "n_obs": fit.n_obs,
        "groups": dict(fit.n_groups),
        "scaled_residuals": quantiles(fit.scaled_residuals),
        "random": {row["group"]: {"variance": row["variance"], "sd": row["sd"]} for row in fit.random.to_dicts()},
        "fixed": coefficients(fit.fixed),
        "correlation": _below_diagonal(fit.fixed["term"].to_list(), fit.correlation),
        "singular": bool(fit.singular),
        "converged": bool(fit.converged),
        "notices": list(fit.notices),
        "summary": str(fit.summary()),
    }


def coefficients(table: pl.DataFrame) -> dict[str, dict[str, float]]:
    """A coefficient table (term, estimate, std_error, [df,] t, p) as objects by term."""
    return {row.pop("term"): row for row in table.to_dicts()}


def quantiles(of: Any) -> dict[str, float]:
    return {name: getattr(of, name) for name in ("min", "q1", "median", "q3", "max")}


def _below_diagonal(terms: list[str], correlation: Any) -> dict[str, float]:
    """The correlations of the fixed effects as R prints them: `row~column`."""
    return {f"{terms[i]}~{terms[j]}": float(correlation[i, j]) for i in range(len(terms)) for j in range(i)}


def gam_values(fit: Any, formula: str) -> dict[str, Any]:
    """A GAM of `headway.stats.gam`."""
    intercept = coefficients(fit.parametric)["(Intercept)"]
    smooths = {
        row["term"]: {"edf": row["edf"], "ref_df": row["ref_df"], "F": row["f"], "p": row["p"]}
        for row in fit.smooths.to_dicts()
    }
    return {
        "formula": formula,
        "n": fit.n_obs,
        "intercept": intercept,
        "smooth": smooths,
        "r_sq_adj": fit.r_sq_adj,
        "deviance_explained": fit.deviance_explained,
        "gcv": fit.score,
        "scale": fit.scale,
        "summary": str(fit.summary()),
    }


def ols_values(fit: Any, formula: str) -> dict[str, Any]:
    """A least-squares fit of `headway.stats.ols`."""
    return {
        "formula": formula,
        "residuals": quantiles(fit.residual_quantiles),
        "coefficients": coefficients(fit.coefficients),
        "sigma": fit.sigma,
        "df_resid": fit.df_resid,
        "r_squared": fit.r_squared,
        "adj_r_squared": fit.adj_r_squared,
        "f": fit.f,
        "f_df": list(fit.f_df),
        "p": fit.p,
        "notices": list(fit.notices),
        "summary": str(fit.summary()),
    }
