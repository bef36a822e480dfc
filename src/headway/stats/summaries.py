"""Parts of `summary()` texts, in the layout of R's summaries, which readers know. They take numbers and tables, not fits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from headway.stats.quantiles import Quantiles
from headway.stats.r_format import abbreviate, coefficient_table, signif, table

_QUANTILE_HEADS = ("Min", "1Q", "Median", "3Q", "Max")


def criterion_lines(aic: float, bic: float, log_lik: float, df_resid: int) -> list[str]:
    """Format the criteria of a fit by maximum likelihood."""
    values = [f"{value:.1f}" for value in (aic, bic, log_lik, -2 * log_lik)] + [str(df_resid)]
    return columns(("AIC", "BIC", "logLik", "-2*log(L)", "df.resid"), values, 8)


def group_line(n_obs: int, n_groups: dict[str, int]) -> str:
    """Format the numbers of rows and of levels."""
    return f"Number of obs: {n_obs}, groups:  " + "; ".join(f"{name}, {n}" for name, n in n_groups.items())


def coefficient_lines(tests: pl.DataFrame, statistic: str) -> list[str]:
    """Format a table of coefficients: term, estimate, std_error, maybe df, the statistic `t` or `z`, and p."""
    heads = {"Estimate": "estimate", "Std. Error": "std_error"} | ({"df": "df"} if "df" in tests.columns else {})
    return coefficient_table(
        tests["term"].to_list(),
        [(head, tests[column].to_list()) for head, column in heads.items()],
        (f"{statistic} value", tests[statistic].to_list()),
        (f"Pr(>|{statistic}|)", tests["p"].to_list()),
    )


def quantile_lines(of: Quantiles, decimals: int | None = None) -> list[str]:
    """Format the quantiles of residuals."""
    values = list(of) if decimals is None else [round(value, decimals) for value in of]
    return columns(_QUANTILE_HEADS, signif(values, 4), 7)


def columns(heads: tuple[str, ...], values: list[str], least: int) -> list[str]:
    """Format a row of values under heads, each at least `least` wide."""
    widths = [max(least, len(head), *map(len, values)) for head in heads]
    return [" ".join(text.rjust(w) for text, w in zip(row, widths, strict=True)) for row in (heads, values)]


def random_lines(random: pl.DataFrame, correlations: pl.DataFrame, n_effects: Sequence[int]) -> list[str]:
    """Format the variances of random effects.

    Args:
        random: group, term, variance, sd.
        correlations: their correlations, in the order of terms.
        n_effects: number of effects of each term.
    """
    groups = random["group"].to_list()
    shown = [group if group not in groups[:row] else "" for row, group in enumerate(groups)]
    columns = [
        ("Name", [term or "" for term in random["term"]]),
        ("Variance", signif(random["variance"].to_list(), 4)),
        ("Std.Dev.", signif(random["sd"].to_list(), 4)),
    ]
    if correlations.height:
        values = iter(correlations["correlation"])  # by order, because two effects may share a name
        cells = [
            " ".join(f"{next(values):5.2f}" for _ in range(effect)) for number in n_effects for effect in range(number)
        ]
        cells += [""] * (len(groups) - len(cells))  # the residual has none
        width = max(map(len, [*cells, "Corr"]))
        columns.append(("Corr".ljust(width), [cell.ljust(width) for cell in cells]))
    return [" " + line for line in table(shown, columns, left=2, corner="Groups")]


def correlation_lines(names: list[str], correlation: np.ndarray) -> list[str]:
    """Format the correlations of fixed effects (p, p)."""
    columns = [
        (abbreviate(name, 6), ["" if row <= column else f"{correlation[row, column]:.3f}" for row in range(len(names))])
        for column, name in enumerate(names[:-1])
    ]
    head, _, *rows = table([abbreviate(name, 11) for name in names], columns)
    return [head, *rows]
