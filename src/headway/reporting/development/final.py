"""The final step: where in the network the score is large."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import altair as alt

from headway.reporting.charts import axes, forms
from headway.reporting.context import Context
from headway.reporting.development import steps
from headway.reporting.development.diagnosed import diagnosed
from headway.reporting.development.frames import BINS
from headway.reporting.development.robust import beside
from headway.reporting.parts import Control, Figure, Item, Section


def final_step(context: Context) -> Section:
    return context.section("final-step", "Where is it at the end of training?", _items(context), about="final")


def _items(context: Context) -> Iterator[Item]:
    yield _maxima(context, "max", "The largest head of each layer, in every run", context.axis)
    yield _maxima(context, "max_z", "Layer maxima, z-scored within each model size", "Layer maximum (z-score)")
    yield context.model(
        "lmm.final_layer_by_size",
        "Does the layer matter, and does that change with size?",
        "This mixed model explains each layer’s largest z-score by size and layer, with a random intercept for each seed.",
    )
    yield from diagnosed(context, "lmm.final_layer_by_size")
    yield from beside(context, "final_layer_by_size")
    yield _by_layer(context)
    yield _by_depth(context)
    yield context.model(
        "lmm.final_depth",
        "Does the score grow with depth?",
        "This mixed model explains every head’s score by its depth, with random intercepts for head number and model.",
    )
    yield from diagnosed(context, "lmm.final_depth")
    yield _depth_curve(context)
    yield context.model(
        "gam.final_depth",
        "The score against depth as a smooth curve",
        "This additive model explains every head’s score by its depth.",
    )
    yield from diagnosed(context, "gam.final_depth")


def _maxima(context: Context, column: str, title: str, colour_title: str) -> Figure:
    table = "final_layer_seed"
    signed = column == "max_z"
    most = context.highest(table, column)
    colour = (
        forms.diverging(column, colour_title, domain=[-most, most])
        if signed
        else forms.sequential(column, colour_title, domain=[0, most])
    )
    chart = forms.tiles(
        table,
        axes.layer_x(),
        axes.seed_y(context.seeds),
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
    scaled = "Values are scaled to mean 0 and SD 1 over all heads of a size, so that sizes compare."
    columns = "A column that stands out in all rows is a layer that takes the role whatever the seed."
    return Figure(
        name=f"final-layers-{column.replace('_', '-')}",
        title=title,
        sentence=f"Each cell is one layer of one run at the final step. {scaled if signed else columns}",
        alt=f"Heat maps, one a size, of {context.score.lower()} by layer and seed at the final step.",
        chart=forms.focusable(forms.panels(chart, "size", context.sizes).resolve_scale(x="independent")),
        tables=(table,),
        layout=context.size_panels,
    )


def _mean_and_se(context: Context, table: str, x: Any, place: tuple[str, str]) -> Any:
    chart = forms.base(table)
    tooltip = forms.tips(
        ("size:N", "size"),
        place,
        ("mean:Q", "mean over seeds", ".4~g"),
        ("lower:Q", "mean − SE", ".4~g"),
        ("upper:Q", "mean + SE", ".4~g"),
        ("n_seeds:Q", "seeds"),
    )
    y = axes.value_y("mean", context.axis, zero=True)
    means = forms.size_means(chart, x, y, context.sizes, dots=True)
    return means + forms.hoverable(chart, x, "mean:Q", tooltip, detail=alt.Detail("size:N"))


def _by_layer(context: Context) -> Figure:
    x = alt.X(
        "layer:Q",
        title=axes.LAYER_TITLE,
        scale=alt.Scale(nice=False, padding=6),
        axis=alt.Axis(tickMinStep=1, format="d"),
    )
    return Figure(
        name="final-by-layer",
        title="Largest head by layer, averaged over seeds",
        sentence="Lines are means over seeds; bands are one standard error to either side.",
        alt=f"Lines of mean largest {context.score.lower()} against layer, one a size.",
        chart=forms.focusable(_mean_and_se(context, "final_by_layer", x, ("layer:O", "layer"))),
        tables=("final_by_layer",),
        legend=True,
    )


def _depth_x(field: str) -> alt.X:
    return alt.X(
        f"{field}:Q",
        title="Relative depth (first to last layer)",
        scale=alt.Scale(domain=[0, 1.02], nice=False),
        axis=alt.Axis(format="%", tickCount=5),
    )


def _by_depth(context: Context) -> Figure:
    return Figure(
        name="final-by-depth",
        title="Largest head by depth",
        sentence="Each point is the mean over seeds of the largest head in its bin; bands are one standard error. "
        "In the published bins, sizes with many heads weigh more.",
        alt=f"Lines of mean largest {context.score.lower()} against relative depth, one a size.",
        chart=forms.focusable(_mean_and_se(context, "final_by_depth", _depth_x("depth"), ("sixth:O", "sixth"))),
        tables=("final_by_depth",),
        controls=(Control("bins", "Bins", BINS["depth"]),),
        legend=True,
    )


def _depth_curve(context: Context) -> Figure:
    table = "final_depth_gam"
    few = steps.too_few_of(context, "final_depth", "depths")
    x, y = _depth_x("prop_layer"), axes.value_y("fit", context.axis)
    tooltip = forms.tips(("prop_layer:Q", "depth", ".0%"), *steps.CURVE_TIPS)
    return Figure(
        name="final-depth-curve",
        title="All heads by depth, as one smooth curve",
        sentence=f"The additive model of every head’s score at the final step, with its 95% band.{few}",
        alt=f"A smooth curve of {context.score.lower()} against relative depth, with its band.",
        chart=forms.band_and_line(table, x, y) + forms.hoverable(forms.base(table), x, y, tooltip),
        tables=(table,),
    )
