"""The peak beside figures that do not grow with the number of heads: the largest of many is large by chance alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from headway.stats.distributions import t_quantile
from headway.studies.development.builder import ResultBuilder
from headway.studies.development.growth import stopped_early
from headway.studies.development.heads import RUN_COLUMNS, Heads
from headway.studies.development.robust import line_over_sizes
from headway.studies.prose import LEVEL
from headway.text import listed

Array = NDArray[np.float64]

LARGEST = "largest head"
_QUANTILES = (0.95, 0.75, 0.5)


def peak_definitions(draft: ResultBuilder) -> None:
    """Adds each run's peak by definition, and how it goes with size by each; a sentence where the definitions disagree."""
    heads = draft.heads
    peaks = by_definition(heads)
    if not peaks.height:
        reason = "no run was followed to the end over two distinct steps"
        draft.leave_out("beyond.peak_definitions", reason, ["peak_definitions", "peak_by_definition"])
        return
    draft.tables["peak_definitions"] = peaks
    rows = []
    for (definition,), of in peaks.group_by("definition", maintain_order=True):
        line = line_over_sizes(of.filter(pl.col("n_params") > 0).with_columns(y="peak"))
        if line is not None:
            half = float(t_quantile(0.975, line["df"])) * line["std_error"]
            ends = {"lower": line["estimate"] - half, "upper": line["estimate"] + half}
            rows.append({"definition": definition, **{name: (line | ends)[name] for name in _NUMBERS}})
    if not rows:
        reason = "a line over sizes with an error needs three sizes of different n_params"
        draft.leave_out("beyond.peak_definitions", reason, ["peak_by_definition"])
        return
    draft.tables["peak_by_definition"] = pl.DataFrame(rows, schema={"definition": pl.String(), **_NUMBERS})
    draft.put("beyond.peak_definitions", {row["definition"]: row["estimate"] for row in rows})
    _say(draft, rows)


_NUMBERS = {name: pl.Float64() for name in ("estimate", "std_error", "df", "t", "p", "lower", "upper")}


def by_definition(heads: Heads) -> pl.DataFrame:
    """The largest value over steps of each figure of a run's heads: run…, definition, peak.

    Figures: the largest head; the expected largest of as many heads as the smallest size has, drawn without replacement;
    of a ratio, the head with the largest numerator; quantiles; the mean. Runs of which the peak is not known are left out.
    """
    whole = pl.col("run").is_in(heads.followed) & ~pl.col("run").is_in(stopped_early(heads))
    runs = heads.runs.filter(whole)
    equal = int((heads.runs["n_layers"] * heads.runs["n_heads"]).cast(pl.Int64).min() or 1)  # type: ignore[arg-type]
    columns = heads.frame.lazy().select("run", "step", "value", "numerator")
    frame = columns.filter(pl.col("run").is_in(runs["run"].to_list())).collect()
    led = [f"head with the most {heads.score.numerator}"] if frame.height and not frame["numerator"].has_nulls() else []
    names = [LARGEST, f"expected largest of {equal} heads", *led, *map(_quantile_name, _QUANTILES), "mean head"]
    steps = frame.group_by("run", "step", maintain_order=True).len()
    values = frame["value"].to_numpy()
    numerators = frame["numerator"].to_numpy() if led else None
    figures = _figures(values, numerators, steps["len"].to_numpy().astype(int), equal)
    highest = steps.select("run").hstack(pl.DataFrame(figures, schema=names)).group_by("run").max()
    peaks = runs.select("run").join(highest, on="run", maintain_order="left")
    return pl.concat(runs.select(RUN_COLUMNS).with_columns(definition=pl.lit(name), peak=peaks[name]) for name in names)


def _figures(values: Array, numerators: Array | None, lengths: NDArray[np.integer], equal: int) -> Array:
    """The figures of each step (steps, figures), in the order of their names.

    Args:
        values, numerators: of all heads, step after step.
        lengths: the number of heads at each step. Steps with equally many are summarised together.
        equal: the number of heads that are drawn.
    """
    starts = np.cumsum(lengths) - lengths
    figures = np.empty((len(lengths), 3 + len(_QUANTILES) + (numerators is not None)))
    for n in np.unique(lengths):
        which = np.flatnonzero(lengths == n)
        heads = starts[which, None] + np.arange(n)
        block = values[heads]
        found = [block.max(axis=1), expected_largest(block, equal)]
        if numerators is not None:
            leads = np.where(np.isnan(numerators[heads]), -np.inf, numerators[heads]).argmax(axis=1)
            found.append(block[np.arange(len(which)), leads])
        found += [*np.quantile(block, _QUANTILES, axis=1), block.mean(axis=1)]
        figures[which] = np.stack(found, axis=1)
    return figures


def _quantile_name(q: float) -> str:
    return "median head" if q == 0.5 else f"{q:.0%} quantile of heads"


def expected_largest(values: Array, m: int) -> Array:
    """The expected largest of `m` of the values (..., n), drawn without replacement; of all of them if there are no more.

    The k-th largest of n is the largest drawn with probability C(n - k, m - 1) / C(n, m).
    """
    from scipy.special import gammaln

    n = values.shape[-1]
    if m >= n:
        return np.asarray(values.max(axis=-1))
    k = np.arange(1, n - m + 2)
    log_chosen = gammaln(n - k + 1) - gammaln(m) - gammaln(n - k - m + 2)
    log_all = gammaln(n + 1) - gammaln(m + 1) - gammaln(n - m + 1)
    return np.asarray(np.sort(values)[..., ::-1][..., : n - m + 1] @ np.exp(log_chosen - log_all))


def _say(draft: ResultBuilder, rows: list[dict[str, Any]]) -> None:
    """Whether the direction hangs on the definition."""
    decades, _ = draft.heads.size_step
    first = rows[0]
    others = [row for row in rows[1:] if np.sign(row["estimate"]) != np.sign(first["estimate"])]
    if others:
        answer = "Whether the peak goes up or down with size changes with its definition."
    else:
        answer = "The peak goes the same way with size by all definitions."
    said = [f"{decades * row['estimate']:+.3g} ({row['definition']})" for row in (first, rows[1], rows[-1])]
    clear = [row["definition"] for row in rows if row["p"] is not None and row["p"] <= LEVEL]
    draft.find(
        "size",
        "definitions",
        answer,
        "The largest of many heads is larger by chance alone, and larger models have more heads.",
        f"The change over the same range of sizes is {listed(said)}.",
        f"It is clear for the {listed(clear)}." if clear else "By no definition is it clear.",
        key=bool(others),
        changes={row["definition"]: row["estimate"] for row in rows},
        p={row["definition"]: row["p"] for row in rows},
    )
