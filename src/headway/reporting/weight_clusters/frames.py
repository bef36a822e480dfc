"""The study's tables as charts draw them: picked, renamed and joined; nothing is computed but places on an axis."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl

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
_MOST_ROWS = 150_000  # of heads, or of bands: what keeps the page within a few megabytes
# Metrics whose band can be drawn, and from where the nulls' quantiles come.
_BANDS = {
    "silhouette": ("null_low", "null_median", "null_high"),
    "between_share": ("covariance_low", "covariance_median", "covariance_high"),
}


def prepared(tables: Tables) -> dict[str, pl.DataFrame]:
    """The tables of the chapter that `tables` allow, all named cluster_..., so that no other chapter has them."""
    made: dict[str, pl.DataFrame] = {}
    if tables.get("timeline", pl.DataFrame()).height:
        made |= _of_clusters(tables)
    if "layouts" in tables:
        made["cluster_layouts"] = last_steps(tables["layouts"].with_columns(upper()))
        made["cluster_readings"] = readings(tables["layouts"])
    if tables.get("effects", pl.DataFrame()).height:
        made["cluster_effects"] = effects(tables["effects"])
    if tables.get("prompts", pl.DataFrame()).height:
        made["cluster_prompts"] = tables["prompts"].with_columns(place(), upper())
        made["cluster_answers"] = answers(made["cluster_prompts"])
    return {name: frame for name, frame in made.items() if frame.height}


def _of_clusters(tables: Tables) -> dict[str, pl.DataFrame]:
    lines = main_series(tables["timeline"]).with_columns(upper(), on_axis())
    together = heads(tables["heads"], tables["explained"])
    return {
        "cluster_lines": lines.select(
            "run", "size", "layer", "kind", "feature", "step", "step_modded", "silhouette", "null_high", "excess", "p", "q",
            "beyond", "groups", "p_groups", "q_groups",
        ),
        "cluster_bands": bands(tables["timeline"]),
        "cluster_counts": lines.filter(pl.col("group_k").is_not_null()).select(
            "run", "layer", "kind", "feature", "step", "group_k", "group_p", "group_silhouette"
        ),
        "cluster_metrics": metrics(lines),
        "cluster_heads": together,
        "cluster_tsne": together.filter(pl.col("tsne1").is_not_null()),
        "cluster_transitions": transitions(tables["transitions"]),
        "cluster_agreement": main_series(tables["composition"])
        .filter(pl.col("ari_previous").is_not_null())
        .select("run", "layer", upper(), "feature", "step", on_axis(), "ari_previous"),
        "cluster_seeds": seeds(main_series(tables["seeds"])),
        "cluster_published": tables["published"].with_columns(upper()),
        "cluster_last": last_steps(lines),
        "cluster_outliers": outliers(tables["outliers"], last_steps(lines)),
    }  # fmt: skip


def upper() -> pl.Expr:
    return pl.col("kind").str.to_uppercase()


def on_axis() -> pl.Expr:
    return (pl.col("step") + 1).alias("step_modded")


def place() -> pl.Expr:
    """The layers of a selection, such as 3 or 3+4."""
    return pl.col("layers").list.eval(pl.element().cast(pl.String)).list.join("+").alias("place")


def last_steps(lines: pl.DataFrame) -> pl.DataFrame:
    return lines.filter(pl.col("step") == pl.col("step").max().over("run"))


def outliers(table: pl.DataFrame, last: pl.DataFrame) -> pl.DataFrame:
    """Heads that left the others by their norm, or are alone in a cluster of raw weights at the last step."""
    lone = last.filter(pl.col("feature") == "raw").select("run", "layer", "kind", "lone_heads")
    beside = table.with_columns(upper()).join(lone, on=["run", "layer", "kind"], how="left")
    alone = pl.col("lone_heads").list.contains(pl.col("head")).fill_null(False)
    return (
        beside.with_columns(alone=alone)
        .filter(pl.col("left") | pl.col("alone"))
        .drop("lone_heads")
        .sort("left", "norm_ratio", descending=True, maintain_order=True)
    )


def bands(timeline: pl.DataFrame) -> pl.DataFrame:
    """One row per metric of k-means that has a band, k, layer and step: `value`, the nulls' `low`, `median` and `high`, and
    `start`, the value at the run's own step 0."""
    found = _thinned(timeline.filter(pl.col("clustering") == "kmeans"))
    parts = [
        found.select(
            "run", "layer", upper(), "feature", "k", "step", on_axis(), "p", metric=pl.lit(METRICS[metric]), value=metric,
            low=low, median=median, high=high,
            start=pl.col(metric).filter(pl.col("step") == 0).first().over("run", "layer", "kind", "feature", "k"),
        )
        for metric, (low, median, high) in _BANDS.items()
    ]  # fmt: skip
    return pl.concat(parts)


def readings(table: pl.DataFrame) -> pl.DataFrame:
    """One row per layer, step and `reading` of the fused weight: `value`, the silhouette."""
    names = {"silhouette": "by head", "silhouette_published_layout": "as published"}
    index = ["run", "layer", "kind", "step"]
    long = table.unpivot(on=list(names), index=index, variable_name="reading")
    return long.with_columns(upper(), on_axis(), pl.col("reading").replace_strict(names))


def metrics(lines: pl.DataFrame) -> pl.DataFrame:
    """One row per metric of raw weights: `metric` by its title, `value`, and for a change, `since` which step."""
    index = ["run", "layer", "kind", "step", "step_modded"]
    raw = lines.filter(pl.col("feature") == "raw")
    long = raw.unpivot(on=list(METRICS), index=[*index, "previous_step"], variable_name="metric")
    since = pl.when(pl.col("metric").is_in(_CHANGES)).then(pl.format("since step {}", "previous_step"))
    return long.drop_nulls("value").select(*index, pl.col("metric").replace_strict(METRICS), "value", since=since)


def heads(table: pl.DataFrame, explained: pl.DataFrame) -> pl.DataFrame:
    """Each head by its raw weights: norm, place on the maps, and whether it is in one cluster with head 0.

    Labels of clusters are arbitrary at each step; being with head 0 is not.
    """
    key = ["run", "step", "layer", "kind", "feature"]
    shares = [
        explained.filter(pl.col("component") == component).select(*key, pl.col("share").alias(f"share{component}"))
        for component in (1, 2)
    ]
    raw = _thinned(table.filter(pl.col("feature") == "raw"))
    for share in shares:
        raw = raw.join(share, on=key, how="left")
    with_first = pl.col("cluster") == pl.col("cluster").sort_by("head").first().over(key)
    group = (
        pl.when(pl.col("cluster").is_null()).then(pl.lit("no clusters")).when(with_first).then(pl.lit("with head 0"))
    )
    return raw.select(
        "run", "layer", upper(), "step", on_axis(), "head", group.otherwise(pl.lit("apart from it")).alias("group"),
        "norm", "change", "pc1", "pc2", "tsne1", "tsne2", "share1", "share2",
    ).sort("run", "layer", "kind", "step", "head")  # fmt: skip


def _thinned(table: pl.DataFrame) -> pl.DataFrame:
    """Evenly spaced steps, the first and last among them, where all of them would be too many."""
    steps = table["step"].unique().sort()
    kept = int(len(steps) * _MOST_ROWS / max(table.height, 1))
    if kept >= len(steps):
        return table
    at = np.unique(np.linspace(0, len(steps) - 1, max(kept, 2)).round().astype(int))
    return table.filter(pl.col("step").is_in(steps.gather(at).implode()))


def transitions(table: pl.DataFrame) -> pl.DataFrame:
    """Places of changes on the axis of step + 1."""
    ends = {"change_low": "low", "change_high": "high", "change_to": "to", "published_to": "published"}
    return table.with_columns(
        upper(),
        pl.col("run").fill_null(MEAN_OF_RUNS),
        pl.col("change").fill_null("not asked"),
        *(((pl.col(column) + 1).cast(pl.Float64)).alias(f"{name}_modded") for column, name in ends.items()),
    )


def seeds(table: pl.DataFrame) -> pl.DataFrame:
    """The mean agreement of all pairs of runs of a size, by layer and step."""
    return (
        table.with_columns(upper())
        .group_by("size", "layer", "kind", "feature", "step", maintain_order=True)
        .agg(ari=pl.col("ari").mean(), n_pairs=pl.len())
        .with_columns(on_axis())
    )


def effects(table: pl.DataFrame) -> pl.DataFrame:
    """Each effect in the columns that `charts.forms.against_chance` draws; `label` names the layers and the heads."""
    return (
        table.with_columns(place(), upper())
        .sort("run", "kind", "operation", "layers", "cluster", "other_cluster", "step")
        .with_columns(
            label=pl.format("layer {}: {}", "place", "heads"),
            chance_lower="kl_control_low",
            chance="kl_control_median",
            chance_upper="kl_control_high",
        )
    )


def answers(table: pl.DataFrame) -> pl.DataFrame:
    """One row per run, step, layers and kind: how often the clusters' answers differ, and those of random groups."""
    once = table.unique(["run", "step", "layers", "kind", "clustering", "prompt"], keep="first", maintain_order=True)
    shares = once.group_by("run", "step", "place", "kind", maintain_order=True).agg(
        pl.col("clusters_differ").cast(pl.Float64).mean().alias("clusters"),
        pl.col("controls_differ").mean().alias("random groups"),
        n_prompts=pl.len(),
    )
    return shares.with_columns(label=pl.format("layer {}, {}", "place", "kind")).unpivot(
        on=["clusters", "random groups"],
        index=["run", "step", "label", "n_prompts"],
        variable_name="of",
        value_name="share",
    )
