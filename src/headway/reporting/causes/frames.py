"""The study's tables with what an axis needs beside them."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from headway.reporting.context import View

Tables = Mapping[str, pl.DataFrame]
_BEYOND = 3.0  # an open interval is drawn up to this many times the last finite end


def _onsets(tables: Tables) -> pl.DataFrame:
    """The interval of each run's onset on the axis of steps + 1. Runs without an onset have a bar of no length at their end."""
    frame = tables["onsets"]
    return frame.with_columns(
        start=pl.when(pl.col("by").is_null()).then("after").otherwise(pl.max_horizontal("after", pl.lit(1.0))),
        end=pl.coalesce("by", "after"),
        reached=pl.when(pl.col("by").is_null()).then(pl.lit("no onset")).otherwise(pl.lit("onset within the bar")),
        # Runs of a level stand below one another.
        place=pl.col("run").rank("ordinal").over("factor", "level", "outcome"),
        from_step=pl.col("after") - 1,
        to_step=pl.col("by") - 1,
    )


def _effects(tables: Tables) -> pl.DataFrame:
    """The comparisons, with a name for each, and ends of intervals that can be drawn."""
    frame = tables["effects"].drop_nulls("p")
    named = frame.with_columns(
        comparison=pl.concat_str(
            pl.col("factor").str.replace_all("_", " "), pl.lit(" "), "level", pl.lit(" against "), "against"
        )
    )
    numbers = ("estimate", "lower", "upper")
    ends = [
        value for name in numbers for value in frame.filter(what="onset")[name] if value and 0 < value < float("inf")
    ]
    low, high = (min(ends) / _BEYOND, max(ends) * _BEYOND) if ends else (0.1, 10.0)
    onset = pl.col("what") == "onset"
    return named.with_columns(
        pl.when(pl.col("estimate").is_finite() & (~onset | (pl.col("estimate") > 0))).then("estimate").alias("dot"),
        drawn_lower=pl.when(onset).then(pl.col("lower").clip(low, high)).otherwise("lower"),
        drawn_upper=pl.when(onset).then(pl.col("upper").clip(low, high)).otherwise("upper"),
    )


def _ratios(tables: Tables) -> pl.DataFrame:
    return _effects(tables).filter(what="onset")


def _differences(tables: Tables) -> pl.DataFrame:
    return _effects(tables).filter(pl.col("what") != "onset")


VIEWS = {
    "onsets": View(("onsets",), _onsets),
    "ratios": View(("effects",), _ratios),
    "differences": View(("effects",), _differences),
}
