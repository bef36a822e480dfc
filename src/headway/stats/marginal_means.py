"""Estimated marginal means and their contrasts (Searle, Speed & Milliken 1980, Am. Stat. 34, 216-221), as in R's emmeans.

A marginal mean is the prediction for a level of a factor, averaged with equal weights over the levels of the other factors,
with numbers at their means. It is a linear combination l'β, and so is a difference of two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from headway.errors import StatisticsError
from headway.stats.columns import Factor, Table
from headway.stats.corrections import holm
from headway.stats.distributions import t_p, t_quantile
from headway.stats.functions import names_in
from headway.stats.model_frame import design

if TYPE_CHECKING:
    from headway.stats.lmm import MixedModel
    from headway.stats.ols import LinearModel

Floats = np.ndarray
ADJUSTMENTS = ("tukey", "holm", "bonferroni", "none")


@dataclass(frozen=True)
class MarginalMeans:
    """Marginal means of the levels of some factors.

    Attributes:
        of: names of the factors.
        levels: (means) the levels of each mean, one for each factor.
        combinations: (means, p) l of each mean l'β.
        table: a column for each factor, then mean, std_error, df, lower, upper.
    """

    of: tuple[str, ...]
    levels: tuple[tuple[str, ...], ...]
    combinations: Floats
    table: pl.DataFrame
    _fit: LinearModel | MixedModel
    _df: str

    def contrasts(self, adjust: str = "tukey") -> pl.DataFrame:
        """contrast, estimate, std_error, df, t, p: differences between every two means, the first minus the second.

        Args:
            adjust: correction of p for the number of contrasts: "tukey" (studentized range), "holm", "bonferroni" or "none".

        Raises:
            StatisticsError: the adjustment is unknown, or there is a single mean.
        """
        if adjust not in ADJUSTMENTS:
            raise StatisticsError(f"unknown adjustment {adjust!r}: choose one of {', '.join(ADJUSTMENTS)}")
        if len(self.levels) < 2:
            raise StatisticsError(f"{' and '.join(self.of)} has a single level: there is nothing to compare")
        pairs = list(combinations(range(len(self.levels)), 2))
        names = [" - ".join(":".join(self.levels[place]) for place in pair) for pair in pairs]
        rows = np.array([self.combinations[a] - self.combinations[b] for a, b in pairs])
        estimate, std_error, df = _tested(self._fit, rows, self._df)
        t = estimate / std_error
        p = adjusted(t_p(t, df), adjust, t=t, df=df, n_means=len(self.levels))
        columns = {"estimate": estimate, "std_error": std_error, "df": df, "t": t, "p": p}
        return pl.DataFrame({"contrast": names, **columns})


def marginal_means(
    fit: LinearModel | MixedModel,
    of: str | Sequence[str],
    *,
    at: Mapping[str, float] | None = None,
    level: float = 0.95,
    df: str = "satterthwaite",
) -> MarginalMeans:
    """Return the marginal means of a factor, or of every combination of several.

    Args:
        fit: a linear or mixed model.
        of: factors of the model's fixed effects.
        at: values of numeric columns. The others are at their means over the complete rows.
        level: coverage of the intervals.
        df: degrees of freedom of a mixed model, "satterthwaite" or "kenward-roger".

    Raises:
        StatisticsError: a name is no factor of the model, or the level is not between 0 and 1.
    """
    if not 0 < level < 1:
        raise StatisticsError(f"the level of an interval must be between 0 and 1, such as 0.95; it is {level}")
    if fit.dropped:
        raise StatisticsError(
            f"marginal means are not defined because columns were left out ({', '.join(fit.dropped)}): "
            "leave the term out of the formula"
        )
    if fit.frame.formula.offsets:
        raise StatisticsError(
            "marginal means of a model with an offset are not supported: add the offset as a term, or predict"
        )
    of = (of,) if isinstance(of, str) else tuple(of)
    factors = _factors(fit)
    for name in of:
        if name not in factors:
            known = ", ".join(factors) or "no factor"
            raise StatisticsError(f"{name!r} is no factor of {fit.formula!r}: its fixed effects have {known}")
    grid, rows = _grid(fit, factors, dict(at or {}))
    levels = tuple(product(*(factors[name].levels for name in of)))
    places = [np.all([grid[name] == value for name, value in zip(of, cell, strict=True)], axis=0) for cell in levels]
    means = np.array([rows[place].mean(axis=0) for place in places])
    estimate, std_error, free = _tested(fit, means, df)
    margin = t_quantile((1 + level) / 2, free) * std_error
    table = pl.DataFrame(
        {
            **{name: [cell[number] for cell in levels] for number, name in enumerate(of)},
            "mean": estimate,
            "std_error": std_error,
            "df": free,
            "lower": estimate - margin,
            "upper": estimate + margin,
        }
    )
    return MarginalMeans(of, levels, means, table, fit, df)


def adjusted(p: Floats, how: str, *, t: Floats | None = None, df: Floats | None = None, n_means: int = 0) -> Floats:
    """Correct p values (m,) for being m: "holm", "bonferroni", "none", or "tukey" by the studentized range of `n_means`."""
    if how == "bonferroni":
        return np.minimum(p * len(p), 1)
    if how == "holm":
        return holm(p)
    if how == "tukey":
        from scipy.stats import studentized_range

        assert t is not None
        return np.asarray(studentized_range.sf(np.sqrt(2) * np.abs(t), n_means, df))
    return p


def _factors(fit: LinearModel | MixedModel) -> dict[str, Factor]:
    """Factors among the variables of the fixed effects, by name."""
    variables = dict.fromkeys(variable for term in fit.frame.formula.terms for variable in term)
    values = ((name, fit.frame.values[name]) for name in variables)
    return {name: value for name, value in values if isinstance(value, Factor)}


def _grid(
    fit: LinearModel | MixedModel, factors: Mapping[str, Factor], at: Mapping[str, float]
) -> tuple[dict[str, Floats], Floats]:
    """Every combination of the factors' levels, and its row l of the design (cells, p)."""
    frame, formula = fit.frame, fit.frame.formula
    sizes = [len(factor.levels) for factor in factors.values()]
    cells = np.array(list(product(*map(range, sizes))), dtype=int).reshape(-1, len(sizes))
    values: dict[str, Any] = {
        name: factor._replace(codes=codes) for (name, factor), codes in zip(factors.items(), cells.T, strict=True)
    }
    numeric = list(dict.fromkeys(v for term in formula.terms for v in term if v not in factors))
    columns = {name.name for variable in numeric for name in names_in(formula.nodes[variable])} & frame.means.keys()
    for name in at:
        if name not in columns:
            known = ", ".join(sorted(columns)) or "none"
            raise StatisticsError(
                f"at gives a value of {name!r}, which is no numeric column of the fixed effects: {known}"
            )
    chosen = Table({name: [float(at.get(name, frame.means[name]))] for name in columns} or {"none": [0.0]})
    constants = frame.of_new(chosen, numeric)
    values |= {name: np.repeat(np.asarray(value), len(cells), axis=0) for name, value in constants.items()}
    rows = design(values, formula.intercept, formula.terms, len(cells)).keep(fit.x.places).matrix
    names = {
        name: np.array(f.levels, dtype=object)[codes] for (name, f), codes in zip(factors.items(), cells.T, strict=True)
    }
    return names, rows


def _tested(fit: LinearModel | MixedModel, rows: Floats, df: str) -> tuple[Floats, Floats, Floats]:
    """Estimate, standard error and degrees of freedom of each combination l (r, p)."""
    by = fit.inference(df)
    std_error = np.sqrt(np.einsum("ri,ij,rj->r", rows, by.vcov, rows))
    return rows @ fit.beta, std_error, by.df(rows)
