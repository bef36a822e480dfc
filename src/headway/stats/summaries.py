"""Text of `summary()`, in the layout of R's summaries, which readers know."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from headway.stats.quantiles import Quantiles, quantiles
from headway.stats.r_format import abbreviate, coefficient_table, p_values, signif, table

if TYPE_CHECKING:
    from headway.stats.correlation import CorrelationTest
    from headway.stats.glmm import GeneralisedMixedModel
    from headway.stats.lmm import MixedModel
    from headway.stats.ols import LinearModel

_QUANTILE_HEADS = ("Min", "1Q", "Median", "3Q", "Max")


def lmm_summary(fit: MixedModel) -> str:
    """Format the summary of a mixed model as lmerTest does."""
    by = "REML" if fit.method == "REML" else "maximum likelihood"
    lines = [
        f"Linear mixed model fit by {by}. t-tests use Satterthwaite's method",
        f"Formula: {fit.formula}",
        "",
        *_criterion_lines(fit),
        "",
        "Scaled residuals:",
        *_quantile_lines(fit.scaled_residuals),
        "",
        "Random effects:",
        *_random_lines(fit),
        f"Number of obs: {fit.n_obs}, groups:  " + "; ".join(f"{name}, {n}" for name, n in fit.n_groups.items()),
        "",
    ]
    fixed = fit.fixed
    if fixed.height:
        heads = {"Estimate": "estimate", "Std. Error": "std_error", "df": "df"}
        lines += ["Fixed effects:"]
        lines += coefficient_table(
            fixed["term"].to_list(),
            [(head, fixed[column].to_list()) for head, column in heads.items()],
            ("t value", fixed["t"].to_list()),
            ("Pr(>|t|)", fixed["p"].to_list()),
        )
    if fixed.height > 1:
        lines += ["", "Correlation of Fixed Effects:", *_correlation_lines(fixed["term"].to_list(), fit.correlation)]
    return "\n".join([*lines, *fit.notices])


def glmm_summary(fit: GeneralisedMixedModel) -> str:
    """Format the summary of a generalised mixed model as lme4 does."""
    values = [f"{value:.1f}" for value in (fit.aic, fit.bic, fit.log_lik, -2 * fit.log_lik)] + [str(fit.df_resid)]
    lines = [
        "Generalized linear mixed model fit by maximum likelihood (Laplace Approximation)",
        f" Family: {fit.family.name}  ( {fit.family.link} )",
        f"Formula: {fit.formula}",
        "",
        *_columns(("AIC", "BIC", "logLik", "-2*log(L)", "df.resid"), values, 8),
        "",
        "Scaled residuals:",
        *_quantile_lines(quantiles(fit.residuals)),
        "",
        "Random effects:",
        *_random_lines(fit),
        f"Number of obs: {fit.n_obs}, groups:  " + "; ".join(f"{name}, {n}" for name, n in fit.n_groups.items()),
        "",
        "Fixed effects:",
        *coefficient_table(
            fit.fixed["term"].to_list(),
            [("Estimate", fit.fixed["estimate"].to_list()), ("Std. Error", fit.fixed["std_error"].to_list())],
            ("z value", fit.fixed["z"].to_list()),
            ("Pr(>|z|)", fit.fixed["p"].to_list()),
        ),
    ]
    return "\n".join([*lines, *fit.notices])


def _criterion_lines(fit: MixedModel) -> list[str]:
    if fit.method == "REML":
        return [f"REML criterion at convergence: {fit.criterion:.1f}"]
    values = [f"{value:.1f}" for value in (fit.aic, fit.bic, fit.log_lik, fit.criterion)] + [str(fit.df_resid)]
    heads = ("AIC", "BIC", "logLik", "-2*log(L)", "df.resid")
    return _columns(heads, values, 8)


def _quantile_lines(of: Quantiles, decimals: int | None = None) -> list[str]:
    values = list(of) if decimals is None else [round(value, decimals) for value in of]
    return _columns(_QUANTILE_HEADS, signif(values, 4), 7)


def _columns(heads: tuple[str, ...], values: list[str], least: int) -> list[str]:
    widths = [max(least, len(head), *map(len, values)) for head in heads]
    return [" ".join(text.rjust(w) for text, w in zip(row, widths, strict=True)) for row in (heads, values)]


def _random_lines(fit: MixedModel | GeneralisedMixedModel) -> list[str]:
    random = fit.random
    groups = random["group"].to_list()
    shown = [group if group not in groups[:row] else "" for row, group in enumerate(groups)]
    columns = [
        ("Name", [term or "" for term in random["term"]]),
        ("Variance", signif(random["variance"].to_list(), 4)),
        ("Std.Dev.", signif(random["sd"].to_list(), 4)),
    ]
    if fit.random_correlations.height:
        correlations = iter(fit.random_correlations["correlation"])  # by order, because two effects may share a name
        cells = [
            " ".join(f"{next(correlations):5.2f}" for _ in range(effect))
            for term in fit.terms
            for effect in range(term.n_effects)
        ]
        cells += [""] * (len(groups) - len(cells))  # the residual has none
        width = max(map(len, [*cells, "Corr"]))
        columns.append(("Corr".ljust(width), [cell.ljust(width) for cell in cells]))
    return [" " + line for line in table(shown, columns, left=2, corner="Groups")]


def _correlation_lines(names: list[str], correlation: np.ndarray) -> list[str]:
    columns = [
        (abbreviate(name, 6), ["" if row <= column else f"{correlation[row, column]:.3f}" for row in range(len(names))])
        for column, name in enumerate(names[:-1])
    ]
    head, _, *rows = table([abbreviate(name, 11) for name in names], columns)
    return [head, *rows]


def ols_summary(fit: LinearModel) -> str:
    """Format the summary of a linear model as R's summary.lm does."""
    largest = max(abs(value) for value in fit.residual_quantiles)
    decimals = max(0, 5 - int(np.ceil(np.log10(largest)))) if largest > 0 else 5
    coefficients = fit.coefficients
    lines = [
        f"Formula: {fit.formula}",
        "",
        "Residuals:",
        *_quantile_lines(fit.residual_quantiles, decimals),
        "",
        "Coefficients:",
        *coefficient_table(
            coefficients["term"].to_list(),
            [("Estimate", coefficients["estimate"].to_list()), ("Std. Error", coefficients["std_error"].to_list())],
            ("t value", coefficients["t"].to_list()),
            ("Pr(>|t|)", coefficients["p"].to_list()),
        ),
        "",
        f"Residual standard error: {_g(fit.sigma)} on {fit.df_resid} degrees of freedom",
    ]
    if fit.f_df[0]:
        p = p_values([fit.p], 4)[0]
        lines += [
            f"Multiple R-squared:  {_g(fit.r_squared)},\tAdjusted R-squared:  {_g(fit.adj_r_squared)}",
            f"F-statistic: {_g(fit.f)} on {fit.f_df[0]} and {fit.f_df[1]} DF,  p-value: {p}",
        ]
    return "\n".join([*lines, *fit.notices])


def _g(value: float) -> str:
    return signif([value], 4)[0]


def correlation_summary(test: CorrelationTest) -> str:
    """Format the test as R's cor.test does."""
    p = p_values([test.p], 4)[0]
    lines = [
        "Pearson's product-moment correlation",
        "",
        f"t = {signif([test.t], 5)[0]}, df = {test.df}, p-value {p if p.startswith('<') else '= ' + p}",
        "alternative hypothesis: true correlation is not equal to 0",
        f"{100 * test.level:g} percent confidence interval:",
        " " + " ".join(signif([test.lower, test.upper], 7)),
        "sample estimate:",
        f" cor {signif([test.r], 7)[0]}",
    ]
    if test.n_dropped:
        lines.append(f"{test.n_dropped} pairs dropped for a missing value")
    return "\n".join(lines)
