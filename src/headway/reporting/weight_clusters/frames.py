"""Tables of the study prepared for charts: filtered, renamed and joined. Only positions on an axis are computed."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl

from headway.reporting.context import View
from headway.studies.weight_clusters import main_series

Tables = Mapping[str, pl.DataFrame]

KINDS = ("Q", "K", "V", "O", "QK", "OV")
METRICS = {
    "silhouette": "Silhouette",
    "group_silhouette": "Silhouette of the best groups of directions",
    "silhouette_final": "Silhouette of the final groups, followed back",
    "centre_distance": "Distance between centres",
    "within_variance": "Variance within clusters",
    "separation_ratio": "Separation ratio",
    "between_share": "Share of variance between clusters",
    "wasserstein": "Wasserstein distance of weights",
    "mean_change": "Mean change of a weight since the step before",
    "largest_change": "Largest change of a weight since the step before",
    "stability": "Stability under resampling (adjusted Rand index)",
    "gap": "Gap statistic",
}
_CHANGES = ("mean_change", "largest_change")
MEAN_OF_RUNS = "mean of runs"
_MOST_ROWS = 150_000  # of heads, or of bands, so that the page stays within a few megabytes
# Metrics whose band can be drawn: the columns of the nulls' quantiles, and of the run's own value at step 0.
_BANDS = {
    "silhouette": ("null_low", "null_median", "null_high"),
    "between_share": ("covariance_low", "covariance_median", "covariance_high"),
}


def _upper() -> pl.Expr:
    return pl.col("kind").str.to_uppercase()


def _on_axis() -> pl.Expr:
    return (pl.col("step") + 1).alias("step_modded")


def _place() -> pl.Expr:
    """Name the layers of a selection, such as 3 or 3+4."""
    return pl.col("layers").list.eval(pl.element().cast(pl.String)).list.join("+").alias("place")


def last_steps(lines: pl.DataFrame) -> pl.DataFrame:
    return lines.filter(pl.col("step") == pl.col("step").max().over("run"))


def _lines(tables: Tables) -> pl.DataFrame:
    return main_series(tables["timeline"]).with_columns(_upper(), _on_axis())


def _counts(tables: Tables) -> pl.DataFrame:
    """The number of groups of each layer at each step at which groups were searched for."""
    return _lines(tables).filter(pl.col("group_k").is_not_null())


def _last(tables: Tables) -> pl.DataFrame:
    return last_steps(_lines(tables))


def _outliers(tables: Tables) -> pl.DataFrame:
    """Heads whose norm departed from the others, and heads alone in a cluster of raw weights at the last step."""
    lone = _last(tables).filter(pl.col("feature") == "raw").select("run", "layer", "kind", "lone_heads")
    beside = tables["outliers"].with_columns(_upper()).join(lone, on=["run", "layer", "kind"], how="left")
    alone = pl.col("lone_heads").list.contains(pl.col("head")).fill_null(False)
    return (
        beside.with_columns(alone=alone)
        .filter(pl.col("left") | pl.col("alone"))
        .drop("lone_heads")
        .sort("left", "norm_ratio", descending=True, maintain_order=True)
    )


def _bands(tables: Tables) -> pl.DataFrame:
    """One row per metric of k-means that has a band, k, layer and step: `value`, the nulls' `low`, `median` and `high`, and
    `start`, the value at the run's own step 0."""
    found = _thinned(tables["timeline"].filter(pl.col("clustering") == "kmeans"))
    series = ["run", "layer", "kind", "feature", "k"]
    at_start = found.filter(pl.col("step") == 0)
    parts = [
        found.select(*series, "step", _on_axis(), "p", value=metric, low=low, median=median, high=high)
        .join(at_start.select(*series, start=metric), on=series, how="left", maintain_order="left")
        .with_columns(_upper(), metric=pl.lit(METRICS[metric]))
        for metric, (low, median, high) in _BANDS.items()
    ]
    return pl.concat(parts)


NULL_NAMES = {"directions": "random directions", "initial": "normal weights", "permutation": "permuted weights"}


def _nulls(tables: Tables) -> pl.DataFrame:
    """One row per null whose band is of the silhouette, k, layer and step: `low`, `median`, `high`, and the `silhouette`."""
    found = _thinned(tables["timeline"].filter(pl.col("clustering") == "kmeans"))
    place = ("run", "layer", "kind", "feature", "k", "step", "silhouette")
    parts = [
        found.select(
            *place, _on_axis(), null=pl.lit(name), **{end: f"{null}_{end}" for end in ("low", "median", "high")}
        )
        for null, name in NULL_NAMES.items()
    ]
    return pl.concat(parts).drop_nulls("high").with_columns(_upper())


def _published_timeline(tables: Tables) -> pl.DataFrame:
    """The cells of the published table: a column a kind with its silhouette, then both verdicts. `bold` marks groups."""
    rows = tables["published_timeline"].with_columns(_upper())
    place = ("run", "layer", "step")
    kinds = rows.select(
        *place,
        column="kind",
        text=pl.col("silhouette").round(3).cast(pl.String),
        bold=pl.col("groups").fill_null(False),
    )
    once = rows.unique(place, keep="first", maintain_order=True)
    verdicts = [
        once.select(*place, column=pl.lit(title), text=name, bold=pl.lit(False))
        for name, title in (("published", PUBLISHED_VERDICT), ("corrected", CORRECTED_VERDICT))
    ]
    return pl.concat([kinds, *verdicts])


def _three_digits(column: str) -> pl.Expr:
    return pl.col(column).map_elements("{:.3f}".format, return_dtype=pl.String)


PUBLISHED_VERDICT, CORRECTED_VERDICT = "Published rule", "With controls"


def _readings(tables: Tables) -> pl.DataFrame:
    """One row per layer, step and `reading` of the fused weight: `value`, the silhouette."""
    names = {"silhouette": "by head", "silhouette_published_layout": "as published"}
    index = ["run", "layer", "kind", "step"]
    long = tables["layouts"].unpivot(on=list(names), index=index, variable_name="reading")
    return long.with_columns(_upper(), _on_axis(), pl.col("reading").replace_strict(names))


def _metrics(tables: Tables) -> pl.DataFrame:
    """One row per metric of raw weights: `metric` by its title, `value`, and for a change, `since` which step."""
    index = ["run", "layer", "kind", "step", "step_modded"]
    raw = _lines(tables).filter(pl.col("feature") == "raw")
    long = raw.unpivot(on=list(METRICS), index=[*index, "previous_step"], variable_name="metric")
    since = pl.when(pl.col("metric").is_in(_CHANGES)).then(pl.format("since step {}", "previous_step"))
    return long.drop_nulls("value").select(*index, pl.col("metric").replace_strict(METRICS), "value", since=since)


def _heads(tables: Tables) -> pl.DataFrame:
    """Each head by its raw weights: norm, place on the maps with the variance that they explain (`words`), and whether it
    is in one cluster with head 0.

    Labels of clusters are arbitrary at each step; being with head 0 is not.
    """
    raw = _thinned(tables["heads"].filter(pl.col("feature") == "raw"))
    key = ["run", "step", "layer", "kind"]
    of_first = raw.filter(pl.col("head") == 0).select(*key, first="cluster")
    group = (
        pl.when(pl.col("cluster").is_null())
        .then(pl.lit("no clusters"))
        .when(pl.col("cluster") == pl.col("first"))
        .then(pl.lit("with head 0"))
        .otherwise(pl.lit("apart from it"))
    )
    joined = raw.join(of_first, on=key, how="left", maintain_order="left").join(
        _explained(tables["explained"]), on=key, how="left", maintain_order="left"
    )
    return joined.with_columns(_upper(), _on_axis(), group=group).sort("run", "layer", "kind", "step", "head")


def _explained(table: pl.DataFrame) -> pl.DataFrame:
    """Describe the share of variance of the two components of each map."""
    raw = table.filter(pl.col("feature") == "raw", pl.col("component") <= 2)
    wide = raw.pivot("component", index=["run", "step", "layer", "kind"], values="share")
    if "2" not in wide.columns:  # two heads that differ have one component
        wide = wide.with_columns(pl.lit(0.0).alias("2"))
    percent = [(pl.col(n) * 100).round(0).cast(pl.Int64).cast(pl.String) for n in ("1", "2")]
    return wide.with_columns(words=pl.format("{}% and {}% of the variance", *percent)).drop("1", "2")


def _thinned(table: pl.DataFrame) -> pl.DataFrame:
    """Keep evenly spaced steps, with the first and the last, if there are too many to draw."""
    steps = table["step"].unique().sort()
    kept = int(len(steps) * _MOST_ROWS / max(table.height, 1))
    if kept >= len(steps):
        return table
    at = np.unique(np.linspace(0, len(steps) - 1, max(kept, 2)).round().astype(int))
    return table.filter(pl.col("step").is_in(steps.gather(at).implode()))


def _transitions(tables: Tables) -> pl.DataFrame:
    """Positions of changes on the axis of step + 1."""
    ends = {"change_low": "low", "change_high": "high", "change_to": "to", "published_to": "published"}
    return tables["transitions"].with_columns(
        _upper(),
        pl.col("run").fill_null(MEAN_OF_RUNS),
        pl.col("change").fill_null("not asked"),
        *(((pl.col(column) + 1).cast(pl.Int64)).alias(f"{name}_modded") for column, name in ends.items()),
    )


def _agreement(tables: Tables) -> pl.DataFrame:
    there = main_series(tables["composition"]).filter(pl.col("ari_previous").is_not_null())
    return there.with_columns(_upper(), _on_axis())


def _effects(tables: Tables) -> pl.DataFrame:
    """Each effect in the columns that `charts.forms.against_chance` draws; `label` names the layers and the heads."""
    return (
        tables["effects"]
        .with_columns(_place(), _upper())
        .sort("run", "kind", "operation", "layers", "cluster", "other_cluster", "step")
        .with_columns(
            label=pl.format("layer {}: {}", "place", "heads"),
            chance_lower="kl_control_low",
            chance="kl_control_median",
            chance_upper="kl_control_high",
        )
    )


def _top_words(tables: Tables) -> pl.DataFrame:
    named = tables["top_words"].with_columns(_place(), _upper())
    return last_steps(named).with_columns(label=pl.format("layer {}: {}", "place", "heads"))


def _prompts(tables: Tables) -> pl.DataFrame:
    return tables["prompts"].with_columns(_place(), _upper())


def _answers(tables: Tables) -> pl.DataFrame:
    named = tables["answers"].with_columns(_place(), _upper())
    return named.with_columns(label=pl.format("layer {}, {}", "place", "kind"))


def _with_kind(table: str) -> View:
    return View((table,), lambda tables: tables[table].with_columns(_upper()))


VIEWS: dict[str, View] = {
    "lines": View(("timeline",), _lines),
    "last": View(("timeline",), _last),
    "bands": View(("timeline",), _bands),
    "nulls": View(("timeline",), _nulls),
    "published_timeline": View(("published_timeline",), _published_timeline),
    "counts": View(("timeline",), _counts),
    "metrics": View(("timeline",), _metrics),
    "heads": View(("heads", "explained"), _heads),
    "tsne": View(("heads", "explained"), lambda tables: _heads(tables).filter(pl.col("tsne1").is_not_null())),
    "transitions": View(("transitions",), _transitions),
    "agreement": View(("composition",), _agreement),
    "seed_means": View(("seed_means",), lambda tables: tables["seed_means"].with_columns(_upper(), _on_axis())),
    "published": _with_kind("published"),
    "outliers": View(("outliers", "timeline"), _outliers),
    "layouts": View(("layouts",), lambda tables: last_steps(tables["layouts"].with_columns(_upper()))),
    "readings": View(("layouts",), _readings),
    "effects": View(("effects",), _effects),
    "conventions": View(("conventions",), lambda tables: last_steps(tables["conventions"].with_columns(_upper()))),
    "top_words": View(("top_words",), _top_words),
    "prompts": View(("prompts",), _prompts),
    "answers": View(("answers",), _answers),
    "answers_by_task": View(("answers_by_task",), lambda tables: last_steps(tables["answers_by_task"])),
}

__all__ = ["KINDS", "VIEWS", "last_steps"]
