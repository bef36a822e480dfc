"""Tables of the study prepared for charts. Only positions on an axis are computed."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from headway.known_scores import ROLES
from headway.reporting.context import View

Tables = Mapping[str, pl.DataFrame]
_COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#aa3377", "#66ccee", "#bb5566", "#004488")
NO_ROLE_COLOUR = "#bbbbbb"


def colours(names: list[str]) -> dict[str, str]:
    """The colour of each role, the same in all chapters; roles of one's own take what is left, and repeat beyond eight."""
    own = (name for name in names if name not in ROLES)
    place = {name: place for place, name in enumerate([*ROLES, *own])}
    return {name: _COLOURS[place[name] % len(_COLOURS)] for name in names}


def _spans(tables: Tables) -> pl.DataFrame:
    """Each onset on the axis of step + 1: `start` to `end`. One that was not reached stands at the last step: `open`."""
    return tables["firsts"].with_columns(
        start=pl.col("lower").fill_null(0) + 1,
        end=pl.coalesce("upper", "last") + 1,
        open=pl.col("upper").is_null(),
    )


def _shares(tables: Tables) -> pl.DataFrame:
    """Holders of each run, and their mean over the runs of a size (`kind`)."""
    columns = ("run", "size", "seed", "step", "role", "n_heads", "share")
    of_runs = tables["holders"].select(*columns, kind=pl.lit("run")).cast({"n_heads": pl.Float64})
    no_run = {name: pl.lit(None, pl.String) for name in ("run", "seed")}
    means = tables["holder_means"].with_columns(**no_run, kind=pl.lit("mean")).select(of_runs.columns)
    return pl.concat([of_runs, means]).with_columns(step_modded=pl.col("step") + 1)


def _changes(tables: Tables) -> pl.DataFrame:
    return tables["changes"].with_columns(
        share=pl.col("n") / pl.col("n_one"),
        ratio=pl.when(pl.col("expected") > 0).then(pl.col("n") / pl.col("expected")),
    )


VIEWS: dict[str, View] = {
    "spans": View(("firsts",), _spans),
    "shares": View(("holders", "holder_means"), _shares),
    "change_cells": View(("changes",), _changes),
}
