"""Onset with honest intervals: what the grid of steps, the seeds and the definition of onset leave open."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from headway.stats.distributions import t_quantile
from headway.studies.development.builder import ResultBuilder
from headway.studies.development.censored import resampled_weights, shares_until
from headway.studies.development.heads import RUN_COLUMNS, SIZE_COLUMNS, Heads
from headway.studies.development.onset import thresholds
from headway.studies.development.size_scatter import size_line
from headway.studies.prose import capital
from headway.text import count, listed

# the places, among the fifteen thresholds, of those whose onsets are shown one by one: 0.1, 0.5, 1.0 and 1.5 as
# published. The mean over all fifteen is the published definition.
_SHOWN_THRESHOLDS = (0, 4, 9, 14)
PUBLISHED = "mean over thresholds"
HALF_OF_RISE = "half of rise"
_TABLES = ("onset_intervals", "onset_by_size", "onset_shares", "onset_relations")
# definitions that ask of a run what it does from first to last: one that stops early bounds them only from below
_OF_THE_WHOLE_RUN = (PUBLISHED, "largest slope", "half of peak", HALF_OF_RISE, "largest derivative")


def onset_intervals(draft: ResultBuilder) -> None:
    """Adds each run's onset interval under each definition, and what follows for sizes and for the relation to size."""
    if not draft.heads.followed:
        reason = "no run has two distinct steps, between which an onset could lie"
        draft.leave_out("beyond.onset_intervals", reason, _TABLES)
        return
    intervals = run_intervals(draft.heads, draft.tables)
    draft.tables["onset_intervals"] = intervals
    rng = np.random.default_rng([draft.seed, 1])
    draft.tables["onset_by_size"] = by_size(intervals, draft.bootstraps, rng)
    draft.tables["onset_shares"] = shares(draft.heads, intervals, draft.bootstraps, rng)
    draft.tables["onset_relations"] = relations(intervals)
    relation = {row.pop("definition"): row for row in draft.tables["onset_relations"].to_dicts()}
    draft.put("beyond.onset_intervals", {"relations": relation})
    _say(draft)


def run_intervals(heads: Heads, tables: dict[str, pl.DataFrame]) -> pl.DataFrame:
    """The interval (lower, upper] that holds the onset of each run, by definition.

    A run of one distinct step says nothing of onsets and is left out. One that stops early may still have gone on to a
    higher peak or a steeper rise: where the definition depends on that, its interval has no upper end (the onset is no
    earlier than it would be if nothing more had come), and where it then has no end at all it is left out.
    """
    steps = heads.trajectories.filter(~pl.col("suspect"))
    levels = thresholds(heads).levels
    found = {
        **{
            f"slope > {threshold}": _ends(
                tables["onset_thresholds"].filter(pl.col("threshold") == threshold), "step_before", "step"
            )
            for threshold in (levels[place] for place in _SHOWN_THRESHOLDS)
        },
        PUBLISHED: _ends(tables["onset"], "m_step_before", "m_step"),
        "largest slope": _ends(_largest_slope(steps), "step_before", "step"),
        "half of peak": _ends(_first_at(steps, pl.col("value").max() / 2), "step_before", "step"),
        HALF_OF_RISE: _ends(
            _first_at(steps, (pl.col("value").first() + pl.col("value").max()) / 2), "step_before", "step"
        ),
    }
    last = steps.group_by("run").agg(last_step=pl.col("step").max().cast(pl.Float64))
    runs = heads.runs.filter(pl.col("run").is_in(heads.followed)).select(*RUN_COLUMNS, "stops_early")
    runs = runs.join(last, on="run", maintain_order="left")
    parts = [
        runs.join(ends, on="run", how="left", maintain_order="left").with_columns(definition=pl.lit(definition))
        for definition, ends in found.items()
    ]
    if "emergence" in tables:  # a run without a curve has no onset by this definition, not a late one
        curves = tables["emergence"].filter(pl.col("largest_derivative_step").is_not_null())
        parts.append(
            runs.join(_ends(curves, "lower", "upper"), on="run", maintain_order="left").with_columns(
                definition=pl.lit("largest derivative")
            )
        )
    reached, bounded = pl.col("upper").is_not_null(), pl.col("lower").is_not_null()
    open_end = pl.col("stops_early") & pl.col("definition").is_in(_OF_THE_WHOLE_RUN)
    informative = pl.concat(parts).filter(~(open_end & reached & ~bounded))
    return informative.with_columns(upper=pl.when(~open_end).then("upper")).select(
        *RUN_COLUMNS,
        "definition",
        pl.when(reached).then("lower").otherwise(pl.coalesce("lower", "last_step")).alias("lower"),
        "upper",
        censoring=pl.when(~reached)
        .then(pl.lit("right"))
        .when(bounded)
        .then(pl.lit("interval"))
        .otherwise(pl.lit("left")),
    )


def _ends(of: pl.DataFrame, lower: str, upper: str) -> pl.DataFrame:
    return of.select("run", lower=pl.col(lower).cast(pl.Float64), upper=pl.col(upper).cast(pl.Float64))


def _largest_slope(steps: pl.DataFrame) -> pl.DataFrame:
    rising = steps.filter(pl.col("slope") > 0)
    return rising.filter(pl.col("slope") == pl.col("slope").max().over("run")).unique("run", keep="first")


def _first_at(steps: pl.DataFrame, level: pl.Expr) -> pl.DataFrame:
    """The first step of each run that ever rises above its start at which the value is at least `level`."""
    rises = pl.col("value").max().over("run") > pl.col("value").first().over("run")
    reached = steps.filter(rises & (pl.col("value") >= level.over("run")))
    return reached.group_by("run", maintain_order=True).first()


def _bounds(of: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    lower = of["lower"].fill_null(-np.inf).to_numpy()
    return lower, of["upper"].fill_null(np.inf).to_numpy()


def by_size(intervals: pl.DataFrame, bootstraps: int, rng: np.random.Generator) -> pl.DataFrame:
    """The median onset of a size: between the medians of the lower and of the upper ends, whatever lies inside.

    `lower` and `upper` widen this by the percentile bootstrap over seeds.
    """
    rows = []
    for _, of in intervals.group_by("model", "definition", maintain_order=True):
        ends = np.stack(_bounds(of), axis=1)
        row = of.select(*SIZE_COLUMNS, "definition").row(0, named=True)
        row |= {"n_runs": of.height, "n_reached": of["upper"].count()}
        row["median_lower"], row["median_upper"] = _medians(ends[None])[0]
        if bootstraps and of.height > 1:
            drawn = _medians(ends[rng.integers(of.height, size=(bootstraps, of.height))])
            row["lower"] = np.quantile(drawn[:, 0], 0.025, method="lower")
            row["upper"] = np.quantile(drawn[:, 1], 0.975, method="higher")
        else:
            row |= {"lower": None, "upper": None}
        rows.append(row)
    ends_out = ("median_lower", "median_upper", "lower", "upper")
    frame = pl.DataFrame(rows, schema_overrides=dict.fromkeys(ends_out, pl.Float64), infer_schema_length=None)
    finite = [pl.when(pl.col(name).is_finite()).then(pl.col(name)).alias(name) for name in ends_out]
    return frame.select(*SIZE_COLUMNS, "definition", *finite, "n_runs", "n_reached")


def _medians(ends: np.ndarray) -> np.ndarray:
    """(draws, runs, 2) to (draws, 2): the lower median of the lower ends and the upper median of the upper ends."""
    ends, n = np.sort(ends, axis=1), ends.shape[1]
    return np.stack([ends[:, (n - 1) // 2, 0], ends[:, n // 2, 1]], axis=1)


def shares(heads: Heads, intervals: pl.DataFrame, bootstraps: int, rng: np.random.Generator) -> pl.DataFrame:
    """The share of a size's runs whose onset is at or before each step of its grid, with a bootstrap over seeds."""
    parts = []
    for (model, _), of in intervals.group_by("model", "definition", maintain_order=True):
        steps = heads.frame.filter(pl.col("model") == model)["step"].unique().sort().to_numpy().astype(float)
        lower, upper = _bounds(of)
        weights = np.ones((1, of.height))
        columns: dict[str, object] = {"step": steps.astype(int), "step_modded": steps.astype(int) + 1}
        columns["share"] = shares_until(steps, lower, upper, weights)[0]
        if bootstraps and of.height > 1:
            drawn = shares_until(steps, lower, upper, resampled_weights(of["seed"].to_numpy(), bootstraps, rng))
            columns["lower"], columns["upper"] = np.quantile(drawn, [0.025, 0.975], axis=0)
        else:
            columns |= {"lower": None, "upper": None}
        frame = pl.DataFrame(columns, schema_overrides={"lower": pl.Float64, "upper": pl.Float64})
        size = of.select(*SIZE_COLUMNS, "definition").head(1)
        parts.append(size.join(frame, how="cross"))
    return pl.concat(parts)


_NUMBERS = ("slope", "lower", "upper", "bound_lower", "bound_upper", "grid_lower", "grid_upper", "sd", "size_sd")


def relations(intervals: pl.DataFrame) -> pl.DataFrame:
    """log10(onset + 1) on log10(parameters) for each definition of onset.

    `slope`, `lower`, `upper`, `sd`, `size_sd`: maximum likelihood and a 95% profile interval with sizes that scatter about
    the line (`size_scatter`). `slope` is None where many fit equally well, as where a line passes through all intervals.
    `step_after` is the largest size before the best single step, `step_gain` that step's log-likelihood less the line's.
    `grid_lower`, `grid_upper`: the least and the greatest slope of a least-squares line through sizes' means whose onsets
    lie anywhere in their intervals; of onsets nothing else is assumed (those of the largest derivative are themselves 95%
    intervals of a fitted curve, which may miss it). `bound_lower`, `bound_upper` add the sampling error of the sizes.
    All are None unless most runs reach the onset: the line would be one of the few that do.
    """
    rows = []
    for (definition,), of in intervals.group_by("definition", maintain_order=True):
        of = of.filter(pl.col("n_params") > 0)
        row = {"definition": definition, "n_runs": of.height, "n_reached": of["upper"].count()}
        if of["n_params"].n_unique() > 1 and 2 * row["n_reached"] > of.height:
            row |= _relation(of)
        rows.append(dict.fromkeys((*_NUMBERS, "step_after", "step_gain")) | row)
    types = {**dict.fromkeys((*_NUMBERS, "step_gain"), pl.Float64), "step_after": pl.String}
    frame = pl.DataFrame(rows, schema_overrides=types, infer_schema_length=None)
    finite = [pl.when(pl.col(name).is_finite()).then(pl.col(name)).alias(name) for name in _NUMBERS]
    return frame.select("definition", *finite, "step_after", "step_gain", "n_runs", "n_reached")


def _relation(of: pl.DataFrame) -> dict[str, Any]:
    size = np.log10(of["n_params"].to_numpy().astype(float))
    ends = _bounds(of)
    with np.errstate(divide="ignore"):
        lower, upper = np.log10(np.maximum(ends[0], -1) + 1), np.log10(ends[1] + 1)
    found = _slope_bounds(size, lower, upper)
    line = size_line(size, lower, upper)
    if line is None:
        return found
    names = of.sort("n_params").unique("n_params", maintain_order=True)["size"]
    return found | {
        **{name: getattr(line, name) for name in ("slope", "lower", "upper", "sd", "size_sd", "step_gain")},
        "step_after": names[line.step_after - 1],
    }


def _slope_bounds(size: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> dict[str, Any]:
    """The least and the greatest least-squares slope over sizes' means, without and with the sampling error of sizes.

    The slope is a weighted sum of onsets, so at its extremes each onset is at one end of its interval. Its sampling error
    is that of the line through these ends: t with two degrees of freedom less than sizes, as each size may be off the line.
    """
    places, index, runs = np.unique(size, return_inverse=True, return_counts=True)
    centred = places - places.mean()
    pull = (centred / (centred @ centred))[index] / runs[index]  # slope = sum of pull * y
    found: dict[str, Any] = {}
    for sign, side in ((-1, "lower"), (1, "upper")):
        y = np.where(sign * pull > 0, upper, lower)
        y[pull == 0] = 0.0  # a size in the middle has no say
        slope = pull @ y
        found |= {f"grid_{side}": slope, f"bound_{side}": np.nan}
        if len(places) > 2 and np.isfinite(slope):
            means = np.bincount(index, y) / runs
            residual = means - means.mean() - slope * centred
            df = len(places) - 2
            error = np.sqrt(residual @ residual / df / (centred @ centred))
            found[f"bound_{side}"] = slope + sign * t_quantile(0.975, df) * error
    return found


def _say(draft: ResultBuilder) -> None:
    _say_half_of_rise(draft)
    _say_relations(draft)
    draft.find(
        "onset_intervals",
        "caveat",
        "Where between two checkpoints an onset lies is not known, and other sizes need not follow the line.",
        "The regression takes the logarithm of the onset as normal about its size, and sizes as normal about the line.",
        "For the largest derivative the interval is itself a 95% interval of a fitted curve.",
    )


def _say_half_of_rise(draft: ResultBuilder) -> None:
    rises = draft.tables["onset_by_size"].filter(pl.col("definition") == HALF_OF_RISE)
    if not rises["n_reached"].sum():
        draft.find("onset_intervals", "half_of_rise", "No run is known to reach half of a rise.")
        return
    resampled = draft.bootstraps > 0 and (rises["n_runs"] > 1).any()
    sizes: dict[str, list[str]] = {}  # by the interval in words, those that have it
    for row in rises.to_dicts():
        alone = resampled and row["n_runs"] == 1
        ends = ("lower", "upper") if resampled and not alone else ("median_lower", "median_upper")
        one = " (one run: no spread over seeds)" if alone else ""
        sizes.setdefault(f"{_between(*(row[end] for end in ends))}{one}", []).append(row["size"])
    said = [f"{words} for {listed(names)}." for words, names in sizes.items()]
    draft.find(
        "onset_intervals",
        "half_of_rise",
        f"The median run reaches half of its rise {said[0]}",
        *(f"It does so {words}" for words in said[1:]),
        "These 95% intervals allow for the gaps between checkpoints and for the spread over seeds."
        if resampled
        else "This allows for the gaps between checkpoints, not for the spread over seeds.",
        sizes=rises.to_dicts(),
    )


def _say_relations(draft: ResultBuilder) -> None:
    """How onset goes with size by the definitions that allow a slope: how many intervals leave no change out, and the
    extremes with their intervals."""
    table = draft.tables["onset_relations"]
    slopes = table.drop_nulls("slope").sort("slope")
    if not slopes.height:
        return
    decades, words = draft.heads.size_step
    known = slopes["lower"].count() + slopes["upper"].count() > 0
    ends = [slopes.row(0, named=True), *([slopes.row(-1, named=True)] if slopes.height > 1 else [])]
    factors = [f"{10 ** (decades * row['slope']):.2g} ({row['definition']})" for row in ends]
    draft.find(
        "onset_intervals",
        "relation",
        _directions(slopes) if known else None,
        f"{capital(words)} changes the step of the onset by a factor of {' to '.join(factors)}.",
        f"The 95% {'intervals are' if len(ends) > 1 else 'interval is'} "
        f"{listed([_interval(row, decades) for row in ends])}."
        if known
        else "Two sizes cannot tell how sizes scatter, so there is no interval.",
        _steps(slopes, draft.heads.sizes["size"].to_list()) if known else None,
        _not_compared(table.height - slopes.height),
        n_compared=slopes.height,
        n_definitions=table.height,
    )


def _not_compared(n: int) -> str | None:
    if not n:
        return None
    others, them = ("definition", "it") if n == 1 else (f"{n} definitions", "them")
    return (
        f"The other {others} cannot be compared: most runs do not reach {them}, or the checkpoints leave {them} open."
    )


def _directions(slopes: pl.DataFrame) -> str:
    """By how many definitions larger sizes start earlier, or later; an end that is not there is at infinity."""
    earlier = slopes.filter(pl.col("upper").fill_null(np.inf) < 0).height
    later = slopes.filter(pl.col("lower").fill_null(-np.inf) > 0).height
    of = f"of {count(slopes.height, 'definition')} that can be compared"
    if not earlier and not later:
        return f"By none {of} do larger models clearly start earlier or later."
    said = [f"{when} by {n}" for when, n in (("earlier", earlier), ("later", later)) if n]
    return f"Larger models start {' and '.join(said)} {of}."


_CLEAR_GAIN = 2.0  # log-likelihood: the step is then seven times as likely as the line


def _steps(slopes: pl.DataFrame, sizes: list[str]) -> str | None:
    """By how many definitions a step between two sizes fits clearly better than a line over all of them."""
    better = slopes.filter(pl.col("step_gain") > _CLEAR_GAIN)
    if not better.height:
        return None
    (after, n), *_ = better["step_after"].value_counts(sort=True).sort("count", "step_after", descending=True).rows()
    rest = sizes[sizes.index(after) + 1 :]
    return f"By {n} of {count(slopes.height, 'definition')} one step between {after} and {rest[0]} fits better than a line."


def _interval(row: dict[str, Any], decades: float) -> str:
    low = 10 ** (decades * row["lower"]) if row["lower"] is not None else 0.0
    return f"{low:.2g}–{10 ** (decades * row['upper']):.2g}" if row["upper"] is not None else f"{low:.2g} or more"


def _between(low: float | None, high: float | None) -> str:
    if high is None:
        return f"after step {low:,.0f}, if at all," if low is not None else "at a step that is not known"
    if low is None:
        return f"by step {high:,.0f}"
    return f"between steps {low:,.0f} and {high:,.0f}"
