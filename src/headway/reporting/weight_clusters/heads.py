"""Single heads: where they lie, their norms, and who is with whom over training and between seeds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import altair as alt

from headway.reporting.charts import forms
from headway.reporting.parts import Control, Figure, Item, Layout, Missing, Section
from headway.reporting.weight_clusters.clusters import by_number, kind_panels, panel_layout
from headway.reporting.weight_clusters.context import NO_CLUSTERS, Context

_GROUPS = alt.Scale(domain=["with head 0", "apart from it", "no clusters"], range=["#4477aa", "#ee7733", "#8a8a8a"])
_TABLE = "cluster_heads"


def where_heads_lie(context: Context) -> Section:
    lead = [
        "Maps of heads by their raw weights. A map shows what two dimensions can; most of the variance may lie elsewhere."
    ]
    return context.section("maps", "Where do heads lie?", lead, _map_items(context))


def _map_items(context: Context) -> Iterator[Item]:
    if not context.has(_TABLE):
        yield Missing("Maps of heads", NO_CLUSTERS)
        return
    yield _pca(context)
    if context.has("cluster_tsne"):
        yield _tsne(context)
    else:
        yield Missing("Heads by t-SNE", "It needs four heads at least, and weights that differ.")


def _controls(context: Context, table: str, *, step: bool) -> tuple[Control, ...]:
    chosen = (context.control(table, "run", "Run"), context.control(table, "layer", "Layer"))
    several = context.tables[table]["step"].n_unique() > 1
    return (*chosen, context.control(table, "step", "Step", last=True, slider=True)) if step and several else chosen


def _by_group() -> Any:
    return alt.Color("group:N", title="Cluster (k-means, two)", scale=_GROUPS, legend=alt.Legend(orient="top"))


def _points(table: str, x: str, y: str, x_title: str, y_title: str) -> list[Any]:
    base = alt.Chart(forms.named(table))
    place = {"x": _map_axis(alt.X, x, x_title), "y": _map_axis(alt.Y, y, y_title)}
    tooltip = forms.tips(("head:O", "head"), ("group:N", "cluster"), ("norm:Q", "norm", ".4~g"), (f"{x}:Q", x_title, ".3~g"),
                         (f"{y}:Q", y_title, ".3~g"))  # fmt: skip
    dots = base.mark_point(size=240, filled=True, opacity=0.85).encode(**place, color=_by_group(), tooltip=tooltip)
    names = base.mark_text(fontSize=10, color="#ffffff", fontWeight="bold").encode(
        **place, text="head:O", tooltip=tooltip
    )
    return [dots, names]


def _map_axis(channel: Any, field: str, title: str) -> Any:
    """An axis without a zero: only distances on the map mean something."""
    return channel(f"{field}:Q", title=title, scale=alt.Scale(zero=False, padding=14), axis=alt.Axis(grid=False))


def _pca(context: Context) -> Figure:
    base = alt.Chart(forms.named(_TABLE))
    shares = (
        base.transform_aggregate(one="max(share1)", two="max(share2)", groupby=["kind"])
        .transform_calculate(words="format(datum.one, '.0%') + ' and ' + format(datum.two, '.0%') + ' of the variance'")
        .mark_text(align="left", baseline="top", style="soft", fontSize=11)
        .encode(x=alt.value(4), y=alt.value(2), text="words:N")
    )
    chart = alt.layer(*_points(_TABLE, "pc1", "pc2", "First component", "Second component"), shares).properties(
        height=210
    )
    return Figure(
        name="clusters-pca",
        title="Heads by the first two principal components of their weights",
        sentence="Each disc is a head, named by its number; the share of variance that the two components explain stands in "
        "each panel.",
        alt="Scatter plots of heads by two principal components, a panel for each kind of weights.",
        chart=kind_panels(chart, context, _TABLE).resolve_scale(x="independent", y="independent"),
        tables=(_TABLE,),
        controls=_controls(context, _TABLE, step=True),
        layout=Layout(panels=len(context.kinds(_TABLE)), panel_width=230, max_columns=2, own_axes=True),
    )


def _tsne(context: Context) -> Figure:
    table = "cluster_tsne"
    chart = alt.layer(*_points(table, "tsne1", "tsne2", "t-SNE 1", "t-SNE 2")).properties(height=210)
    return Figure(
        name="clusters-tsne",
        title="Heads by t-SNE",
        sentence="Neighbours on this map may be alike; distances, sizes of groups and empty space on it mean nothing.",
        alt="Scatter plots of heads by t-SNE, a panel for each kind of weights.",
        chart=kind_panels(chart, context, table).resolve_scale(x="independent", y="independent"),
        tables=(table,),
        controls=_controls(context, table, step=True),
        layout=Layout(panels=len(context.kinds(table)), panel_width=230, max_columns=2, own_axes=True),
    )


def who_is_with_whom(context: Context) -> Section:
    lead = ["Clusters that mean something keep their heads from one checkpoint to the next."]
    return context.section("composition", "Who is with whom, and does it last?", lead, _composition_items(context))


def _composition_items(context: Context) -> Iterator[Item]:
    if not context.has(_TABLE):
        yield Missing("Composition of clusters", NO_CLUSTERS)
        return
    yield _composition(context)
    yield _norms(context)
    yield (
        _agreement(context) if context.has("cluster_agreement") else Missing(_AGREEMENT, "It needs two steps of a run.")
    )
    yield _seeds(context) if context.has("cluster_seeds") else Missing(_SEEDS, "it needs two runs of one size")


_AGREEMENT = "Agreement of neighbouring steps"
_SEEDS = "Agreement between seeds"


def _composition(context: Context) -> Figure:
    tooltip = forms.tips(
        ("head:O", "head"), ("step:Q", "step", ",d"), ("group:N", "cluster"), ("norm:Q", "norm", ".4~g")
    )
    x = alt.X("step:O", title="Training step", axis=alt.Axis(labelAngle=-45))
    tiles = forms.tiles(_TABLE, x, alt.Y("head:O", title="Head"), _by_group(), tooltip).properties(height=170)
    return Figure(
        name="clusters-composition",
        title="Composition of two clusters over training",
        sentence="A head’s colour says whether it is in one cluster with head 0 at that step; columns that look alike are steps "
        "whose clusters agree.",
        alt="Tiles of heads by training step, coloured by cluster, a panel for each kind of weights.",
        chart=kind_panels(tiles, context, _TABLE),
        tables=(_TABLE,),
        controls=_controls(context, _TABLE, step=False),
        layout=panel_layout(context, _TABLE),
    )


def _norms(context: Context) -> Figure:
    base = alt.Chart(forms.named(_TABLE))
    x, y = forms.step_x(), forms.value_y("norm", "Norm of the head’s weights")
    color = by_number(context, _TABLE, "head")
    tooltip = forms.tips(("head:O", "head"), ("step:Q", "step", ",d"), ("norm:Q", "norm", ".4~g"),
                         ("change:Q", "mean change of a weight", ".3~g"))  # fmt: skip
    lines = base.mark_line(strokeWidth=1.5).encode(x=x, y=y, color=color, detail="head:N")
    hover = forms.hoverable(base, x, y, tooltip, detail="head:N")
    return Figure(
        name="clusters-norms",
        title="Norms of heads over training",
        sentence="A head whose norm leaves the others’ is the commonest cause of a high silhouette.",
        alt="Curves of each head's Frobenius norm over training steps, a panel for each kind of weights.",
        chart=kind_panels(alt.layer(lines, hover).properties(height=170), context, _TABLE),
        tables=(_TABLE,),
        controls=_controls(context, _TABLE, step=False),
        layout=panel_layout(context, _TABLE),
    )


def _rand_lines(context: Context, table: str, field: str) -> Any:
    base = alt.Chart(forms.named(table))
    x, y = forms.step_x(), forms.value_y(field, "Adjusted Rand index")
    tooltip = forms.tips(("layer:O", "layer"), ("step:Q", "step", ",d"), (f"{field}:Q", "adjusted Rand index", ".3f"))
    color = by_number(context, table, "layer")
    lines = base.mark_line(strokeWidth=1.5).encode(x=x, y=y, color=color, detail="layer:N")
    hover = forms.hoverable(base, x, y, tooltip, detail="layer:N")
    zero = forms.guide(table, "kind", y=0)
    return kind_panels(alt.layer(zero, lines, hover).properties(height=170), context, table)


def _agreement(context: Context) -> Figure:
    table = "cluster_agreement"
    return Figure(
        name="clusters-agreement",
        title=_AGREEMENT,
        sentence="1: the same clusters as at the step before; 0: what chance gives (dotted). A line a layer.",
        alt="Adjusted Rand index of neighbouring steps over training, a line a layer, a panel for each kind of weights.",
        chart=_rand_lines(context, table, "ari_previous"),
        tables=(table,),
        controls=(context.control(table, "run", "Run"), context.control(table, "feature", "Features")),
        layout=panel_layout(context, table),
    )


def _seeds(context: Context) -> Figure:
    table = "cluster_seeds"
    return Figure(
        name="clusters-seeds",
        title=_SEEDS,
        sentence="The mean over pairs of runs. Heads have no order that seeds share, so only labels tied to a head’s number "
        "would agree beyond chance (0, dotted).",
        alt="Adjusted Rand index between seeds over training, a line a layer, a panel for each kind of weights.",
        chart=_rand_lines(context, table, "ari"),
        tables=(table,),
        controls=(context.control(table, "size", "Size"), context.control(table, "feature", "Features")),
        layout=panel_layout(context, table),
    )
