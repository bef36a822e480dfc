"""Over time: trajectories, single heads, peak and slope."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import altair as alt
import polars as pl

from headway.reporting.charts import axes, forms
from headway.reporting.context import Context
from headway.reporting.development import steps
from headway.reporting.development.diagnosed import diagnosed
from headway.reporting.development.frames import APART
from headway.reporting.development.robust import beside
from headway.reporting.numbers import ends
from headway.reporting.parts import Control, Figure, Item, Layout, Section, Table

RISE = "Rise per tenfold of step + 1"


def over_time(context: Context) -> Section:
    return context.section("over-time", "When does it arise?", _over_time_items(context), about="growth")


def _over_time_items(context: Context) -> Iterator[Item]:
    yield _trajectories(context)
    yield context.model(
        "lmm.growth",
        "How fast does it grow?",
        "This mixed model explains the largest head’s score by log10(step + 1), with random intercepts for seed and model.",
    )
    yield from diagnosed(context, "lmm.growth")
    yield from beside(context, "growth")
    yield from _heads(context)


def _trajectories(context: Context) -> Figure:
    seeds, means = (forms.base("over_time", f"datum.kind == '{kind}'") for kind in ("seed", "mean"))
    x, y = axes.step_x(), axes.value_y("value", context.axis, zero=True)
    color = forms.by_size(context.sizes)
    tooltip = forms.tips(
        ("run:N", "run"),
        ("step:Q", "step", ",d"),
        ("value:Q", context.score, ".4~g"),
        ("layer:O", "layer of the largest head"),
        ("head:O", "its head"),
    )
    thick = means.mark_line(strokeWidth=3).encode(x=x, y=y, color=color, opacity=forms.shown(1, 0.2, "size"))
    layers = [
        seeds.mark_line(strokeWidth=1.1).encode(
            x=x, y=y, detail=alt.Detail("seed:N"), color=color, opacity=forms.shown(0.55, 0.07, "size", "seed")
        ),
        thick,
    ]
    sentence = "Thin lines are seeds, the thick line is their mean."
    if context.has("over_time", "growth_gam"):
        gam = forms.base("over_time", "datum.kind == 'gam'")
        layers.append(gam.mark_line(strokeWidth=1.8, strokeDash=[6, 3], style="accent").encode(x=x, y=y))
        sentence += " The dashed curve is one additive model of all runs, the same in every panel."
    layers += steps.mark(context, "over_time", "size")
    sentence += steps.said(context)
    layers.append(forms.hoverable(seeds, x, y, tooltip, detail=alt.Detail("seed:N")))
    return Figure(
        name="trajectories",
        title="The largest head of every run over training",
        sentence=sentence,
        alt=f"Curves of the largest {context.score.lower()} over training steps, a panel a size, a line a seed.",
        chart=forms.focusable(forms.panels(alt.layer(*layers).properties(height=220), "size", context.sizes)),
        tables=("over_time",),
        layout=context.size_panels,
        small=forms.focusable(thick),
    )


def _heads(context: Context) -> Iterator[Figure]:
    if not context.has("heads", "final_layer_seed"):
        return
    size = context.sizes[0]
    best = context.tables["final_layer_seed"].filter(pl.col("size") == size).sort("max").row(-1, named=True)
    tooltip = forms.tips(
        ("run:N", "run"),
        ("layer:O", "layer"),
        ("head:O", "head"),
        ("step:Q", "step", ",d"),
        ("value:Q", context.score, ".4~g"),
    )
    yield _heads_of_a_layer(context, size, best["layer"], tooltip)
    yield _heads_at_a_step(context, size, tooltip)


def _seed_panels(context: Context, chart: Any) -> Any:
    return forms.panels(chart, "seed", context.seeds, title="Seed", columns=3)


def _seed_layout(context: Context) -> Layout:
    return Layout(panels=len(context.seeds), panel_width=112, max_columns=3)


def _heads_of_a_layer(context: Context, size: str, layer: int, tooltip: list[alt.Tooltip]) -> Figure:
    x, y = axes.log_x("step_modded", "Step + 1 (log scale)"), axes.value_y("value", context.short_axis, zero=True)
    legend = alt.Legend(type="gradient", tickMinStep=1, format="d")
    color = alt.Color("head:Q", title="Head", scale=alt.Scale(range="ramp"), legend=legend)
    opacity = forms.shown(0.85, 0.12, "seed")
    chart = forms.base("heads")
    curves = chart.mark_line(strokeWidth=1.6).encode(
        x=x, y=y, color=color, detail=alt.Detail("head:N"), opacity=opacity
    )
    hover = forms.hoverable(chart, x, y, tooltip, detail=alt.Detail("head:N"))
    layers = alt.layer(*steps.mark(context, "heads", "seed"), curves, hover).properties(height=130)
    return Figure(
        name="heads-of-a-layer",
        title="The heads of one layer over training",
        sentence="Each line is one head of the chosen layer, each panel a seed." + steps.said(context),
        alt=f"Curves of {context.score.lower()} over training steps for each head of one layer, a panel a seed.",
        chart=forms.focusable(_seed_panels(context, layers)),
        tables=("heads",),
        controls=(Control("size", "Size", size), Control("layer", "Layer", layer)),
        layout=_seed_layout(context),
    )


def _heads_at_a_step(context: Context, size: str, tooltip: list[alt.Tooltip]) -> Figure:
    chart = forms.tiles(
        "heads",
        axes.layer_x("head", "Head"),
        axes.layer_y(),
        forms.sequential("value", context.axis, domainMin=0, domainMax=alt.ExprRef("top"), clamp=True),
        tooltip,
        opacity=forms.shown(1, 0.25, "seed"),
    ).properties(height=150)
    measured = context.tables["heads"].filter(pl.col("size") == size)["step"]
    return Figure(
        name="heads-at-a-step",
        title="Every head at one step",
        sentence="Move the slider to go through training. Layers run from bottom to top, and each panel is a seed. "
        "Colours mean the same at every step.",
        alt=f"Heat maps, one a seed, of {context.score.lower()} by layer and head at one training step.",
        chart=forms.focusable(_seed_panels(context, chart).add_params(alt.param(name="top", value=1))),
        tables=("heads",),
        controls=(Control("size", "Size", size), Control("step", "Step", int(ends(measured)[1]), slider=True)),
        layout=_seed_layout(context),
        top="value",
    )


def against_size(
    context: Context, name: str, points: str, line: str, column: str, title: str, axis: str, sentence: str, *, log: bool
) -> Figure:
    """An outcome of every run against parameters, with the robust line and the published model's where they exist."""
    x = axes.parameters_x()
    y = axes.log_y(column, axis) if log else axes.value_y(column, axis)
    tooltip = forms.tips(("run:N", "run"), ("n_params:Q", "parameters", ",d"), (f"{column}:Q", axis, ".4~g"))
    chart = forms.run_dots(forms.base(points), axes.parameters_x(APART), y, context.sizes, tooltip)
    sentence += " Dots of one size stand side by side, by seed."
    tables = [points]
    kinds = set(context.tables[line]["kind"]) if context.has(line) else set()
    if "published" in kinds:
        published = forms.base(line, "datum.kind == 'published'").mark_line(
            strokeWidth=1.2, strokeDash=[5, 4], style="accent"
        )
        chart = alt.layer(*(published.encode(x=x, y=alt.Y(f"{name}:Q")) for name in ("fit", "lower", "upper")), chart)
        sentence += " Dashed: the published model’s line and band, which take each run for a size of its own."
    if "robust" in kinds:
        chart = forms.band_and_line(line, x, y=alt.Y("fit:Q"), where="datum.kind == 'robust'") + chart
        sentence += " Solid: the line over sizes’ means, with its 95% band."
    tables += [line] if kinds else []
    return Figure(
        name=name,
        title=title,
        sentence=sentence,
        alt=f"{axis} of every run against its number of parameters.",
        chart=forms.focusable(chart),
        tables=tuple(tables),
        legend=True,
    )


def _peak_definitions(context: Context) -> Figure:
    table = "peak_by_definition"
    chart = forms.base(table)
    definitions = context.levels(table, "definition")
    y = axes.rows_y("definition", definitions)
    tooltip = forms.tips(
        ("definition:N", "peak of the"),
        ("estimate:Q", "per tenfold parameters", ".3~g"),
        ("lower:Q", "95%: from", ".3~g"),
        ("upper:Q", "to", ".3~g"),
        ("p:Q", "p", ".2~g"),
    )
    x = alt.X("lower:Q", title="Change of the peak per tenfold parameters")
    spans = chart.mark_rule(strokeWidth=2, style="ink").encode(x=x, x2=alt.X2("upper:Q"), y=y, tooltip=tooltip)
    dots = chart.mark_point(size=70, filled=True, opacity=1, style="accent").encode(
        x=alt.X("estimate:Q"), y=y, tooltip=tooltip
    )
    return Figure(
        name="peak-definitions",
        title="Peak and size, by definition",
        sentence="Dots are slopes of the robust line with 95% intervals. To the right of 0, the peak grows with size. "
        "The largest of many heads grows with their number.",
        alt="Slopes of the peak on parameters for each definition of the peak, with intervals.",
        chart=alt.layer(forms.guide(table, x=0), spans, dots).properties(height=24 * len(definitions)),
        tables=(table,),
    )


def peak_and_slope(context: Context) -> Section:
    title = "Do larger models reach higher, and rise more steeply?"
    return context.section("peak-and-slope", title, _peak_and_slope_items(context), about="size")


def _peak_and_slope_items(context: Context) -> Iterator[Item]:
    yield against_size(
        context,
        "peak-by-size",
        "peaks",
        "peak_line",
        "max_attn",
        "The peak of every run",
        f"Peak: {context.axis}",
        "Each dot is a run’s largest value at any head and step.",
        log=False,
    )
    yield context.model(
        "lmm.peak",
        "Peak and size",
        "This mixed model explains the peak by log10(parameters), with a random intercept for each seed.",
    )
    yield from diagnosed(context, "lmm.peak")
    yield from beside(context, "peak")
    if context.has("peak_by_definition"):
        yield _peak_definitions(context)
        yield Table(
            "peak-by-definition",
            "The peak by definition",
            context.tables["peak_by_definition"],
            {
                "definition": "Peak of the",
                "estimate": "Per tenfold parameters",
                "std_error": "SE",
                "df": "df",
                "p": "p",
            },
            "The largest of many heads grows with their number. The other figures do not.",
        )
    yield against_size(
        context,
        "slope-by-size",
        "slopes",
        "slope_line",
        "estimate",
        "The slope of every run",
        f"Slope: {RISE[:1].lower()}{RISE[1:]}",
        "Each dot is the slope of the straight line through a run’s trajectory on log10(step + 1).",
        log=False,
    )
    yield context.model(
        "lmm.slope",
        "Slope and size",
        "This mixed model explains the slope by log10(parameters), with a random intercept for each seed.",
    )
    yield from diagnosed(context, "lmm.slope")
    yield from beside(context, "slope")
