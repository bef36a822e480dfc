"""The study's mixed models, with what one size or one seed leaves nothing to estimate taken out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import polars as pl

from headway.errors import StatisticsError
from headway.stats.distributions import t_quantile
from headway.studies.development.builder import ResultBuilder
from headway.studies.development.fits import coefficients, lmm_values, quantiles


@dataclass(frozen=True)
class MixedModel:
    """A formula of the study by its parts.

    Attributes:
        response: what is explained, as the formula has it.
        column: the column that it is made of.
        terms: fixed terms and the column that each is made of.
        groups: columns with a random intercept.
        method: REML or ML.
        crossed: whether the fixed terms interact (`*`) or add up (`+`).
    """

    response: str
    column: str
    terms: dict[str, str]
    groups: tuple[str, ...]
    method: Literal["REML", "ML"] = "REML"
    crossed: bool = False

    @property
    def formula(self) -> str:
        fixed = (" * " if self.crossed else " + ").join(self.terms)
        return " + ".join([f"{self.response} ~ {fixed}", *(f"(1 | {group})" for group in self.groups)])

    def reduced(self, frame: pl.DataFrame) -> MixedModel:
        """Without the terms that do not vary in `frame`, and without groups of one level or of one row each.

        Raises:
            StatisticsError: no fixed term varies.
        """
        terms = {term: column for term, column in self.terms.items() if frame[column].n_unique() > 1}
        if not terms:
            columns = " and ".join(self.terms.values())
            raise StatisticsError(f"{self.formula}: {columns} is the same in all {frame.height} rows")
        groups = tuple(group for group in self.groups if 1 < frame[group].n_unique() < frame.height)
        return replace(self, terms=terms, groups=groups)


def fit_mixed(
    draft: ResultBuilder, path: str, model: MixedModel, frame: pl.DataFrame, *, over_time: bool = False
) -> Any | None:
    """Fits `model` to the complete rows of `frame`, stores its numbers and diagnostics under `path`, and returns the fit.

    Where no group is left, least squares takes the mixed model's place, and `method` says so. With `over_time` the rows are
    steps of runs (columns `run` and `step`), and the residuals' autocorrelation is kept, too.
    """
    columns = list(dict.fromkeys([model.column, *model.terms.values(), *model.groups, *(_SERIES if over_time else ())]))
    complete = frame.select(columns).filter(pl.col(model.column).is_finite()).drop_nulls()

    def fit() -> tuple[Any, dict[str, Any]]:
        from headway import stats

        if not complete.height:
            raise StatisticsError(f"{model.formula}: no row has a finite {model.column}")
        smaller = model.reduced(complete)
        if smaller.groups:
            mixed = stats.lmm(smaller.formula, complete, method=smaller.method)
            return mixed, lmm_values(mixed, smaller.formula, smaller.method)
        plain = stats.ols(smaller.formula, complete)
        return plain, _least_squares_values(plain, smaller.formula, complete.height)

    outcome = draft.attempt(path, fit)
    if outcome is None:
        return None
    found, values = outcome
    if values["formula"] != model.formula:
        values["published_formula"] = model.formula
        draft.notes.append(
            f"{path}: fitted as {values['formula']} ({values['method']}), since the published formula, "
            f"{model.formula}, has terms that cannot be estimated from these runs."
        )
    draft.put(path, values)
    draft.diagnose(path, found, **{what: complete[name].to_numpy() for name, what in _SERIES.items() if over_time})
    return found


_SERIES = {"run": "series", "step": "order"}


def _least_squares_values(fit: Any, formula: str, n_obs: int) -> dict[str, Any]:
    fixed = {term: row | {"df": fit.df_resid} for term, row in coefficients(fit.coefficients).items()}
    return {
        "formula": formula,
        "method": "OLS",
        "df_resid": fit.df_resid,
        "n_obs": n_obs,
        "groups": {},
        "scaled_residuals": {
            name: q / fit.sigma if fit.sigma else None for name, q in quantiles(fit.residual_quantiles).items()
        },
        "random": {"Residual": {"variance": fit.sigma**2, "sd": fit.sigma}},
        "fixed": fixed,
        "correlation": {},
        "singular": False,
        "notices": list(fit.notices),
        "summary": str(fit.summary()),
    }


def fixed_line(fit: Any, df: float, x: np.ndarray) -> pl.DataFrame:
    """The line of a fit with an intercept and one slope at `x`, with its 95% t interval: fit, lower, upper."""
    rows = np.stack([np.ones_like(x), x], axis=1)
    line = rows @ fit.beta
    half = t_quantile(0.975, df) * np.sqrt(np.einsum("np,pq,nq->n", rows, fit.vcov, rows))
    return pl.DataFrame({"fit": line, "lower": line - half, "upper": line + half})
