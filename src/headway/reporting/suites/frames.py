"""Tables of the study prepared for charts. Only positions on an axis are computed."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from headway.reporting.context import View

Tables = Mapping[str, pl.DataFrame]
TOKENS, STEPS = "tokens seen", "training step + 1"
_COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#aa3377", "#66ccee", "#bb5566", "#004488")


def colours(names: list[str]) -> dict[str, str]:
    """The colour of each suite, the same in every figure; beyond eight suites they repeat."""
    return {name: _COLOURS[place % len(_COLOURS)] for place, name in enumerate(names)}


def _on_both_axes(frame: pl.DataFrame) -> pl.DataFrame:
    """Each row once for each axis (`axis`), at its place `x` there. Rows without known tokens have no place on that axis.

    Tokens of an untrained model are 0, which a logarithmic axis cannot show.
    """
    tokens = frame.filter(pl.col("tokens_seen") > 0).with_columns(
        axis=pl.lit(TOKENS), x=pl.col("tokens_seen").cast(pl.Float64)
    )
    steps = frame.with_columns(axis=pl.lit(STEPS), x=(pl.col("step") + 1).cast(pl.Float64))
    return pl.concat([tokens, steps])


def _curves(tables: Tables) -> pl.DataFrame:
    """The trajectories of runs, and their means over the runs of a size (`kind`), on both axes."""
    columns = ("suite", "run", "size", "seed", "step", "tokens_seen", "role", "value")
    runs = tables["trajectories"].select(*columns, kind=pl.lit("run"))
    no_run = {name: pl.lit(None, pl.String) for name in ("run", "seed")}
    means = tables["trajectory_means"].with_columns(**no_run, kind=pl.lit("mean")).rename({"mean": "value"})
    return _on_both_axes(pl.concat([runs, means], how="diagonal_relaxed"))


def _spans(tables: Tables) -> pl.DataFrame:
    """Each onset from `start` to `end` on both axes. One that was not reached stands at the last step: `open`."""
    firsts = tables["firsts"].with_columns(
        open=pl.col("upper").is_null(), label=pl.concat_str("size", pl.lit(" · "), "seed")
    )
    steps = firsts.with_columns(
        axis=pl.lit(STEPS), start=(pl.col("lower").fill_null(0) + 1).cast(pl.Float64),
        end=(pl.coalesce("upper", "last") + 1).cast(pl.Float64),
    )  # fmt: skip
    tokens = firsts.with_columns(
        axis=pl.lit(TOKENS), end=pl.coalesce("upper_tokens", "last_tokens").cast(pl.Float64)
    ).with_columns(
        # Onsets after 0 tokens have no start on a logarithmic axis: a bar from a tenth of the end stands for them.
        start=pl.when(pl.col("lower_tokens") > 0)
        .then(pl.col("lower_tokens").cast(pl.Float64))
        .otherwise(pl.col("end") / 10)
    )
    return pl.concat([tokens.filter(pl.col("end") > 0), steps], how="diagonal_relaxed")


VIEWS: dict[str, View] = {
    "curves": View(("trajectories", "trajectory_means"), _curves),
    "spans": View(("firsts",), _spans),
}
