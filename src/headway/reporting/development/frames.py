"""The study's tables with the columns that charts draw: picked, and joined end to end; nothing is computed."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import polars as pl

Tables = Mapping[str, pl.DataFrame]
_RUN = ("run", "size", "seed", "n_params")
_SIZE = ("size", "n_params")
_PLACE = pl.col("layer", "head")


def prepared(tables: Tables) -> dict[str, pl.DataFrame]:
    """Every table of `_FRAMES` that can be made of `tables`; one that lacks a column counts as absent."""
    made = {}
    for name, make in _FRAMES.items():
        try:
            made[name] = make(tables)
        except (KeyError, pl.exceptions.ColumnNotFoundError):
            continue
    return made


def _pick(table: str, *columns: str | pl.Expr) -> Callable[[Tables], pl.DataFrame]:
    return lambda tables: tables[table].select(*columns)


def _over_time(tables: Tables) -> pl.DataFrame:
    """Each run's largest head, the seeds' mean, and the overall GAM on every size's panel; `kind` tells them apart."""
    sizes = tables["runs"].select(_SIZE).unique(maintain_order=True)
    seeds = tables["trajectories"].select(pl.lit("seed").alias("kind"), *_RUN, "step", "step_modded", _PLACE, "value")
    means = tables["trajectory_means"].select(
        pl.lit("mean").alias("kind"), *_SIZE, "step", "step_modded", "n_seeds", value="mean"
    )
    frames = [seeds, means]
    if "growth_gam" in tables:
        curve = tables["growth_gam"].select("step_modded", "lower", "upper", value="fit").join(sizes, how="cross")
        frames.append(curve.with_columns(kind=pl.lit("gam")))
    return pl.concat(frames, how="diagonal_relaxed")


def _onset_spans(tables: Tables) -> pl.DataFrame:
    """The interval of each run's onset on the axis of step + 1; open ends reach to the ends of the grid."""
    runs = tables["runs"].select("run", "first_step", "last_step")
    return (
        tables["onset_intervals"]
        .join(runs, on="run", how="left", maintain_order="left")
        .select(
            *_RUN,
            "definition",
            "lower",
            "upper",
            "censoring",
            start=pl.coalesce("lower", "first_step") + 1,
            end=pl.coalesce("upper", "last_step") + 1,
        )
    )


def _sizes_spans(tables: Tables) -> pl.DataFrame:
    ends = ("median_lower", "median_upper", "lower", "upper")
    last = pl.lit(tables["runs"]["last_step"].max())
    on_axis = {f"{end}_modded": pl.coalesce(end, last if end.endswith("upper") else pl.lit(0)) + 1 for end in ends}
    return tables["onset_by_size"].select(*_SIZE, "definition", *ends, "n_runs", "n_reached", **on_axis)


def _emergence(tables: Tables) -> pl.DataFrame:
    """The two steps of each run's GAM, one below the other."""
    published = tables["emergence"].select(*_RUN, what=pl.lit("largest fitted value"), step="largest_fitted_step")
    derivative = tables["emergence"].select(
        *_RUN, "lower", "upper", what=pl.lit("largest derivative"), step="largest_derivative_step"
    )
    both = pl.concat([published, derivative], how="diagonal_relaxed")
    return both.with_columns(
        step_modded=pl.col("step") + 1, **{f"{e}_modded": pl.col(e) + 1 for e in ("lower", "upper")}
    )


def _outcome(name: str, table: str, column: str) -> Callable[[Tables], pl.DataFrame]:
    return lambda tables: tables[table].select(*_RUN, pl.col(column).alias(name))


def _lines(outcome: str) -> Callable[[Tables], pl.DataFrame]:
    return lambda tables: tables["size_lines"].filter(pl.col("outcome") == outcome).drop("outcome")


def _extrapolation(outcome: str) -> Callable[[Tables], pl.DataFrame]:
    return lambda tables: tables["extrapolation"].filter(pl.col("outcome") == outcome).drop("outcome")


def _correlations(tables: Tables) -> pl.DataFrame:
    return tables["correlations"].select(
        "run1",
        "run2",
        "cor",
        "n_steps",
        label1=pl.concat_str("size1", pl.lit(" · "), "seed1"),
        label2=pl.concat_str("size2", pl.lit(" · "), "seed2"),
    )


def _depths(tables: Tables) -> pl.DataFrame:
    return tables["top_head_depth"].with_columns(size=pl.coalesce("size", "model")).drop("model")


def _chance(table: str, *columns: str) -> Callable[[Tables], pl.DataFrame]:
    return _pick(table, *_SIZE, "chance", "chance_lower", "chance_upper", *columns)


def _lead(tables: Tables) -> pl.DataFrame:
    columns = ("final_layer", "final_head", "takes_lead_step", "takes_lead_after", "n_changes", "n_leaders")
    first = tables["runs"].select("run", "first_step")
    return (
        tables["lead"]
        .join(first, on="run", how="left", maintain_order="left")
        .select(
            *_RUN,
            *columns,
            start=pl.coalesce("takes_lead_after", "first_step") + 1,
            end=pl.col("takes_lead_step") + 1,
        )
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


def _power(tables: Tables) -> pl.DataFrame:
    return tables["seed_power"].with_columns(pair=pl.concat_str("model1", pl.lit(" and "), "model2"))


def _detection(tables: Tables) -> pl.DataFrame:
    return tables["seed_detection"].with_columns(pair=pl.concat_str("model1", pl.lit(" and "), "model2"))


def _seed_intervals(tables: Tables) -> pl.DataFrame:
    return tables["seed_intervals"].filter(pl.col("model").is_not_null()).drop("model")


def _relation_intervals(tables: Tables) -> pl.DataFrame:
    """The rows of the coefficient of log10(parameters), which are of no size."""
    return tables["seed_intervals"].filter(pl.col("model").is_null()).drop("model", "size", "n_params")


def _duplicates(tables: Tables) -> pl.DataFrame:
    """Each repeated step and the one that it equals, on the axis of step + 1."""
    kind = pl.when("neighbours").then(pl.lit("next to one another")).otherwise(pl.lit("with others between"))
    return tables["duplicates"].select(
        *_RUN, "step", "same_as", kind=kind, start=pl.col("same_as") + 1, end=pl.col("step") + 1
    )


_FRAMES: dict[str, Callable[[Tables], pl.DataFrame]] = {
    "runs": _pick("runs", *_RUN, "n_layers", "n_heads", "n_steps", "first_step", "last_step"),
    "heads": _pick("heads", "run", "size", "seed", "step", "step_modded", "layer", "head", "value"),
    "layer_maxima": _pick("final_layer_seed", *_RUN, "layer", "head", "max", "max_z"),
    "by_layer": _pick("final_by_layer", *_SIZE, "layer", "prop_layer", "mean", "lower", "upper", "n_seeds"),
    "by_depth": _pick("final_by_depth", *_SIZE, "cut", "sixth", "depth", "mean", "lower", "upper", "n_seeds"),
    "depth_gam": _pick("final_depth_gam", "prop_layer", "fit", "lower", "upper"),
    "over_time": _over_time,
    "onset": lambda tables: tables["onset"].select(*_RUN, "m_step", "n_thresholds"),
    "onset_line": _lines("onset"),
    "thresholds": lambda tables: tables["onset_thresholds"].select(
        *_RUN, "threshold", "step", step_modded=pl.col("step") + 1
    ),
    "emergence": _emergence,
    "emergence_curves": _pick(
        "emergence_curves", *_RUN, "step_modded", "fit", "derivative", "derivative_lower", "derivative_upper"
    ),
    "onset_spans": _onset_spans,
    "onset_sizes": _sizes_spans,
    "onset_shares": _pick("onset_shares", *_SIZE, "definition", "step", "step_modded", "share", "lower", "upper"),
    "onset_relations": _pick(
        "onset_relations", "definition", "slope", "lower", "upper", "bound_lower", "bound_upper", "n_reached", "n_runs"
    ),
    "peaks": _outcome("max_attn", "peaks", "max_attn"),
    "peak_line": _lines("peak"),
    "slopes": _outcome("estimate", "slopes", "estimate"),
    "slope_line": _lines("slope"),
    "correlations": _correlations,
    "mds": _pick("mds", *_RUN, "x", "y"),
    "mds_centroids": _pick("mds_centroids", *_SIZE, "centroid_x", "centroid_y", "inter", "within", "ratio"),
    "layer_agreement": _chance("layer_agreement", "w", "p", "n_seeds"),
    "layer_ranks": _pick("layer_ranks", *_SIZE, "layer", "prop_layer", "mean_rank", "top_share", "chance"),
    "top_head_depth": _depths,
    "same_place": _chance("same_place", "what", "share", "p", "n_pairs"),
    "matching": _chance("matching", "test", "observed", "p", "n_pairs"),
    "matched_heads": _pick(
        "matched_heads", "size", "seed1", "seed2", "layer1", "head1", "layer2", "head2", "distance", "same_layer"
    ),
    "final_head": _final_head,
    "final_head_means": _pick(
        "final_head_means", *_SIZE, "step", "step_modded", "mean", "lower", "upper", "share_leads", "n_seeds"
    ),
    "lead": _lead,
    "seed_intervals": _seed_intervals,
    "relation_intervals": _relation_intervals,
    "duplicates": _duplicates,
    "seed_power": _power,
    "seed_detection": _detection,
    "extrapolation_onset": _extrapolation("onset"),
    "extrapolation_peak": _extrapolation("peak"),
    "extrapolation_slope": _extrapolation("slope"),
}
