"""What a fit's residuals look like: against normal quantiles, against fitted values, from step to step; and random effects."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from headway.errors import StatisticsError

Array = NDArray[np.float64]

QUANTILES, BY_FITTED, AUTOCORRELATION = "normal quantiles of residuals", "residuals by fitted value", "autocorrelation"
EFFECTS = "normal quantiles of effects"
_SCHEMA = {"panel": pl.String(), **dict.fromkeys(("x", "y", "reference", "lower", "upper"), pl.Float64())}
_LAGS = 10
_LEVEL = 0.95


class Fitted(Protocol):
    """A fit with fitted values and residuals; `ranef` where it has random effects."""

    @property
    def fitted(self) -> Array: ...
    @property
    def residuals(self) -> Array: ...


def diagnostics(
    fit: Fitted, *, series: ArrayLike | None = None, order: ArrayLike | None = None, most: int = 400
) -> pl.DataFrame:
    """Return what diagnostic plots draw, one row per point: panel, x, y, reference, lower, upper.

    Panels: QQ plots of the standardised residuals and of each group's random effects, x the normal quantile, `reference` the
    line y = x, `lower` and `upper` the pointwise 95% of a normal sample (order statistics are beta-distributed); residuals
    by fitted value, standardised, reference 0; and, with `series` and `order`, the autocorrelation at lags 1 to 10, limits
    ±1.96 / √pairs.

    Args:
        fit: of `lmm`, `ols`, `gam` or `glmm`.
        series: (n,) the series of each row that was fitted, such as its run.
        order: (n,) its place within the series, such as its step. Both are needed for autocorrelation.
        most: points kept in a panel, evenly spaced in x.

    Raises:
        StatisticsError: `series` or `order` does not have a value for each row that was fitted.
    """
    residuals = np.asarray(fit.residuals, dtype=float)
    spread = residuals.std()
    scaled = residuals / spread if spread > 0 else residuals
    parts = [_quantiles(QUANTILES, scaled), _frame(BY_FITTED, np.asarray(fit.fitted, dtype=float), scaled)]
    if series is not None and order is not None:
        parts.append(_autocorrelations(residuals, np.asarray(series), np.asarray(order)))
    for name, effects in _effects(fit).items():
        sd = effects.std()
        parts.append(_quantiles(f"{EFFECTS}: {name}", effects / sd if sd > 0 else effects))
    return pl.concat([_thinned(part.sort("x"), most) for part in parts if len(part)])


def normal_quantiles(n: int) -> tuple[Array, Array, Array]:
    """Expected normal quantiles of n sorted values, as R's `qqnorm` places them, and their pointwise 95% range."""
    from scipy.special import betaincinv, ndtri

    rank = np.arange(1, n + 1)
    offset = 3 / 8 if n <= 10 else 1 / 2
    tail = (1 - _LEVEL) / 2
    low, high = (betaincinv(rank, n + 1 - rank, p) for p in (tail, 1 - tail))
    return ndtri((rank - offset) / (n + 1 - 2 * offset)), ndtri(low), ndtri(high)


def autocorrelation(
    values: Array, series: NDArray[Any], order: NDArray[Any], lags: int = _LAGS
) -> tuple[Array, NDArray[np.intp]]:
    """Autocorrelation of values within series at lags 1 to `lags`, and the number of pairs of each lag.

    As R's `acf`: sum of (x_t - m)(x_{t+k} - m) over all series / sum of (x_t - m)², m the mean of all values. Lags without
    a pair are left out.
    """
    centred = values - values.mean()
    total = float(centred @ centred)
    parts = [centred[series == name][np.argsort(order[series == name], kind="stable")] for name in np.unique(series)]
    sums, pairs = [], []
    for lag in range(1, lags + 1):
        products = [float(part[:-lag] @ part[lag:]) for part in parts if len(part) > lag]
        if products:
            sums.append(sum(products) / total if total > 0 else np.nan)
            pairs.append(sum(len(part) - lag for part in parts if len(part) > lag))
    return np.array(sums, dtype=float), np.array(pairs, dtype=np.intp)


def _quantiles(panel: str, values: Array) -> pl.DataFrame:
    x, low, high = normal_quantiles(len(values))
    return _frame(panel, x, np.sort(values), x, low, high)


def _autocorrelations(residuals: Array, series: NDArray[Any], order: NDArray[Any]) -> pl.DataFrame:
    if not len(series) == len(order) == len(residuals):
        raise StatisticsError(
            f"diagnostics needs a series and a place for each of the {len(residuals)} rows that were fitted; "
            f"there are {len(series)} and {len(order)}"
        )
    found, pairs = autocorrelation(residuals, series, order)
    limit = 1.96 / np.sqrt(pairs)
    return _frame(AUTOCORRELATION, np.arange(1.0, len(found) + 1), found, np.zeros(len(found)), -limit, limit)


def _effects(fit: Any) -> dict[str, Array]:
    """Conditional modes of each group's effects with four levels or more, by group and effect."""
    table = getattr(fit, "ranef", None)
    if not isinstance(table, pl.DataFrame):
        return {}
    numbers = table.group_by("group", "term", maintain_order=True).agg(pl.col("value"))
    return {
        f"{group}, {term}": np.array(values, dtype=float)
        for group, term, values in numbers.iter_rows()
        if len(values) >= 4
    }


def _frame(panel: str, x: Array, y: Array, reference: Array | None = None, *ends: Array) -> pl.DataFrame:
    low, high = ends or (np.full(len(x), np.nan),) * 2
    columns = (x, y, np.zeros(len(x)) if reference is None else reference, low, high)
    numbers = dict(zip(list(_SCHEMA)[1:], columns, strict=True))
    frame = pl.DataFrame({"panel": [panel] * len(x), **numbers}, schema=_SCHEMA)
    return frame.with_columns(pl.col("lower", "upper").fill_nan(None))


def _thinned(frame: pl.DataFrame, most: int) -> pl.DataFrame:
    if len(frame) <= most:
        return frame
    return frame[np.unique(np.linspace(0, len(frame) - 1, most).round().astype(int)).tolist()]
