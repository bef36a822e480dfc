"""Test whether a quantity changed abruptly or gradually over training steps, and where.

    found = change_points(steps, values)          # values (steps,) or (units, steps): runs, seeds, heads
    found.verdict                                 "abrupt", "gradual", "none" or "undecided"
    found.places                                  between which steps, with an interval
    print(found.words)

The test works over x = log10(step + 1), on the mean of the units, or on each unit where each jumps at a step of its own:

1. Every candidate (constant, line, smooth curve, sigmoid, one to three steps) gets BIC = t log(rss / t) + parameters · log t.
   The position of each step counts as a parameter (Yao 1988, Stat. Probab. Lett. 6, 181-189).
2. Is there a change? The largest gain of BIC over the constant, by models with few parameters, is compared with its
   distribution under Gaussian noise with an autocorrelation of 0.5 between neighbouring steps. If the gain is no larger,
   there is no change to report. It must also be larger than under a random walk. If it is not, drifting errors would look
   the same, and the verdict is "undecided". Four units or more show the autocorrelation of their errors, which then
   replaces both (`change_noise`).
3. Is it abrupt or gradual? BIC alone favours the family that mimics the other better, by an amount that depends on the grid.
   So the difference between the best gradual and the best abrupt model is compared with its distribution if either were
   true: parametric bootstrap cross-fitting (Wagenmakers, Ratcliff, Gomez & Iverson 2004, J. Math. Psychol. 48, 28-50; the
   idea is Cox's 1962 test of separate families). The drawn noise has each of the assumed autocorrelations, and the larger
   p counts. A verdict needs one family rejected and the other not.
4. A change counts as abrupt if it is over before the step count grows by `abrupt_factor`. If the grid's interval is wider
   than that, no test can distinguish a jump from growth within it. Then the verdict is "undecided" and `too_coarse` is true.
5. Units that jump at different steps have a mean that grows. If a step of its own for each unit has a lower BIC than a
   common one, the units are `staggered`: gains and differences are taken in each unit and added up, so the mean of unlike
   curves is never asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from headway.errors import StatisticsError
from headway.stats import change_models as models
from headway.stats import change_noise

Array = NDArray[np.float64]

_GRADUAL = ("line", "smooth", "sigmoid")
_LEAST_POINTS = 6
_MOST_POINTS = 200
_NULL_BATCH, _NULL_BATCHES, _NULL_VALUES = 1000, 20, 400_000  # series in a batch, batches, numbers in all
_SAME = 1e-14  # of the mean: a series with smaller deviations is constant, because the mean is rounded
_ROUNDING = 1e-14  # of the total sum of squares: a smaller residual is a perfect fit


@dataclass(frozen=True)
class ChangePoints:
    """Result of `change_points`.

    Attributes:
        verdict: "abrupt", "gradual", "none" or "undecided".
        models: model, kind, parameters, rss, bic, delta_bic (to the best), best first.
        places: before, after (the grid steps around the change), lower, upper (an interval for the step of the change, in
            whole grid intervals). An abrupt or undecided change has one row per step of the best step model. A gradual
            change has one row, where the smooth curve is steepest. Staggered units have one row: the median unit's, with the
            range of all units. No change gives no rows.
        p_change: p-value of the hypothesis that there is only noise, with the least autocorrelation assumed.
        p_drift: the same with the largest autocorrelation; above `alpha`, drifting errors would look the same.
        autocorrelation: both autocorrelations.
        staggered: whether units change at steps of their own.
        p_gradual, p_abrupt: p-values of the hypotheses that the change is gradual, or abrupt; NaN without a change.
        too_coarse: whether the grid intervals at the change are too wide to distinguish a jump from growth.
        words: the result in sentences.
        n_steps, n_units: numbers of grid points and series; n_dropped: units left out for missing values.
    """

    verdict: str
    models: pl.DataFrame
    places: pl.DataFrame
    p_change: float
    p_drift: float
    autocorrelation: tuple[float, float]
    staggered: bool
    p_gradual: float
    p_abrupt: float
    too_coarse: bool
    words: str
    n_steps: int
    n_units: int
    n_dropped: int


def change_points(
    steps: Sequence[int] | Array,
    values: Any,
    *,
    most: int = 3,
    alpha: float = 0.05,
    abrupt_factor: float = 2.0,
    n_boot: int = 999,
    level: float = 0.95,
    seed: int = 0,
) -> ChangePoints:
    """Compare abrupt with gradual change of a quantity over training steps.

    Errors about the mean curve are assumed to be Gaussian and equally large at all steps; they may be autocorrelated.

    Args:
        steps: (t,) training steps, 0 or more, in any order, without duplicates; 6 to 200 of them.
        values: (t,), or (units, t) for several runs, seeds or heads. Units with a missing value are left out and counted.
        most: the largest number of steps to consider, 1 to 3.
        alpha: level of the tests behind the verdict.
        abrupt_factor: a change counts as abrupt if it is over before `step + 1` grows by this factor.
        n_boot: bootstrap samples for tests and intervals. Units are resampled; for one series, residuals are.
        level: coverage of the intervals.
        seed: seed of the random numbers.

    Raises:
        StatisticsError: the steps or values cannot be used, or an option is out of range.
    """
    _check_options(most, alpha, abrupt_factor, n_boot, level)
    _order, grid, units, n_dropped = _read(steps, values)
    x = np.log10(grid + 1.0)
    candidates = _Candidates(tuple(x), most, float(np.log10(abrupt_factor)))
    staggered = _staggered(units)
    series = units if staggered else units.mean(axis=0)[None]  # what is compared: each unit, or their mean
    fits = candidates.fit(series)
    # staggered jumps are deviations from the mean curve, and say nothing of the errors
    memory = (change_noise.LEAST, change_noise.WALK) if staggered else change_noise.memory(units)
    p_change, p_drift = (_p_change(fits, candidates, rho) for rho in memory)
    shared: dict[str, Any] = {
        "models": _table(fits),
        "p_change": p_change,
        "p_drift": p_drift,
        "autocorrelation": memory,
        "staggered": staggered,
        "n_steps": len(grid),
        "n_units": len(units),
        "n_dropped": n_dropped,
    }
    nan = float("nan")
    if p_change > alpha:
        words = f"No change beyond noise (p = {p_change:.2g} for noise alone)."
        return ChangePoints(
            "none", places=_places([]), p_gradual=nan, p_abrupt=nan, too_coarse=False, words=words, **shared
        )

    random = np.random.default_rng(seed)
    p_gradual, p_abrupt = _cross_fit(fits, candidates, random, n_boot, sorted({0.0, *memory[:1]}))
    verdict = "undecided"
    if p_drift <= alpha and min(p_gradual, p_abrupt) <= alpha < max(p_gradual, p_abrupt):
        verdict = "abrupt" if p_gradual <= alpha else "gradual"
    best_steps = _best(fits, [name for name in fits if name not in ("constant", *_GRADUAL)])
    breaks = candidates.breaks(series, 1 if staggered else _n_steps(best_steps))
    wide = np.diff(x)[breaks - 1] > np.log10(abrupt_factor) + 1e-9
    too_coarse = verdict != "gradual" and bool(np.any(wide))
    if verdict == "abrupt" and too_coarse:
        verdict = "undecided"

    if staggered:
        places = _staggered_places(breaks[:, 0], grid)
    else:
        best = _best(fits, _GRADUAL) if verdict == "gradual" else best_steps
        resampled = _resampled(units, fits, best, random, n_boot, memory[0])
        if verdict == "gradual":
            places = _steepest_place(candidates, series[0], resampled, grid, level)
        else:
            places = _break_places(candidates, breaks[0], resampled, grid, level)
    found = ChangePoints(
        verdict, places=places, p_gradual=p_gradual, p_abrupt=p_abrupt, too_coarse=too_coarse, words="", **shared
    )
    return replace(found, words=_words(found, alpha, abrupt_factor, level))


def _staggered(units: Array) -> bool:
    """Whether one step in each unit is better placed unit by unit than at one place for all, by BIC; levels are free."""
    n, t = units.shape
    if n == 1:
        return False
    own = models.steps(units, models.breaks(units, 1)[0]).rss.sum()
    places = np.arange(models.MIN_SEGMENT, t - models.MIN_SEGMENT + 1)
    common = min(models.steps(units, np.full((n, 1), place)).rss.sum() for place in places)
    least = max(np.finfo(float).tiny, _ROUNDING * float(np.sum((units - units.mean(axis=1, keepdims=True)) ** 2)))
    gain = n * t * np.log(max(common, least) / max(own, least))
    return bool(gain > (n - 1) * np.log(n * t))


class _Candidates:
    """All candidate models over one grid."""

    def __init__(self, x: tuple[float, ...], most: int, narrowest: float) -> None:
        self.key = (x, most, narrowest)
        self.x = np.array(x)
        self.most = most
        self.smoother = models.Smoother(self.x)
        self.sigmoids = models.Sigmoids(self.x, narrowest)

    def fit(self, y: Array) -> dict[str, models.Fit]:
        """Fit every model to every series of y (s, t)."""
        fits = {
            "constant": models.constant(y),
            "line": models.line(self.x, y),
            "smooth": self.smoother(y),
            "sigmoid": self.sigmoids(y),
        }
        for m, places in enumerate(models.breaks(y, self.most), start=1):
            fits[f"{m} step" if m == 1 else f"{m} steps"] = models.steps(y, places)
        return fits

    def breaks(self, y: Array, m: int) -> NDArray[np.intp]:
        return models.breaks(y, m)[m - 1]


def _n_steps(name: str) -> int:
    return int(name.split(maxsplit=1)[0])


def _bic(fit: models.Fit, total: Array) -> Array:
    """BIC (s,). `total`, the sum of squares about the mean, sets the scale of rounding errors."""
    t = fit.fitted.shape[1]
    rss = np.maximum(fit.rss, np.maximum(_ROUNDING * total, np.finfo(float).tiny))
    return t * np.log(rss / t) + fit.parameters * np.log(t)


def _bics(fits: dict[str, models.Fit]) -> dict[str, Array]:
    return {name: _bic(fit, fits["constant"].rss) for name, fit in fits.items()}


def _best(fits: dict[str, models.Fit], names: Sequence[str]) -> str:
    bics = _bics(fits)
    return min(names, key=lambda name: bics[name].sum())


def _gain(fits: dict[str, models.Fit]) -> Array:
    """Gain in BIC over the constant (s,), of the best model with no more parameters than half of the points and one.

    A curve that nearly interpolates a short series leaves next to no residuals. In drifting errors this is common, and such
    a curve would then gain more than a clear jump.
    """
    t = fits["constant"].fitted.shape[1]
    bics = _bics(fits)
    few = [
        np.where(fit.parameters <= t / 2 + 1, bics[name], np.inf) for name, fit in fits.items() if name != "constant"
    ]
    return bics["constant"] - np.min(few, axis=0)


def _abruptness(fits: dict[str, models.Fit]) -> Array:
    """BIC of the best gradual minus BIC of the best step model (s,). It is large if steps fit better."""
    bics = _bics(fits)
    gradual = np.min([bics[name] for name in _GRADUAL], axis=0)
    abrupt = np.min([bic for name, bic in bics.items() if name not in ("constant", *_GRADUAL)], axis=0)
    return gradual - abrupt


@lru_cache(maxsize=64)
def _null_gains(x: tuple[float, ...], most: int, narrowest: float, rho: float) -> Array:
    """Gains over the constant in series of pure noise. The seed is fixed, so that the result depends only on the grid."""
    random = np.random.default_rng(0)
    candidates = _Candidates(x, most, narrowest)
    batches = min(_NULL_VALUES // (len(x) * _NULL_BATCH), _NULL_BATCHES)
    noises = (change_noise.noise(random, _NULL_BATCH, len(x), rho) for _ in range(batches))
    return np.sort(np.concatenate([_gain(candidates.fit(noise)) for noise in noises]))


def _p_change(fits: dict[str, models.Fit], candidates: _Candidates, rho: float) -> float:
    constant = fits["constant"]
    n, t = constant.fitted.shape
    if np.all(np.sqrt(constant.rss / t) <= _SAME * np.abs(constant.fitted[:, 0])):
        return 1.0
    null = _null_gains(*candidates.key, rho)
    if n > 1:
        drawn = np.random.default_rng(0).integers(len(null), size=(len(null), n))
        null = np.sort(null[drawn].sum(axis=1))
    beyond = len(null) - int(np.searchsorted(null, _gain(fits).sum(), side="left"))
    return (beyond + 1) / (len(null) + 1)


def _cross_fit(
    fits: dict[str, models.Fit],
    candidates: _Candidates,
    random: np.random.Generator,
    n_boot: int,
    memories: Sequence[float],
) -> tuple[float, float]:
    """p-values of the best gradual and of the best abrupt model, by the abruptness of series drawn from them."""
    observed = _abruptness(fits).sum()
    gradual = _best(fits, _GRADUAL)
    abrupt = _best(fits, [name for name in fits if name not in ("constant", *_GRADUAL)])

    def drawn(name: str, rho: float) -> Array:
        series = _draw(fits[name], random, n_boot, rho)
        return np.sum([_abruptness(candidates.fit(one)) for one in series], axis=0)

    return (
        max(float((np.sum(drawn(gradual, rho) >= observed) + 1) / (n_boot + 1)) for rho in memories),
        max(float((np.sum(drawn(abrupt, rho) <= observed) + 1) / (n_boot + 1)) for rho in memories),
    )


def _draw(fit: models.Fit, random: np.random.Generator, n: int, rho: float) -> list[Array]:
    """For each series fitted, (n, t) drawn ones: its curve plus noise with its residual variance."""
    t = fit.fitted.shape[1]
    sd = np.sqrt(fit.rss / np.maximum(t - fit.parameters + 1, 1.0))
    curves = zip(fit.fitted, sd, strict=True)
    return [curve + scale * change_noise.noise(random, n, t, rho) for curve, scale in curves]


def _resampled(
    units: Array, fits: dict[str, models.Fit], name: str, random: np.random.Generator, n_boot: int, rho: float
) -> Array:
    """(n_boot, t) means of resampled units. A single series is resampled by adding noise to its fitted curve."""
    if len(units) == 1:
        return _draw(fits[name], random, n_boot, rho)[0]
    weights = random.multinomial(len(units), np.full(len(units), 1 / len(units)), size=n_boot)
    return weights @ units / len(units)


def _break_places(
    candidates: _Candidates, breaks: NDArray[np.intp], resampled: Array, grid: Array, level: float
) -> pl.DataFrame:
    drawn = candidates.breaks(resampled, len(breaks))  # (n_boot, m)
    low = np.quantile(drawn, (1 - level) / 2, axis=0, method="inverted_cdf").astype(int)
    high = np.quantile(drawn, (1 + level) / 2, axis=0, method="inverted_cdf").astype(int)
    return _places(
        [(grid[b - 1], grid[b], grid[lo - 1], grid[hi]) for b, lo, hi in zip(breaks, low, high, strict=True)]
    )


def _staggered_places(breaks: NDArray[np.intp], grid: Array) -> pl.DataFrame:
    """The step of the median unit, and the range over units."""
    middle = int(np.sort(breaks)[(len(breaks) - 1) // 2])
    return _places([(grid[middle - 1], grid[middle], grid[breaks.min() - 1], grid[breaks.max()])])


def _steepest_place(candidates: _Candidates, y: Array, resampled: Array, grid: Array, level: float) -> pl.DataFrame:
    at = np.linspace(candidates.x[0], candidates.x[-1], 401)
    place = candidates.smoother.steepest(y[None], at)[0]
    drawn = candidates.smoother.steepest(resampled, at)
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    x, last = candidates.x, len(grid) - 1
    after = int(np.clip(np.searchsorted(x, place), 1, last))
    # Positions within a grid interval are unknown, so the interval is widened to whole grid intervals.
    first = int(np.clip(np.searchsorted(x, low, side="right") - 1, 0, after - 1))
    end = int(np.clip(np.searchsorted(x, high), after, last))
    return _places([(grid[after - 1], grid[after], grid[first], grid[end])])


def _places(rows: list[tuple[float, float, float, float]]) -> pl.DataFrame:
    schema = dict.fromkeys(("before", "after", "lower", "upper"), pl.Float64)
    return pl.DataFrame([tuple(map(float, row)) for row in rows], schema=schema, orient="row")


def _table(fits: dict[str, models.Fit]) -> pl.DataFrame:
    """The models, with sums over the series."""
    kinds = {"constant": "none"} | dict.fromkeys(_GRADUAL, "gradual")
    rows = [
        (name, kinds.get(name, "abrupt"), *(float(each.sum()) for each in (fits[name].parameters, fits[name].rss, bic)))
        for name, bic in _bics(fits).items()
    ]
    frame = pl.DataFrame(rows, schema=["model", "kind", "parameters", "rss", "bic"], orient="row")
    return frame.with_columns(delta_bic=pl.col("bic") - pl.col("bic").min()).sort("bic", maintain_order=True)


def _words(found: ChangePoints, alpha: float, factor: float, level: float) -> str:
    interval = "all units" if found.staggered else f"{100 * level:g}% interval"
    between = "; ".join(
        f"between steps {before:,.0f} and {after:,.0f} ({interval} {lower:,.0f} to {upper:,.0f})"
        for before, after, lower, upper in found.places.iter_rows()
    )
    said = [
        {
            "abrupt": f"An abrupt change {between}.",
            "gradual": f"A gradual change, steepest {between}.",
            "undecided": f"A change, but the data do not show whether it is abrupt or gradual. As steps it is {between}.",
        }[found.verdict]
    ]
    low, high = found.autocorrelation
    if found.p_drift > alpha:
        said = [
            f"A change or a drift: whether there is a change cannot be told. As steps it is {between}.",
            f"Errors with an autocorrelation of {high:g} would look the same (p = {found.p_drift:.2g}).",
        ]
    if found.staggered:
        said.append(f"Each of the {found.n_units} units changes at a step of its own.")
    if found.too_coarse:
        said.append(
            "The grid is too coarse to decide: it has no step inside an interval over which step + 1 grows by more than "
            f"{factor:g} times, and any growth within it would look the same."
        )
    said.append(
        f"Noise alone (autocorrelation {low:g}) p = {found.p_change:.2g}, gradual p = {found.p_gradual:.2g}, "
        f"abrupt p = {found.p_abrupt:.2g}."
    )
    return " ".join(said)


def _check_options(most: int, alpha: float, abrupt_factor: float, n_boot: int, level: float) -> None:
    if most not in (1, 2, 3):
        raise StatisticsError(f"most={most}: choose 1, 2 or 3 steps")
    if not 0 < alpha < 1 or not 0 < level < 1:
        raise StatisticsError(f"alpha and level must be between 0 and 1; they are {alpha} and {level}")
    if not abrupt_factor > 1:
        raise StatisticsError(f"abrupt_factor={abrupt_factor} must be more than 1: the growth of steps within a jump")
    if n_boot < 99:
        raise StatisticsError(f"n_boot={n_boot} is too few: use at least 99, and usually 999")


def _read(steps: Any, values: Any) -> tuple[NDArray[np.intp], Array, Array, int]:
    """The order of the steps, the sorted steps, the complete units (u, t), and the number of incomplete units."""
    try:
        grid = np.asarray(steps, dtype=np.float64)
        units = np.atleast_2d(np.asarray(values, dtype=np.float64))
    except (TypeError, ValueError) as error:
        raise StatisticsError(f"steps and values must be numbers: {error}") from error
    if grid.ndim != 1 or units.ndim != 2 or units.shape[1] != len(grid):
        raise StatisticsError(
            f"values have the shape {units.shape} for {grid.shape} steps: give (steps,) or (units, steps)"
        )
    if not _LEAST_POINTS <= len(grid) <= _MOST_POINTS:
        raise StatisticsError(f"there are {len(grid)} steps: give {_LEAST_POINTS} to {_MOST_POINTS} of them")
    if not np.all(np.isfinite(grid)) or grid.min() < 0:
        raise StatisticsError("steps must be 0 or more, and none may be missing")
    if len(np.unique(grid)) < len(grid):
        raise StatisticsError("a step occurs twice: give each step once, and several runs as rows of values")
    whole = np.all(np.isfinite(units), axis=1)
    if not whole.any():
        raise StatisticsError("every unit has a missing or infinite value, so no unit is left")
    order = np.argsort(grid)
    return order, grid[order], units[whole][:, order], int(np.sum(~whole))
