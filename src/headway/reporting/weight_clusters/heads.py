"""Sections on single heads: maps, norms, and which heads share a cluster over training and between seeds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import altair as alt

from headway.reporting.charts import axes, forms
from headway.reporting.context import Context
from headway.reporting.parts import Control, Figure, Item, Missing, Section
from headway.reporting.weight_clusters.clusters import by_number, kind_panels, panel_layout
from headway.reporting.weight_clusters.frames import KINDS

_GROUPS = {"with head 0": "#4477aa", "apart from it": "#ee7733", "no clusters": "#8a8a8a"}
_TABLE = "heads"


def where_heads_lie(context: Context) -> Section:
    lead = [
        "These maps show heads by their raw weights. A map has two dimensions, and most of the variance may lie in others."
    ]
    return context.section(
        "maps", "Where do heads lie?", _map_items(context), about="maps", needs=("Maps of heads", _TABLE), lead=lead
    )


def _map_items(context: Context) -> Iterator[Item]:
    yield _pca(context)
    if context.has("tsne"):
        yield _tsne(context)
    else:
        yield Missing("Heads by t-SNE", "at least four heads with different weights are needed")


def _controls(context: Context, table: str, *, step: bool) -> tuple[Control, ...]:
    chosen = (context.control(table, "run", "Run"), context.control(table, "layer", "Layer"))
    several = context.tables[table]["step"].n_unique() > 1
    return (*chosen, context.control(table, "step", "Step", last=True, slider=True)) if step and several else chosen


def _by_group() -> Any:
    return forms.by_name("group", "Cluster (k-means, two)", _GROUPS)


def _points(table: str, x: str, y: str, x_title: str, y_title: str) -> list[Any]:
    base = forms.base(table)
    place = {"x": _map_axis(alt.X, x, x_title), "y": _map_axis(alt.Y, y, y_title)}
    tooltip = forms.tips(("head:O", "head"), ("group:N", "cluster"), ("norm:Q", "norm", ".4~g"), (f"{x}:Q", x_title, ".3~g"),
                         (f"{y}:Q", y_title, ".3~g"))  # fmt: skip
    dots = base.mark_point(size=240, filled=True, opacity=0.85).encode(**place, color=_by_group(), tooltip=tooltip)
    names = base.mark_text(fontSize=10, color="#ffffff", fontWeight="bold").encode(
        **place, text=alt.Text("head:O"), tooltip=tooltip
    )
    return [dots, names]


def _map_axis(channel: Any, field: str, title: str) -> Any:
    """An axis without a zero, because only distances on the map have a meaning."""
    return channel(f"{field}:Q", title=title, scale=alt.Scale(zero=False, padding=14), axis=alt.Axis(grid=False))


def _pca(context: Context) -> Figure:
    shares = (
        forms.base(_TABLE, "datum.head == 0")
        .mark_text(align="left", baseline="top", style="soft", fontSize=11)
        .encode(x=alt.value(4), y=alt.value(2), text=alt.Text("words:N"))
    )
    dots = _points(_TABLE, "pc1", "pc2", "First component", "Second component")
    return _head_map(
        context,
        "pca",
        "Heads by the first two principal components of their weights",
        "Each disc is a head with its number. Each panel states the share of variance that the two components explain.",
        _TABLE,
        [*dots, shares],
    )


def _tsne(context: Context) -> Figure:
    return _head_map(
        context,
        "tsne",
        "Heads by t-SNE",
        "Neighbours on this map may be alike. Distances, sizes of groups and empty space on it mean nothing.",
        "tsne",
        _points("tsne", "tsne1", "tsne2", "t-SNE 1", "t-SNE 2"),
    )


def _head_map(context: Context, name: str, title: str, sentence: str, table: str, layers: list[Any]) -> Figure:
    chart = kind_panels(alt.layer(*layers).properties(height=210), context, table)
    return Figure(
        name=name,
        title=title,
        sentence=sentence,
        alt=f"{title}: scatter plots, a panel for each kind of weights.",
        chart=chart.resolve_scale(x="independent", y="independent"),
        tables=(table,),
        controls=_controls(context, table, step=True),
        layout=panel_layout(context, table, own_axes=True),
    )


def who_is_with_whom(context: Context) -> Section:
    lead = ["Clusters with a meaning keep their heads from one checkpoint to the next."]
    return context.section(
        "composition",
        "Which heads are grouped together, and does it last?",
        _composition_items(context),
        about="composition",
        needs=("Composition of clusters", _TABLE),
        lead=lead,
    )


def _composition_items(context: Context) -> Iterator[Item]:
    yield _composition(context)
    yield _norms(context)
    yield _agreement(context) if context.has("agreement") else Missing(_AGREEMENT, "two steps of a run are needed")
    yield _seeds(context) if context.has("seed_means") else Missing(_SEEDS, "two runs of one size are needed")


_AGREEMENT = "Agreement of neighbouring steps"
_SEEDS = "Agreement between seeds"


def _composition(context: Context) -> Figure:
    tooltip = forms.tips(
        ("head:O", "head"), ("step:Q", "step", ",d"), ("group:N", "cluster"), ("norm:Q", "norm", ".4~g")
    )
    head = alt.Y("head:O", title="Head")
    tiles = forms.tiles(_TABLE, axes.step_tiles_x(), head, _by_group(), tooltip).properties(height=170)
    return Figure(
        name="composition",
        title="Composition of two clusters over training",
        sentence="The colour says whether a head is in the same cluster as head 0 at that step. "
        "Columns that look alike are steps with the same clusters.",
        alt="Tiles of heads by training step, coloured by cluster, a panel for each kind of weights.",
        chart=kind_panels(tiles, context, _TABLE),
        tables=(_TABLE,),
        controls=_controls(context, _TABLE, step=False),
        layout=panel_layout(context, _TABLE),
    )


def _norms(context: Context) -> Figure:
    x, y = axes.step_x(), axes.value_y("norm", "Norm of the head’s weights")
    tooltip = forms.tips(("head:O", "head"), ("step:Q", "step", ",d"), ("norm:Q", "norm", ".4~g"),
                         ("change:Q", "mean change of a weight", ".3~g"))  # fmt: skip
    lines = forms.lines(_TABLE, x, y, tooltip, by="head", color=by_number(context, _TABLE, "head"))
    kind, *place = _most_uneven(context)
    return Figure(
        name="norms",
        title="Norms of heads over training",
        sentence="A head whose norm departs from the others is the commonest cause of a high silhouette.",
        alt="Curves of each head's Frobenius norm over training steps, a panel for each kind of weights.",
        chart=kind_panels(lines.properties(height=170), context, _TABLE),
        tables=(_TABLE,),
        controls=tuple(place),
        layout=panel_layout(context, _TABLE),
        small=lines.transform_filter(f"datum.kind == '{kind}'"),
    )


def _most_uneven(context: Context) -> tuple[Any, ...]:
    """The kind of weights and the controls for the head that departs most from the others, or else the first ones."""
    run, layer = _controls(context, _TABLE, step=False)
    if context.has("outliers"):
        row = context.tables["outliers"].row(0, named=True)
        return row["kind"], replace(run, default=row["run"]), replace(layer, default=row["layer"])
    return context.levels(_TABLE, "kind", KINDS)[0], run, layer


def _rand_lines(context: Context, table: str, field: str) -> Any:
    x, y = axes.step_x(), axes.value_y(field, "Adjusted Rand index")
    tooltip = forms.tips(("layer:O", "layer"), ("step:Q", "step", ",d"), (f"{field}:Q", "adjusted Rand index", ".3f"))
    lines = forms.lines(table, x, y, tooltip, by="layer", color=by_number(context, table, "layer"))
    return kind_panels(alt.layer(forms.guide(table, "kind", y=0), lines).properties(height=170), context, table)


def _agreement(context: Context) -> Figure:
    table = "agreement"
    return Figure(
        name="agreement",
        title=_AGREEMENT,
        sentence="Each line is a layer. At 1 the clusters are those of the step before; 0 (dotted) is expected by chance.",
        alt="Adjusted Rand index of neighbouring steps over training, one line per layer, one panel for each kind of weights.",
        chart=_rand_lines(context, table, "ari_previous"),
        tables=(table,),
        controls=(context.control(table, "run", "Run"), context.control(table, "feature", "Features")),
        layout=panel_layout(context, table),
    )


def _seeds(context: Context) -> Figure:
    table = "seed_means"
    return Figure(
        name="seeds",
        title=_SEEDS,
        sentence="Each line is the mean over pairs of runs, for one layer. Seeds share no order of heads. "
        "So only clusters tied to a head’s number would agree beyond chance (0, dotted).",
        alt="Adjusted Rand index between seeds over training, one line per layer, one panel for each kind of weights.",
        chart=_rand_lines(context, table, "ari"),
        tables=(table,),
        controls=(context.control(table, "size", "Size"), context.control(table, "feature", "Features")),
        layout=panel_layout(context, table),
    )
