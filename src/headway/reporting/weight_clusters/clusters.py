"""Do heads form clusters, are they more than noise, and when do they come?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import altair as alt
import polars as pl

from headway.reporting.charts import forms
from headway.reporting.numbers import ends
from headway.reporting.parts import Control, Figure, Item, Layout, Missing, Section, Table
from headway.reporting.weight_clusters.context import NO_CLUSTERS, NO_NULLS, Context


def by_number(context: Context, table: str, column: str) -> Any:
    """Low numbers dark, high ones light: the same for every run, however many it has."""
    there = context.tables[table][column].unique().sort().to_list()
    shown = there[:: -(-len(there) // 8)]  # at most eight
    legend = alt.Legend(type="symbol", symbolType="stroke", symbolStrokeWidth=3, values=shown, format="d")
    scale = alt.Scale(range="ramp", domain=[0, max(1, there[-1])])
    return alt.Color(f"{column}:Q", title=column.capitalize(), scale=scale, legend=legend)


def kind_panels(chart: Any, context: Context, table: str) -> Any:
    return forms.panels(chart, "kind", context.kinds(table), columns=2)


def panel_layout(context: Context, table: str) -> Layout:
    return Layout(panels=len(context.kinds(table)), panel_width=230, max_columns=2)


def beyond_noise(context: Context) -> Section:
    lead = [
        "Two clusters are found in any heads. The question is whether they are better than those in heads without any."
    ]
    return context.section("beyond-noise", "Are there clusters, and are they real?", lead, _beyond_items(context))


def _beyond_items(context: Context) -> Iterator[Item]:
    if not context.has("cluster_lines"):
        yield Missing("Clusters", NO_CLUSTERS)
        return
    if context.tables["cluster_lines"]["null_high"].is_not_null().any():
        yield _map(context)
    else:
        yield Missing("Silhouette beyond the nulls", NO_NULLS)
    yield _silhouettes(context)
    yield _how_many(context) if context.has("cluster_counts") else Missing(_HOW_MANY, NO_NULLS)
    yield _outliers(context)


_HOW_MANY = "How many groups heads form"


def _how_many(context: Context) -> Figure:
    table = "cluster_counts"
    x = alt.X("step:O", title="Training step", axis=alt.Axis(labelAngle=-45))
    y = alt.Y("layer:O", title="Layer", sort="descending")
    tooltip = forms.tips(
        ("layer:O", "layer"), ("kind:N", "weights"), ("step:Q", "step", ",d"), ("group_k:Q", "groups", "d"),
        ("group_p:Q", "p", ".3~g"), ("group_silhouette:Q", "silhouette of directions", ".3f"),
    )  # fmt: skip
    color = forms.sequential("group_k", "Groups", domain=[1, max(5, context.tables[table]["group_k"].max())])  # type: ignore[type-var]
    tiles = forms.tiles(table, x, y, color, tooltip).properties(height=170)
    return Figure(
        name="clusters-how-many",
        title=_HOW_MANY,
        sentence="One means no groups. The number is uncorrected: by chance, at most 5% of tiles have more than one. Groups "
        "are sought among heads’ directions, so that norms play no part.",
        alt="Heat maps of the number of groups by layer and training step, a panel for each kind of weights.",
        chart=kind_panels(tiles, context, table),
        tables=(table,),
        controls=(context.control(table, "run", "Run"), _feature(context, table)),
        layout=panel_layout(context, table),
    )


def _map(context: Context) -> Figure:
    table = "cluster_lines"
    x = alt.X("step:O", title="Training step", axis=alt.Axis(labelAngle=-45))
    y = alt.Y("layer:O", title="Layer", sort="descending")
    tooltip = forms.tips(
        ("layer:O", "layer"),
        ("kind:N", "weights"),
        ("step:Q", "step", ",d"),
        ("silhouette:Q", "silhouette", ".3f"),
        ("null_high:Q", "95 % of the strictest null", ".3f"),
        ("p:Q", "p", ".3~g"),
        ("q:Q", "p, corrected (false discovery rate)", ".3~g"),
        ("p_groups:Q", "groups: p", ".3~g"),
        ("q_groups:Q", "groups: p, corrected", ".3~g"),
    )
    tiles = forms.tiles(table, x, y, forms.diverging("excess", "Silhouette less the nulls’ 95 %"), tooltip)
    base = alt.Chart(forms.named(table))
    marked = base.transform_filter("datum.groups").mark_point(size=28, filled=True, style="ink").encode(x=x, y=y)
    return Figure(
        name="clusters-map",
        title="Where the silhouette lies beyond what heads without clusters give",
        sentence="A dot marks heads that form groups, norms aside, corrected for all that was looked at. Warm tiles lie above "
        "95% of the strictest null by their raw weights, which differences of norm alone can do.",
        alt="Heat maps of silhouette beyond the nulls by layer and training step, a panel for each kind of weights.",
        chart=kind_panels(alt.layer(tiles, marked).properties(height=170), context, table),
        tables=(table,),
        controls=(context.control(table, "run", "Run"), _feature(context, table)),
        layout=panel_layout(context, table),
    )


def _feature(context: Context, table: str) -> Control:
    """Raw weights first, where they are there: what the published study looked at."""
    first = context.control(table, "feature", "Features")
    there = set(context.tables[table]["feature"])
    return replace(first, default="raw") if "raw" in there else first


def _silhouettes(context: Context) -> Figure:
    table = "cluster_bands"
    base = alt.Chart(forms.named(table))
    x, y = forms.step_x(), forms.value_y("value", "Value")
    band = base.mark_area(opacity=0.25, style="soft").encode(x=x, y=alt.Y("low:Q"), y2="high:Q")
    middle = base.mark_line(style="soft", strokeDash=[4, 3], strokeWidth=1.2).encode(x=x, y="median:Q")
    start = base.mark_line(style="ink", strokeDash=[1, 3], strokeWidth=1.2).encode(x=x, y="start:Q")
    line = base.mark_line(style="accent", strokeWidth=2).encode(x=x, y=y)
    dots = base.mark_point(style="accent", filled=True, size=30).encode(x=x, y=y)
    tooltip = forms.tips(
        ("step:Q", "step", ",d"),
        ("value:Q", "value", ".3f"),
        ("low:Q", "nulls: from", ".3f"),
        ("high:Q", "to", ".3f"),
        ("start:Q", "at the run’s step 0", ".3f"),
        ("p:Q", "p of all nulls", ".3~g"),
    )
    chart = alt.layer(band, middle, start, line, dots, forms.hoverable(base, x, y, tooltip)).properties(height=170)
    return Figure(
        name="clusters-silhouette",
        title="How well heads part over training, and heads without clusters",
        sentence="The line is k-means’. The band of the silhouette runs from the lowest 5 % to the highest 95 % of three nulls "
        "(random directions, normal weights as in a fresh model, permuted weights), dashed the highest median; that of the "
        "share between clusters is the central 90 % of rotated heads. Dotted is the run’s own value at step 0, if it was read.",
        alt="The chosen metric over training steps with the band of the nulls, a panel for each kind of weights.",
        chart=kind_panels(chart, context, table),
        tables=(table,),
        controls=(
            context.control(table, "run", "Run"),
            _feature(context, table),
            context.control(table, "metric", "Metric"),
            context.control(table, "k", "Clusters"),
            context.control(table, "layer", "Layer"),
        ),
        layout=panel_layout(context, table),
    )


def _outliers(context: Context) -> Item:
    title = "Single heads that left the others"
    if not context.has("cluster_outliers"):
        return Missing(title, "No head differs from the others of its layer by its norm, or is alone in a cluster.")
    return Table(
        "clusters-outliers",
        title,
        context.tables["cluster_outliers"].with_columns(
            pl.col("head").cast(pl.String),
            pl.col("layer").cast(pl.String),
            *(pl.col(name).replace_strict(_YES_NO, return_dtype=pl.String) for name in ("left", "alone")),
        ),
        {
            "run": "Run",
            "layer": "Layer",
            "kind": "Weights",
            "head": "Head",
            "norm_ratio": "Norm by the median, last step",
            "onset_after": "Left after step",
            "onset": "and by step",
            "ratio_before": "Norm by the median, before",
            "q": "p, corrected",
            "left": "Left the others",
            "alone": "Alone in a cluster of raw weights",
        },
        "The head of each layer whose norm departs most from the others’. A head alone in its cluster is an outlier: the silhouette "
        "that it makes says nothing about groups.",
    )


_YES_NO = {True: "yes", False: "no"}


def metrics(context: Context) -> Section:
    lead = ["What the published study measured, for all layers, with the change of the weights since the step before."]
    return context.section("metrics", "How do the clusters’ measures develop?", lead, _metric_items(context))


def _metric_items(context: Context) -> Iterator[Item]:
    table = "cluster_metrics"
    if not context.has(table):
        yield Missing("Metrics", NO_CLUSTERS)
        return
    base = alt.Chart(forms.named(table))
    x, y = forms.step_x(), forms.value_y("value", "Value of the metric")
    tooltip = forms.tips(("layer:O", "layer"), ("step:Q", "step", ",d"), ("metric:N", ""), ("value:Q", "value", ".4~g"),
                         ("since:N", ""))  # fmt: skip
    lines = base.mark_line(strokeWidth=1.6).encode(x=x, y=y, color=by_number(context, table, "layer"), detail="layer:N")
    hover = forms.hoverable(base, x, y, tooltip, detail="layer:N")
    chart = kind_panels(alt.layer(lines, hover).properties(height=180), context, table)
    yield Figure(
        name="clusters-metrics",
        title="Every metric over training, a line a layer",
        sentence="Choose a metric: all layers of the chosen run are drawn, early ones dark. Raw weights, two clusters. Bands of "
        "silhouette and share are drawn above; null draws are distances without weights, of which the others are made.",
        alt="Curves of the chosen metric over training steps, a line a layer, a panel for each kind of weights.",
        chart=chart.resolve_scale(y="independent"),
        tables=(table,),
        controls=(context.control(table, "run", "Run"), context.control(table, "metric", "Metric")),
        layout=Layout(panels=len(context.kinds(table)), panel_width=230, max_columns=2, own_axes=True),
    )


def transitions(context: Context) -> Section:
    lead = [
        "The published rule takes the largest change of the silhouette between neighbouring checkpoints. Beside it, the final "
        "groups are followed back through training: did their silhouette change, and abruptly or gradually? It is asked only "
        "where heads form groups."
    ]
    return context.section("transitions", "When do clusters arise, and do they jump?", lead, _transition_items(context))


def _transition_items(context: Context) -> Iterator[Item]:
    table = "cluster_transitions"
    if not context.has(table):
        yield Missing("Transitions", NO_CLUSTERS)
        return
    rows = context.tables[table]
    if rows["published_to"].is_null().all():
        yield Missing("Transitions", "One step was measured: nothing can change.")
        return
    yield _places(context, table)
    yield Table(
        "clusters-verdicts",
        "Each transition in words",
        rows.filter(pl.col("feature") == "raw").select(
            "run",
            pl.col("layer").cast(pl.String),
            "kind",
            pl.format("{} to {}", "published_from", "published_to").alias("published_place"),
            "published_change",
            pl.col("published_sudden").replace_strict({True: "sudden", False: "gradual"}, return_dtype=pl.String),
            "verdict",
        ),
        {
            "run": "Run",
            "layer": "Layer",
            "kind": "Weights",
            "published_place": "Published rule: steps",
            "published_change": "change",
            "published_sudden": "called",
            "verdict": "With nulls and a test of change",
        },
        "Raw weights, two clusters. Where the data do not tell abrupt from gradual, that is the verdict.",
        folded=True,
    )


def _places(context: Context, table: str) -> Figure:
    base = alt.Chart(forms.named(table))
    steps = context.tables["cluster_lines"]["step_modded"]
    x = forms.log_x("published_modded", forms.STEP_TITLE, domain=list(ends(steps)))
    y = alt.Y("layer:O", title="Layer", sort="descending")
    tooltip = forms.tips(
        ("layer:O", "layer"),
        ("change:N", "test of change"),
        ("change_from:Q", "largest change: from step", ",d"),
        ("change_to:Q", "to step", ",d"),
        ("change_low:Q", "95 %: from", ",d"),
        ("change_high:Q", "to", ",d"),
        ("p_change:Q", "p of no change", ".2~g"),
        ("published_from:Q", "published rule: from step", ",d"),
        ("published_to:Q", "to step ", ",d"),
        ("published_change:Q", "by", ".3f"),
    )
    rule = base.mark_rule(strokeWidth=5, opacity=0.35, style="accent").encode(
        x=alt.X("low_modded:Q"), x2="high_modded:Q", y=y
    )
    found = base.mark_point(size=60, filled=True, opacity=1, style="accent").encode(
        x="to_modded:Q", y=y, tooltip=tooltip
    )
    published = base.mark_point(size=70, filled=False, strokeWidth=1.6, style="ink").encode(x=x, y=y, tooltip=tooltip)
    return Figure(
        name="clusters-transitions",
        title="Where the silhouette changes most",
        sentence="Rings are the published rule’s place; dots with bars are that of the test of change with its 95 % interval, "
        "absent where heads form no groups. Bars span whole intervals of the grid, within which nothing is known.",
        alt="Steps of the largest change by layer, published rule and test of change, a panel for each kind of weights.",
        chart=kind_panels(alt.layer(rule, found, published).properties(height=170), context, table),
        tables=(table,),
        controls=(context.control(table, "run", "Run"), _feature(context, table)),
        layout=panel_layout(context, table),
    )
