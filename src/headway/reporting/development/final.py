"""The final step: where in the network the score is large."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import altair as alt

from headway.reporting.charts import forms
from headway.reporting.development.context import Context
from headway.reporting.parts import Figure, Item, Layout, Section

_LAYER = "Layer (counted from 0)"


def final_step(context: Context) -> Section:
    return context.section(
        "final-step", "Where is it at the end of training?", [context.finding("final")], _items(context)
    )


def _items(context: Context) -> Iterator[Item]:
    yield _maxima(context, "max", "Each layer’s largest head in every run", context.axis)
    yield _maxima(context, "max_z", "The same, as z-scores within each size", f"{context.score}, z-score")
    yield context.model(
        "lmm.final_layer_by_size",
        "Does the place of the layer matter, and does that change with size?",
        "A mixed model of each layer’s largest z-score on size and layer (counted from 1), seeds as random intercepts.",
    )
    yield _by_layer(context)
    yield _by_depth(context, "depth", "By depth: true sixths of the network", "is a sixth of the network’s depth")
    yield _by_depth(
        context,
        "rows",
        "By depth, as published: six bins of equally many heads",
        "holds a sixth of all heads of all sizes, as in the published study; deep sizes weigh more",
    )
    yield context.model(
        "lmm.final_depth",
        "Does the score grow with depth?",
        "A mixed model of every head’s score on relative depth, with random intercepts for head number and model.",
    )
    yield context.model(
        "gam.final_depth", "The same as a smooth curve", "An additive model of every head’s score on relative depth."
    )


def _maxima(context: Context, column: str, title: str, colour_title: str) -> Figure:
    signed = column == "max_z"
    most = context.highest("layer_maxima", column)
    colour = (
        forms.diverging(column, colour_title, domain=[-most, most])
        if signed
        else forms.sequential(column, colour_title, domain=[0, most])
    )
    chart = forms.tiles(
        "layer_maxima",
        alt.X("layer:O", title=_LAYER, axis=alt.Axis(labelAngle=0)),
        alt.Y("seed:N", title="Seed", sort=context.seeds),
        colour,
        forms.tips(
            ("run:N", "run"),
            ("layer:O", "layer"),
            ("head:O", "largest head"),
            ("max:Q", context.score, ".4~g"),
            ("max_z:Q", "z-score", ".3~f"),
        ),
        opacity=forms.shown(1, 0.18, "size", "seed"),
    ).properties(height=alt.Step(17))
    chart = forms.panels(chart, "size", context.sizes).resolve_scale(x="independent")
    return Figure(
        name=f"final-layers-{column.replace('_', '-')}",
        title=title,
        sentence=(
            "Every cell is the largest head of one layer in one run at the final step"
            + (
                ", scaled to mean 0 and standard deviation 1 over all heads of its size, so that sizes compare"
                if signed
                else ""
            )
            + "; columns that stand out in all rows are layers that take the role whatever the seed."
        ),
        alt=f"Heat maps, one a size, of {context.score.lower()} by layer and seed at the final step.",
        chart=forms.focusable(chart),
        tables=("layer_maxima",),
        layout=Layout(panels=len(context.sizes), panel_width=230, max_columns=2),
    )


def _mean_and_se(context: Context, table: str, x: Any, where: str = "", extra: Any = None) -> Any:
    base = alt.Chart(forms.named(table))
    base = base.transform_filter(where) if where else base
    color = forms.by_size(context.sizes)
    y = forms.value_y("mean", context.axis, zero=True)
    tooltip = forms.tips(
        ("size:N", "size"),
        *([extra] if extra else []),
        ("mean:Q", "mean over seeds", ".4~g"),
        ("lower:Q", "mean − SE", ".4~g"),
        ("upper:Q", "mean + SE", ".4~g"),
        ("n_seeds:Q", "seeds"),
    )
    band = base.mark_area().encode(
        x=x, y=alt.Y("lower:Q"), y2="upper:Q", color=color, opacity=forms.shown(0.2, 0.04, "size")
    )
    line = base.mark_line(strokeWidth=2.2, point=alt.OverlayMarkDef(size=24, filled=True)).encode(
        x=x, y=y, color=color, opacity=forms.shown(1, 0.15, "size")
    )
    return band + line + forms.hoverable(base, x, "mean:Q", tooltip, detail="size:N")


def _by_layer(context: Context) -> Figure:
    x = alt.X("layer:Q", title=_LAYER, scale=alt.Scale(nice=False, padding=6), axis=alt.Axis(tickMinStep=1, format="d"))
    return Figure(
        name="final-by-layer",
        title="Largest head by layer, averaged over seeds",
        sentence="Lines are means over seeds of the layer’s largest head, bands one standard error to either side.",
        alt=f"Lines of mean largest {context.score.lower()} against layer, one a size.",
        chart=forms.focusable(_mean_and_se(context, "by_layer", x, extra=("layer:O", "layer"))),
        tables=("by_layer",),
        legend=True,
    )


def _by_depth(context: Context, cut: str, title: str, bins: str) -> Figure:
    x = alt.X(
        "depth:Q",
        title="Relative depth (first to last layer)",
        scale=alt.Scale(domain=[0, 1.02], nice=False),
        axis=alt.Axis(format="%", tickCount=5),
    )
    chart = _mean_and_se(context, "by_depth", x, f"datum.cut == '{cut}'", ("sixth:O", "sixth"))
    tables = ["by_depth"]
    curve = ""
    if context.has("depth_gam"):
        chart = forms.band_and_line("depth_gam", alt.X("prop_layer:Q")) + chart
        tables.append("depth_gam")
        curve = " The dashed curve is the additive model of all heads, not only of the largest."
    return Figure(
        name=f"final-by-depth-{cut}",
        title=title,
        sentence=f"Each point is the mean over seeds of the largest head in its bin; a bin {bins}.{curve}",
        alt=f"Lines of mean largest {context.score.lower()} against relative depth, one a size.",
        chart=forms.focusable(chart),
        tables=tuple(tables),
        legend=True,
    )
