"""The study's tables with what an axis needs beside them; every other table is drawn as the study wrote it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import polars as pl

from headway.reporting.context import View

Tables = Mapping[str, pl.DataFrame]
_RUN = ("run", "size", "seed", "n_params")
_SIZE = ("size", "n_params")
APART = "n_params_apart"  # where the dot of a run stands, so that runs of a size do not cover one another
_WIDEST = 0.1  # decades of parameters that the dots of a size take up
BINS = {"depth": "sixths of each size’s layers", "rows": "sixths of all heads, as published"}


def _apart(tables: Tables, frame: pl.DataFrame) -> pl.DataFrame:
    """`frame` with each run's place on the axis of parameters: seeds of a size stand side by side, in their order."""
    seeds = tables["runs"]["seed"].unique(maintain_order=True)
    sizes = tables["runs"].filter(pl.col("n_params") > 0)["n_params"].unique().sort().log10()
    width = min([_WIDEST, *(gap / 3 for gap in sizes.diff().drop_nulls())]) if len(seeds) > 1 else 0.0
    shift = [width * (place / max(len(seeds) - 1, 1) - 0.5) for place in range(len(seeds))]
    placed = frame.join(pl.DataFrame({"seed": seeds, "shift": shift}), on="seed", how="left", maintain_order="left")
    return placed.with_columns((pl.col("n_params") * 10 ** pl.col("shift")).alias(APART)).drop("shift")


def _runs_apart(table: str) -> View:
    return View((table, "runs"), lambda tables: _apart(tables, tables[table]))


def _by_depth(tables: Tables) -> pl.DataFrame:
    return tables["final_by_depth"].with_columns(bins=pl.col("cut").replace_strict(BINS))


def _over_time(tables: Tables) -> pl.DataFrame:
    """Each run's largest head, the seeds' mean, and the overall GAM on every size's panel; `kind` tells them apart."""
    sizes = tables["runs"].select(_SIZE).unique(maintain_order=True)
    seeds = tables["trajectories"].select(
        pl.lit("seed").alias("kind"), *_RUN, "step", "step_modded", "layer", "head", "value"
    )
    means = tables["trajectory_means"].select(
        pl.lit("mean").alias("kind"), *_SIZE, "step", "step_modded", "n_seeds", value="mean"
    )
    frames = [seeds, means]
    if "growth_gam" in tables:
        curve = tables["growth_gam"].select("step_modded", "lower", "upper", value="fit").join(sizes, how="cross")
        frames.append(curve.with_columns(kind=pl.lit("gam")))
    return pl.concat(frames, how="diagonal_relaxed")


def _onset_intervals(tables: Tables) -> pl.DataFrame:
    """The interval of each run's onset on the axis of step + 1; open ends reach to the ends of the grid."""
    runs = tables["runs"].select("run", "first_step", "last_step")
    joined = tables["onset_intervals"].join(runs, on="run", how="left", maintain_order="left")
    return joined.with_columns(start=pl.coalesce("lower", "first_step") + 1, end=pl.coalesce("upper", "last_step") + 1)


def _onset_by_size(tables: Tables) -> pl.DataFrame:
    ends = ("median_lower", "median_upper", "lower", "upper")
    last = pl.lit(tables["runs"]["last_step"].max())
    on_axis = {f"{end}_modded": pl.coalesce(end, last if end.endswith("upper") else pl.lit(0)) + 1 for end in ends}
    return tables["onset_by_size"].with_columns(**on_axis)


def _emergence(tables: Tables) -> pl.DataFrame:
    """The two steps of each run's GAM, one below the other."""
    published = tables["emergence"].select(*_RUN, what=pl.lit("largest fitted value"), step="largest_fitted_step")
    derivative = tables["emergence"].select(
        *_RUN, "lower", "upper", what=pl.lit("largest derivative"), step="largest_derivative_step"
    )
    both = pl.concat([published, derivative], how="diagonal_relaxed")
    return _apart(tables, both).with_columns(
        step_modded=pl.col("step") + 1, **{f"{e}_modded": pl.col(e) + 1 for e in ("lower", "upper")}
    )


def _correlations(tables: Tables) -> pl.DataFrame:
    return tables["correlations"].with_columns(
        label1=pl.concat_str("size1", pl.lit(" · "), "seed1"), label2=pl.concat_str("size2", pl.lit(" · "), "seed2")
    )


def _lead(tables: Tables) -> pl.DataFrame:
    first = tables["runs"].select("run", "first_step")
    joined = tables["lead"].join(first, on="run", how="left", maintain_order="left")
    return joined.with_columns(
        start=pl.coalesce("takes_lead_after", "first_step") + 1, end=pl.col("takes_lead_step") + 1
    )


def _final_head(tables: Tables) -> pl.DataFrame:
    """The finally largest head's place in every run, and the seeds' mean; `kind` tells them apart."""
    runs = tables["final_head"].select(
        pl.lit("seed").alias("kind"), *_RUN, "step", "step_modded", "value", "largest", "rank", "n_heads", "percentile"
    )
    means = tables["final_head_means"].select(
        pl.lit("mean").alias("kind"), *_SIZE, "step", "step_modded", "lower", "upper", percentile="mean"
    )
    return pl.concat([runs, means], how="diagonal_relaxed")


def _duplicates(tables: Tables) -> pl.DataFrame:
    """Each repeated step and the one that it equals, on the axis of step + 1."""
    kind = pl.when("neighbours").then(pl.lit("next to one another")).otherwise(pl.lit("with others between"))
    return tables["duplicates"].with_columns(kind=kind, start=pl.col("same_as") + 1, end=pl.col("step") + 1)


def _with(table: str, **columns: pl.Expr) -> View:
    return View((table,), lambda tables: tables[table].with_columns(**columns))


def _rows(table: str, where: Callable[[], pl.Expr]) -> View:
    return View((table,), lambda tables: tables[table].filter(where()))


def _pairs(table: str) -> View:
    """`table` with the sizes' names of each pair."""

    def make(tables: Tables) -> pl.DataFrame:
        names = dict(tables["runs"].select("model", "size").unique().iter_rows())
        one, two = (pl.col(column).replace_strict(names) for column in ("model1", "model2"))
        return tables[table].with_columns(pair=pl.concat_str(one, pl.lit(" and "), two))

    return View((table, "runs"), make)


def _of_outcome(table: str, outcome: str) -> View:
    return _rows(table, lambda: pl.col("outcome") == outcome)


def _of_model(model: str) -> View:
    return _rows("published_robust", lambda: pl.col("model") == model)


VIEWS: dict[str, View] = {
    "over_time": View(("runs", "trajectories", "trajectory_means"), _over_time),
    "onset_line": _of_outcome("size_lines", "onset"),
    "peak_line": _of_outcome("size_lines", "peak"),
    "slope_line": _of_outcome("size_lines", "slope"),
    **{f"robust_{model}": _of_model(model) for model in ("onset", "peak", "slope", "growth", "final_layer_by_size")},
    **{f"without_size_{outcome}": _of_outcome("without_size", outcome) for outcome in ("onset", "peak", "slope")},
    "onset_thresholds": _with("onset_thresholds", step_modded=pl.col("step") + 1),
    "onset": _runs_apart("onset"),
    "peaks": _runs_apart("peaks"),
    "slopes": _runs_apart("slopes"),
    "final_by_depth": View(("final_by_depth",), _by_depth),
    "emergence": View(("emergence", "runs"), _emergence),
    "onset_intervals": View(("onset_intervals", "runs"), _onset_intervals),
    "onset_by_size": View(("onset_by_size", "runs"), _onset_by_size),
    "correlations": View(("correlations",), _correlations),
    "top_head_depth": _with("top_head_depth", size=pl.coalesce("size", "model")),
    "lead": View(("lead", "runs"), _lead),
    "final_head": View(("final_head", "final_head_means"), _final_head),
    "size_intervals": _rows("seed_intervals", lambda: pl.col("model").is_not_null()),
    "relation_intervals": _rows("seed_intervals", lambda: pl.col("model").is_null()),
    "seed_power": _pairs("seed_power"),
    "seed_detection": _pairs("seed_detection"),
    "duplicates": View(("duplicates",), _duplicates),
    "extrapolation_onset": _of_outcome("extrapolation", "onset"),
    "extrapolation_peak": _of_outcome("extrapolation", "peak"),
    "extrapolation_slope": _of_outcome("extrapolation", "slope"),
}
