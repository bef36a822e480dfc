"""Text of a GAM's `summary()`, in mgcv's layout."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headway.stats.r_format import coefficient_table, signif

if TYPE_CHECKING:
    from headway.stats.gam import AdditiveModel


def gam_summary(fit: AdditiveModel) -> str:
    """Format the summary of a GAM as mgcv does."""
    lines = ["Family: gaussian", "Link function: identity", "", "Formula:", fit.formula, ""]
    parametric, smooths = fit.parametric, fit.smooths
    if parametric.height:
        lines += ["Parametric coefficients:"]
        lines += coefficient_table(
            parametric["term"].to_list(),
            [("Estimate", parametric["estimate"].to_list()), ("Std. Error", parametric["std_error"].to_list())],
            ("t value", parametric["t"].to_list()),
            ("Pr(>|t|)", parametric["p"].to_list()),
        )
        lines += [""]
    if smooths.height:
        lines += ["Approximate significance of smooth terms:"]
        lines += coefficient_table(
            smooths["term"].to_list(),
            [("edf", smooths["edf"].to_list()), ("Ref.df", smooths["ref_df"].to_list())],
            ("F", smooths["f"].to_list()),
            ("p-value", smooths["p"].to_list()),
        )
        lines += [""]
    name = {"GCV.Cp": "GCV", "REML": "-REML"}[fit.method]
    lines += [
        f"R-sq.(adj) = {_g(fit.r_sq_adj, 3)}   Deviance explained = {_g(100 * fit.deviance_explained, 3)}%",
        f"{name} = {_g(fit.score, 5)}  Scale est. = {_g(fit.scale, 5)}  n = {fit.n_obs}",
    ]
    return "\n".join([*lines, *fit.notices])


def _g(value: float, digits: int) -> str:
    return signif([value], digits)[0]
