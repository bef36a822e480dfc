"""How many seeds are enough: intervals by number of seeds, and the seeds needed to tell two sizes apart."""

from __future__ import annotations

from bisect import bisect_left
from itertools import combinations
from math import comb
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from headway.stats.corrections import holm
from headway.stats.distributions import t_p, t_quantile
from headway.studies.development.builder import NEEDS_BOOTSTRAPS, ResultBuilder
from headway.studies.development.heads import SIZE_COLUMNS
from headway.text import count, listed

SUBSETS = 200  # per number of seeds, at most
LARGEST = 1000  # seeds needed beyond this are not worth a number


def outcomes(tables: dict[str, pl.DataFrame]) -> dict[str, pl.DataFrame]:
    """The numbers per run that sizes are compared by, in column `y`: log10 onset, peak and slope; None left out."""
    columns = {
        "onset": tables["onset"].with_columns(y=pl.when(pl.col("m_step") > 0).then(pl.col("m_step").log10())),
        "peak": tables["peaks"].with_columns(y="max_attn"),
        "slope": tables["slopes"].with_columns(y="estimate"),
    }
    return {name: frame.filter(pl.col("y").is_finite()) for name, frame in columns.items()}


def seeds(draft: ResultBuilder) -> None:
    """Adds the widths of intervals by number of seeds, the seeds needed, and how often so many seeds suffice."""
    rng = np.random.default_rng([draft.seed, 4])
    widths: list[dict[str, Any]] = []
    power: list[dict[str, Any]] = []
    detection: list[dict[str, Any]] = []
    for outcome, frame in outcomes(draft.tables).items():
        groups = [
            (of.select(SIZE_COLUMNS).row(0, named=True), of) for _, of in frame.group_by("model", maintain_order=True)
        ]
        for size, of in groups:
            found = interval_widths(of["y"].to_numpy(), draft.bootstraps > 0, rng)
            widths += [{"outcome": outcome, **size, **row} for row in found]
        empty = {"outcome": outcome, "model": None, "size": None, "n_params": None}
        widths += [empty | row for row in _relation_widths(frame, draft.bootstraps > 0, rng)]
        for (one, of_one), (two, of_two) in combinations(groups, 2):
            y1, y2 = of_one["y"].to_numpy(), of_two["y"].to_numpy()
            names = {"outcome": outcome, "model1": one["model"], "model2": two["model"]}
            power.append(names | two_sizes(y1, y2, draft.bootstraps, rng))
            if draft.bootstraps:
                detection += [names | row for row in detected(y1, y2, rng)]
    if widths:
        draft.tables["seed_intervals"] = _frame(widths, ("width", "width_lower", "width_upper", "expected_width"))
    else:
        reason = "no size has two seeds with an onset, a peak or a slope"
        draft.say_left_out("beyond.seeds", reason, ["seed_intervals", "seed_power", "seed_detection"])
    if power:
        draft.tables["seed_power"] = _frame(_with_holm(power), (*_POWER, "p_holm"))
    if detection:
        draft.tables["seed_detection"] = _frame(detection, ("share_detected",))
    elif power and not draft.bootstraps:
        draft.say_left_out("seed_detection", NEEDS_BOOTSTRAPS, ["seed_detection"])
    _say(draft)


_POWER = ("difference", "lower", "upper", "effect", "p", "seeds_needed", "seeds_needed_lower", "seeds_needed_upper")


def _with_holm(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows with `p_holm`, adjusted for all pairs of their outcome."""
    adjusted: dict[int, float | None] = dict.fromkeys(range(len(rows)))
    for outcome in {row["outcome"] for row in rows}:
        tested = [i for i, row in enumerate(rows) if row["outcome"] == outcome and row["p"] is not None]
        adjusted |= dict(zip(tested, holm(np.array([rows[i]["p"] for i in tested])).tolist(), strict=True))
    return [row | {"p_holm": adjusted[i]} for i, row in enumerate(rows)]


def _frame(rows: list[dict[str, Any]], floats: tuple[str, ...]) -> pl.DataFrame:
    types = {**dict.fromkeys(floats, pl.Float64), "n_params": pl.Int64, "model": pl.String, "size": pl.String}
    overrides = {name: dtype for name, dtype in types.items() if name in rows[0]}
    frame = pl.DataFrame(rows, schema_overrides=overrides, infer_schema_length=None)
    return frame.with_columns(pl.col(floats).fill_nan(None))


def _subsets(n: int, k: int, rng: np.random.Generator) -> np.ndarray:
    """All subsets of k of n where they are few, else `SUBSETS` of them at random: (subsets, k)."""
    if comb(n, k) <= SUBSETS:
        return np.array(list(combinations(range(n), k)))
    return np.argsort(rng.random((SUBSETS, n)), axis=1)[:, :k]


def interval_widths(y: np.ndarray, subsample: bool, rng: np.random.Generator) -> list[dict[str, Any]]:
    """The width of the mean's 95% t interval from k seeds: over subsets of those there are, and as expected for any k.

    `expected_width` takes the SD of all seeds as the true one: 2 t(k - 1) sd / sqrt(k).
    """
    n = len(y)
    if n < 2:
        return []
    sd = y.std(ddof=1)
    rows = []
    for k in range(2, max(20, 2 * n) + 1):
        row = {"n_seeds": k, "expected_width": 2 * t_quantile(0.975, k - 1) * sd / np.sqrt(k)}
        if subsample and k <= n:
            drawn = y[_subsets(n, k, rng)]
            row |= _spread(2 * t_quantile(0.975, k - 1) * drawn.std(axis=1, ddof=1) / np.sqrt(k))
        rows.append(_NO_SPREAD | row)
    return rows


_NO_SPREAD = {"n_seeds": 0, "width": None, "width_lower": None, "width_upper": None, "n_subsets": 0}


def _spread(widths: np.ndarray) -> dict[str, float]:
    low, high = np.quantile(widths, [0.1, 0.9])
    return {"width": widths.mean(), "width_lower": low, "width_upper": high, "n_subsets": len(widths)}


def _relation_widths(frame: pl.DataFrame, subsample: bool, rng: np.random.Generator) -> list[dict[str, Any]]:
    """The same for the coefficient of log10(n_params), a least-squares line over all sizes of the k seeds drawn."""
    frame = frame.filter(pl.col("n_params") > 0)
    labels = frame["seed"].unique(maintain_order=True)
    x_all, y_all = np.log10(frame["n_params"].to_numpy().astype(float)), frame["y"].to_numpy()
    if frame["n_params"].n_unique() < 2 or len(labels) < 2 or len(y_all) < 3 or np.ptp(y_all) == 0:
        return []
    index = np.searchsorted(np.sort(labels.to_numpy()), frame["seed"].to_numpy())
    whole = _slope_width(x_all, y_all)
    rows = []
    for k in range(2, max(20, 2 * len(labels)) + 1):
        n, n_all = len(y_all) * k / len(labels), len(y_all)
        ratio = np.sqrt(n_all / n) * t_quantile(0.975, n - 2) / t_quantile(0.975, n_all - 2) if n > 2 else np.nan
        row = {"n_seeds": k, "expected_width": whole * ratio}
        if subsample and k <= len(labels):
            kept = [np.isin(index, subset) for subset in _subsets(len(labels), k, rng)]
            found = np.array([_slope_width(x_all[keep], y_all[keep]) for keep in kept])
            if np.isfinite(found).any():
                row |= _spread(found[np.isfinite(found)])
        rows.append(_NO_SPREAD | row)
    return rows


def _slope_width(x: np.ndarray, y: np.ndarray) -> float:
    """The width of the 95% interval of a least-squares slope."""
    n, dx = len(x), x - x.mean()
    if n < 3 or not (dx**2).sum() > 0:
        return np.nan
    slope = dx @ y / (dx @ dx)
    residual = y - y.mean() - slope * dx
    return float(2 * t_quantile(0.975, n - 2) * np.sqrt(residual @ residual / (n - 2) / (dx @ dx)))


def two_sizes(y1: np.ndarray, y2: np.ndarray, bootstraps: int, rng: np.random.Generator) -> dict[str, Any]:
    """The difference of two sizes (second less first) with Welch's interval, and the seeds needed to see it again.

    `effect` is Hedges' g. `seeds_needed`: per size, for 80% power of a two-sided t test at 5%, were g the true
    effect; the interval is its percentile bootstrap over seeds. None beyond 1,000 seeds.
    """
    found: dict[str, float | None] = dict.fromkeys(_POWER)
    found["difference"] = float(y2.mean() - y1.mean())
    if min(len(y1), len(y2)) < 2 or not y1.var() + y2.var() > 0:
        return found
    test = _welch(y2, y1)
    half = t_quantile(0.975, test.df) * test.error
    effect = float(_hedges_g(y1[None], y2[None])[0])
    ends = {"lower": test.difference - half, "upper": test.difference + half}
    found |= {"p": float(test.p), "effect": effect} | {name: float(end) for name, end in ends.items()}
    found["seeds_needed"] = _needed(effect)
    if bootstraps:
        drawn = [y[rng.integers(len(y), size=(bootstraps, len(y)))] for y in (y1, y2)]
        effects = np.abs(_hedges_g(*drawn))
        low, high = np.nanquantile(effects, [0.025, 0.975], method="inverted_cdf")
        found["seeds_needed_lower"], found["seeds_needed_upper"] = _needed(high), _needed(low)
    return found


class Welch(NamedTuple):
    """Welch's t test of first less second: (...) each."""

    difference: np.ndarray
    error: np.ndarray
    df: np.ndarray
    p: np.ndarray


def _welch(first: np.ndarray, second: np.ndarray) -> Welch:
    """Welch's t test along the last axis (Welch 1947, Biometrika 34, 28-35); samples without spread give NaN."""
    squares = [y.var(axis=-1, ddof=1) / y.shape[-1] for y in (first, second)]
    difference, error = first.mean(axis=-1) - second.mean(axis=-1), np.sqrt(sum(squares))
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = [square**2 / (y.shape[-1] - 1) for square, y in zip(squares, (first, second), strict=True)]
        df = error**4 / sum(parts)
        return Welch(difference, error, df, t_p(difference / error, df))


def _hedges_g(y1: np.ndarray, y2: np.ndarray) -> np.ndarray:
    """The difference in units of the pooled SD, less its small-sample bias (Hedges 1981): (draws,)."""
    n1, n2 = y1.shape[1], y2.shape[1]
    df = n1 + n2 - 2
    pooled = np.sqrt(((n1 - 1) * y1.var(axis=1, ddof=1) + (n2 - 1) * y2.var(axis=1, ddof=1)) / df)
    with np.errstate(divide="ignore", invalid="ignore"):
        return (y2.mean(axis=1) - y1.mean(axis=1)) / pooled * (1 - 3 / (4 * df - 1))


def _needed(effect: float) -> float | None:
    """Seeds per size for 80% power at 5%, two-sided: the smallest number whose power suffices, None beyond 1,000."""
    numbers = range(2, LARGEST + 1)
    first = bisect_left(numbers, 0.8, key=lambda n: float(t_power(abs(effect), np.array(n))))  # power grows with n
    return float(numbers[first]) if first < len(numbers) else None


def t_power(effect: float, n: np.ndarray) -> np.ndarray:
    """The power of a two-sided t test at 5% of two samples of n each, `effect` SDs apart, by the noncentral t."""
    from scipy.special import nctdtr

    df, critical = 2 * n - 2, t_quantile(0.975, 2 * n - 2)
    shift = np.minimum(effect * np.sqrt(n / 2), 30.0)  # beyond 30 the power is 1 and the series overflows
    lower = np.nan_to_num(nctdtr(df, shift, -critical))  # underflows to NaN where it is 0
    return 1 - nctdtr(df, shift, critical) + lower


def detected(y1: np.ndarray, y2: np.ndarray, rng: np.random.Generator) -> list[dict[str, Any]]:
    """How often k of the seeds there are tell the two sizes apart (Welch, p < 0.05)."""
    rows = []
    for k in range(2, min(len(y1), len(y2)) + 1):
        first, second = (y[np.argsort(rng.random((SUBSETS, len(y))), axis=1)[:, :k]] for y in (y1, y2))
        p = _welch(first, second).p
        rows.append({"n_seeds": k, "share_detected": float((p < 0.05).mean()), "n_subsets": SUBSETS})
    return rows


def _say(draft: ResultBuilder) -> None:
    power = draft.tables.get("seed_power")
    tested = power.drop_nulls("p") if power is not None else None
    if tested is None or not tested.height:
        draft.find(
            "seeds",
            "pairs",
            "Sizes cannot be told apart.",
            "No two sizes have two seeds each and an onset, peak or slope that varies.",
        )
    else:
        for (outcome,), of in tested.group_by("outcome", maintain_order=True):
            apart = of.filter(pl.col("p_holm") < 0.05)
            draft.find(
                "seeds",
                f"pairs_{outcome}",
                f"{apart.height or 'None'} of {count(of.height, 'pair')} of sizes can be told apart by their {outcome} "
                "(Welch's t test, 5% level, adjusted by Holm).",
                _still_needed(of.filter(pl.col("p_holm") >= 0.05)),
                n_apart=apart.height,
                n_pairs=of.height,
            )
    _say_widths(draft)
    draft.find(
        "seeds",
        "caveat",
        "So many seeds may still be too few: the effect is taken from the few seeds there are.",
        "The seeds needed are those of a single pair, without adjustment.",
    )


def _still_needed(rest: pl.DataFrame) -> str | None:
    """How many seeds of each size the pairs would need that are not told apart."""
    if not rest.height:
        return None
    one = rest.height == 1
    others = "The other pair" if one else "The others"
    needed = sorted(LARGEST + 1 if n is None else n for n in rest["seeds_needed"])
    least, most = (f"more than {LARGEST:,}" if n > LARGEST else f"{n:,.0f}" for n in (needed[0], needed[-1]))
    return f"{others} would need {least if least == most else f'{least} to {most}'} seeds of each size."


def _say_widths(draft: ResultBuilder) -> None:
    """How the interval of the coefficient of size would shrink with twice the seeds."""
    table = draft.tables.get("seed_intervals")
    if table is None:
        return
    now = draft.heads.runs["seed"].n_unique()
    widths = table.filter(pl.col("model").is_null(), pl.col("expected_width").is_not_null())
    narrowed = {}
    for (outcome,), of in widths.group_by("outcome", maintain_order=True):
        at = dict(of.select("n_seeds", "expected_width").rows())
        if {now, 2 * now} <= set(at):
            narrowed[str(outcome)] = (at[now], at[2 * now])
    if narrowed:
        draft.find(
            "seeds",
            "widths",
            f"Twice the seeds ({2 * now} for {now}) would narrow the 95% interval of the relation to log10(parameters).",
            f"Its width goes from {listed([f'{a:.2g} to {b:.2g} ({outcome})' for outcome, (a, b) in narrowed.items()])}.",
            now=now,
            widths=narrowed,
        )
