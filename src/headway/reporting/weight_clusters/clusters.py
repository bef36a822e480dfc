"""Sections on clusters: are there any, are they more than noise, and when do they arise?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import altair as alt
import polars as pl

from headway.reporting.charts import axes, forms
from headway.reporting.context import Context
from headway.reporting.numbers import ends
from headway.reporting.parts import Control, Figure, Item, Layout, Missing, Section, Table
from headway.reporting.weight_clusters.frames import KINDS, NULL_NAMES

NO_NULLS = "no nulls were drawn, and without them a silhouette cannot be told from that of noise: see `--nulls`"


def by_number(context: Context, table: str, column: str) -> Any:
    """Colours from dark (low numbers) to light (high numbers), the same for every run."""
    return forms.by_number(column, context.levels(table, column))


def kind_panels(chart: Any, context: Context, table: str) -> Any:
    return forms.panels(chart, "kind", context.levels(table, "kind", KINDS), columns=2)


def panel_layout(context: Context, table: str, *, own_axes: bool = False) -> Layout:
    panels = len(context.levels(table, "kind", KINDS))
    return Layout(panels=panels, panel_width=230, max_columns=2, own_axes=own_axes)


def beyond_noise(context: Context) -> Section:
    lead = ["A clustering always finds clusters. The question is whether they are clearer than those in random heads."]
    title = "Are there clusters, and are they real?"
    items, needs = _beyond_items(context), ("Clusters", "lines")
    section = context.section("beyond-noise", title, items, about="groups", lead=lead, needs=needs)
    outliers = [finding.text for finding in context.result.findings("outliers")]
    return replace(section, lead=[*section.lead, *outliers])


def _beyond_items(context: Context) -> Iterator[Item]:
    if context.tables["lines"]["null_high"].is_not_null().any():
        yield _map(context)
    else:
        yield Missing("Silhouette beyond the nulls", NO_NULLS)
    yield _silhouettes(context)
    if context.has("nulls"):
        yield _each_null(context)
    yield _how_many(context) if context.has("counts") else Missing(_HOW_MANY, NO_NULLS)
    yield _outliers(context)
    if context.has("power"):
        yield _power(context)


_HOW_MANY = "How many groups heads form"


def _choices(context: Context, table: str) -> tuple[Control, ...]:
    """Controls for run and features. They open where the study found most groups."""
    opens: dict[str, str] = context.values.get("most_eventful") or {}
    columns = (("run", "Run"), ("feature", "Features"))
    levels = {column: context.levels(table, column, ()) for column, _ in columns}
    return tuple(
        Control(column, label, opens[column] if opens.get(column) in levels[column] else levels[column][0])
        for column, label in columns
    )


def _how_many(context: Context) -> Figure:
    table = "counts"
    tooltip = forms.tips(
        ("layer:O", "layer"), ("kind:N", "weights"), ("step:Q", "step", ",d"), ("group_k:Q", "groups", "d"),
        ("group_p:Q", "p", ".3~g"), ("group_silhouette:Q", "silhouette of directions", ".3f"),
    )  # fmt: skip
    color = forms.sequential("group_k", "Groups", domain=[1, max(5, ends(context.tables[table]["group_k"])[1])])
    tiles = forms.tiles(table, axes.step_tiles_x(), axes.layer_y(), color, tooltip)
    return Figure(
        name="how-many",
        title=_HOW_MANY,
        sentence="One means no groups. The numbers are not corrected: by chance, up to 5% of tiles show more than one. "
        "Only the heads’ directions are compared, so norms play no part.",
        alt="Heat maps of the number of groups by layer and training step, a panel for each kind of weights.",
        chart=kind_panels(tiles.properties(height=170), context, table),
        tables=(table,),
        controls=_choices(context, table),
        layout=panel_layout(context, table),
    )


def _map(context: Context) -> Figure:
    table = "lines"
    x, y = axes.step_tiles_x(), axes.layer_y()
    tooltip = forms.tips(
        ("layer:O", "layer"),
        ("kind:N", "weights"),
        ("step:Q", "step", ",d"),
        ("silhouette:Q", "silhouette", ".3f"),
        ("null_high:Q", "95% of the strictest null", ".3f"),
        ("p:Q", "p", ".3~g"),
        ("q:Q", "p, corrected (false discovery rate)", ".3~g"),
        ("p_groups:Q", "groups: p", ".3~g"),
        ("q_groups:Q", "groups: p, corrected", ".3~g"),
    )
    # A scale of at least ±0.05, so that noise of a hundredth does not look like an effect.
    end = max(0.05, context.highest(table, "excess"))
    colour = forms.diverging("excess", "Silhouette minus the nulls’ 95%", domain=[-end, end])
    tiles = forms.tiles(table, x, y, colour, tooltip)
    marked = forms.base(table, "datum.groups").mark_point(size=28, filled=True, style="ink").encode(x=x, y=y)
    first = context.levels(table, "kind", KINDS)[0]
    return Figure(
        name="map",
        title="Where the silhouette exceeds that of heads without clusters",
        sentence="A dot marks heads that form groups, norms aside, after correction for all tests. "
        "Warm tiles exceed 95% of the strictest null. Differences of norm alone can do that.",
        alt="Heat maps of silhouette beyond the nulls by layer and training step, a panel for each kind of weights.",
        chart=kind_panels(alt.layer(tiles, marked).properties(height=170), context, table),
        tables=(table,),
        controls=_choices(context, table),
        layout=panel_layout(context, table),
        small=alt.layer(tiles, marked).transform_filter(f"datum.kind == '{first}'"),
    )


def _silhouettes(context: Context) -> Figure:
    table = "bands"
    chart = forms.base(table)
    x, y = axes.measured_x(context.levels(table, "step")), axes.value_y("value", "Value of the metric")
    band = chart.mark_area(opacity=0.25, style="soft").encode(x=x, y=alt.Y("low:Q"), y2=alt.Y2("high:Q"))
    middle = chart.mark_line(style="soft", strokeDash=[4, 3], strokeWidth=1.2).encode(x=x, y=alt.Y("median:Q"))
    start = chart.mark_line(style="ink", strokeDash=[1, 3], strokeWidth=1.2).encode(x=x, y=alt.Y("start:Q"))
    line = chart.mark_line(style="accent", strokeWidth=2).encode(x=x, y=y)
    dots = chart.mark_point(style="accent", filled=True, size=30).encode(x=x, y=y)
    tooltip = forms.tips(
        ("step:Q", "step", ",d"),
        ("value:Q", "value", ".3f"),
        ("low:Q", "nulls: from", ".3f"),
        ("high:Q", "to", ".3f"),
        ("start:Q", "at the run’s step 0", ".3f"),
        ("p:Q", "p of all nulls", ".3~g"),
    )
    layers = [band, middle, start, line, dots]
    first = context.levels(table, "kind", KINDS)[0]
    return Figure(
        name="silhouette",
        title="How far apart clusters are over training, compared with random heads",
        sentence="The line shows the clusters of k-means, the grey band those of random heads. "
        "For the silhouette the band spans the 5% and 95% quantiles of three nulls. "
        "These are random directions, normal weights as in an untrained model, and permuted weights. "
        "For the share between clusters the band is the central 90% of rotated heads. "
        "The dashed line is the highest median of the nulls, the dotted line the run’s own value at step 0.",
        alt="The chosen metric over training steps with the band of the nulls, a panel for each kind of weights.",
        chart=kind_panels(
            alt.layer(*layers, forms.hoverable(chart, x, y, tooltip)).properties(height=170), context, table
        ),
        tables=(table,),
        controls=(
            *_choices(context, table),
            context.control(table, "metric", "Metric"),
            context.control(table, "k", "Clusters"),
            context.control(table, "layer", "Layer"),
        ),
        layout=panel_layout(context, table),
        small=alt.layer(*layers).transform_filter(f"datum.kind == '{first}'"),
    )


_NULL_COLOURS = dict(zip(NULL_NAMES.values(), ("#4477aa", "#228833", "#aa3377"), strict=True))


def _each_null(context: Context) -> Figure:
    table = "nulls"
    x = axes.measured_x(context.levels(table, "step"))
    color = forms.by_name("null", "Null", _NULL_COLOURS)
    chart = forms.base(table)
    band = chart.mark_area(opacity=0.16).encode(
        x=x, y=alt.Y("low:Q", title="Silhouette"), y2=alt.Y2("high:Q"), color=color
    )
    tooltip = forms.tips(
        ("null:N", "null"), ("step:Q", "step", ",d"), ("low:Q", "5%", ".3f"), ("median:Q", "median", ".3f"),
        ("high:Q", "95%", ".3f"),
    )  # fmt: skip
    edge = chart.mark_line(strokeWidth=1.6).encode(x=x, y=alt.Y("high:Q"), color=color, detail=alt.Detail("null:N"))
    observed = chart.mark_line(style="ink", strokeWidth=2, point=True).encode(
        x=x, y=alt.Y("silhouette:Q"), detail=alt.Detail("null:N")
    )
    layers = alt.layer(
        band, edge, observed, forms.hoverable(chart, x, alt.Y("high:Q"), tooltip, detail=alt.Detail("null:N"))
    )
    return Figure(
        name="each-null",
        title="The silhouette beside each null on its own",
        sentence="The dark line is the silhouette of clusters by k-means. Each band spans 5% to 95% of one null. "
        "Which band the line leaves says what heads have in common. "
        "The fourth null, heads rotated at random, compares the share between clusters and is drawn above.",
        alt="Silhouette over training steps with a band for each null, a panel for each kind of weights.",
        chart=kind_panels(layers.properties(height=170), context, table),
        tables=(table,),
        controls=(
            *_choices(context, table),
            context.control(table, "k", "Clusters"),
            context.control(table, "layer", "Layer"),
        ),
        layout=panel_layout(context, table),
    )


def _power(context: Context) -> Figure:
    table = "power"
    tooltip = forms.tips(
        ("size:N", "size"), ("distance:Q", "distance", ".2f"), ("share:Q", "found in", ".0%"), ("std_error:Q", "SE", ".0%"),
        ("n_heads:Q", "heads", "d"), ("norm_spread:Q", "SD of log norms", ".2~g"),
    )  # fmt: skip
    x = alt.X("distance:Q", title="Distance of the groups (1: as long as what is a head’s own)")
    y = axes.share_y("share", "Share of layers in which they are found")
    color = alt.Color("size:N", title="Size", legend=alt.Legend(orient="top"))
    lines = (
        forms.base(table)
        .mark_line(strokeWidth=2, point=True)
        .encode(x=x, y=y, color=color, detail=alt.Detail("size:N"))
    )
    return Figure(
        name="power",
        title="How far apart groups must lie to be found",
        sentence="Two equal groups of heads were planted in simulated layers with as many heads as the models have, "
        "and norms as uneven. The share is that with p of at most 0.05, before correction for many layers.",
        alt="Curves of the share of simulated layers whose groups are found, by their distance, a line a size.",
        chart=lines + forms.hoverable(forms.base(table), x, y, tooltip, detail=alt.Detail("size:N")),
        tables=(table,),
    )


def _outliers(context: Context) -> Item:
    title = "Single heads that departed from the others"
    if not context.has("outliers"):
        return Missing(title, "no head has a norm unlike the others of its layer, and none is alone in a cluster")
    return Table(
        "outliers",
        title,
        context.tables["outliers"].with_columns(
            pl.col("head").cast(pl.String),
            pl.col("layer").cast(pl.String),
            *(pl.col(name).replace_strict(_YES_NO, return_dtype=pl.String) for name in ("left", "alone")),
        ),
        {
            "run": "Run",
            "layer": "Layer",
            "kind": "Weights",
            "head": "Head",
            "norm_ratio": "Norm / median, last step",
            "onset_after": "Departed after step",
            "onset": "and by step",
            "ratio_before": "Norm / median, before",
            "q": "p, corrected",
            "left": "Departed from the others",
            "alone": "Alone in a cluster of raw weights",
        },
        "For each layer, this is the head whose norm departs most from the others’. "
        "A head alone in its cluster is an outlier: its silhouette says nothing about groups.",
    )


_YES_NO = {True: "yes", False: "no"}


def metrics(context: Context) -> Section:
    lead = ["These are the published measures for all layers, and the change of the weights since the step before."]
    return context.section(
        "metrics",
        "How do the clusters’ measures develop?",
        _metric_items(context),
        about="metrics",
        needs=("Metrics", "metrics"),
        lead=lead,
    )


def _metric_items(context: Context) -> Iterator[Item]:
    table = "metrics"
    x, y = axes.measured_x(context.levels(table, "step")), axes.value_y("value", "Value of the metric")
    tooltip = forms.tips(("layer:O", "layer"), ("step:Q", "step", ",d"), ("metric:N", ""), ("value:Q", "value", ".4~g"),
                         ("since:N", ""))  # fmt: skip
    lines = forms.lines(table, x, y, tooltip, by="layer", width=1.6, color=by_number(context, table, "layer"))
    yield Figure(
        name="metrics",
        title="Every metric over training, one line per layer",
        sentence="Early layers are dark. The metrics are those of two clusters of raw weights. "
        "The figure above shows silhouette and share with their nulls.",
        alt="Curves of the chosen metric over training steps, one line per layer, one panel for each kind of weights.",
        chart=kind_panels(lines.properties(height=180), context, table).resolve_scale(y="independent"),
        tables=(table,),
        controls=(context.control(table, "run", "Run"), context.control(table, "metric", "Metric")),
        layout=panel_layout(context, table, own_axes=True),
    )


def transitions(context: Context) -> Section:
    lead = [
        "The published rule takes the largest change of the silhouette between neighbouring checkpoints.",
        "Beside it, the groups of the last step are followed back through training: did they arise abruptly or gradually? "
        "This test needs groups, so it is missing for layers without any.",
    ]
    return context.section(
        "transitions",
        "When do clusters arise, and do they jump?",
        _transition_items(context),
        about="transitions",
        needs=("Transitions", "transitions"),
        lead=lead,
    )


def _transition_items(context: Context) -> Iterator[Item]:
    table = "transitions"
    rows = context.tables[table]
    if rows["published_to"].is_null().all():
        yield Missing("Transitions", "one step was measured, so nothing can change")
        return
    yield _places(context, table)
    yield Table(
        "verdicts",
        "Each transition",
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
        "These are two clusters of raw weights. If the data cannot tell abrupt from gradual, the verdict says so.",
        folded=True,
    )


def _places(context: Context, table: str) -> Figure:
    chart = forms.base(table)
    steps = context.levels("lines", "step")

    def x_of(field: str) -> alt.X:
        return axes.measured_x(steps, field)

    x = x_of("published_modded")
    y = axes.layer_y()
    tooltip = forms.tips(
        ("layer:O", "layer"),
        ("change:N", "test of change"),
        ("change_from:Q", "largest change: from step", ",d"),
        ("change_to:Q", "to step", ",d"),
        ("change_low:Q", "95%: from", ",d"),
        ("change_high:Q", "to", ",d"),
        ("p_change:Q", "p of no change", ".2~g"),
        ("published_from:Q", "published rule: from step", ",d"),
        ("published_to:Q", "to step ", ",d"),
        ("published_change:Q", "by", ".3f"),
    )
    tested = forms.base(table, "isValid(datum.to_modded)")
    rule = tested.mark_rule(strokeWidth=5, opacity=0.35, style="accent").encode(
        x=x_of("low_modded"), x2="high_modded", y=y
    )
    found = tested.mark_point(size=60, filled=True, opacity=1, style="accent").encode(
        x=x_of("to_modded"), y=y, tooltip=tooltip
    )
    published = chart.mark_point(size=70, filled=False, strokeWidth=1.6, style="ink").encode(x=x, y=y, tooltip=tooltip)
    return Figure(
        name="transitions",
        title="Where the silhouette changes most",
        sentence="Rings show the largest change by the published rule. Dots show it by the test of change, with 95% intervals as bars. "
        "Layers without groups have no dot. Bars span whole gaps between checkpoints.",
        alt="Steps of the largest change by layer, published rule and test of change, a panel for each kind of weights.",
        chart=kind_panels(alt.layer(rule, found, published).properties(height=170), context, table),
        tables=(table,),
        controls=_choices(context, table),
        layout=panel_layout(context, table),
    )
