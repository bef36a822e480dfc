"""Consistency: how alike the trajectories of runs are."""

from __future__ import annotations

from collections.abc import Iterator

import altair as alt
import polars as pl

from headway.reporting.charts import forms
from headway.reporting.context import Context
from headway.reporting.numbers import ends
from headway.reporting.parts import Figure, Item, Layout, Missing, Section, Table


def consistency(context: Context) -> Section:
    return context.section("consistency", "Are seeds and sizes alike?", _items(context), about="consistency")


def _items(context: Context) -> Iterator[Item]:
    yield _correlations(context)
    yield from _means(context)
    yield context.model(
        "ols.trajectory_correlation",
        "Are runs of one size more alike?",
        "This linear model explains the correlation of two runs by whether they share their size, and by both sizes.",
        term="same_model",
    )
    yield context.model(
        "ols.trajectory_correlation_between",
        "Between sizes: are larger models more alike?",
        "This is the same model for pairs of different sizes only.",
    )
    yield _independence(context)
    yield _map(context)
    yield _separation(context)


def _correlations(context: Context) -> Figure:
    order = []
    lowest = -1.0
    if context.has("correlations"):
        order = context.levels("correlations", "label1")
        lowest = ends(context.tables["correlations"]["cor"])[0]
    title = "Correlation of trajectories"
    colour = (
        forms.diverging("cor", title, domain=[-1, 1]) if lowest < 0 else forms.sequential("cor", title, domainMax=1)
    )
    axis = alt.Axis(labelFontSize=9, labelOverlap="greedy")
    across = alt.Axis(labelSeparation=0, labelFontSize=9, labelOverlap="greedy", labelAngle=-90)
    chart = forms.tiles(
        "correlations",
        alt.X("label1:N", sort=order, title=None, axis=across),
        alt.Y("label2:N", sort=order, title=None, axis=axis),
        colour,
        forms.tips(("run1:N", "run"), ("run2:N", "and run"), ("cor:Q", "correlation", ".3f"), ("n_steps:Q", "steps")),
    )
    return Figure(
        name="correlations",
        title="Correlation of every two runs’ trajectories",
        sentence="Rows and columns are runs, ordered by size, then seed. "
        "The square blocks along the diagonal are the seeds of one size.",
        alt="Heat map of the correlations between the trajectories of all runs, ordered by size and seed.",
        chart=chart,
        tables=("correlations",),
        layout=Layout(square=True),
    )


_GROUPINGS = {
    "same_model": ("Mean correlation, same size or not", ("same_model",)),
    "same_model_and_size": ("Mean correlation by size", ("same_model", "model")),
    "param_difference": ("Mean correlation by difference in parameters", ("param_difference",)),
}
_COLUMNS = {"same_model": "Same size", "model": "Size", "param_difference": "Difference in parameters"}


def _means(context: Context) -> Iterator[Item]:
    missing = context.missing("Mean correlations", "correlation_means")
    if missing:
        yield missing
        return
    frame = context.tables["correlation_means"]
    for grouping, (title, columns) in _GROUPINGS.items():
        chosen = frame.filter(frame["grouping"] == grouping)
        headings = {column: _COLUMNS[column] for column in columns} | {"mean": "Mean", "sd": "SD", "n": "Pairs"}
        if chosen.height:
            yield Table(f"means-{grouping.replace('_', '-')}", title, chosen, headings, folded=chosen.height > 6)


def _independence(context: Context) -> Item:
    title = "Are the two sizes of a pair independent?"
    test = context.value("cor_test", "n_params1_n_params2")
    if not test:
        return Missing(title, context.reason("cor_test.n_params1_n_params2"))
    low, high = test["ci95"]
    return Table(
        "independence",
        title,
        pl.DataFrame([{**{name: test[name] for name in ("cor", "t", "df", "p")}, "lower": low, "upper": high}]),
        {"cor": "Correlation", "t": "t", "df": "df", "p": "p", "lower": "95% from", "upper": "to"},
        "This is Pearson’s correlation of the two parameter counts over all pairs. It checks that both can stand in the models "
        "above.",
    )


def _map(context: Context) -> Figure:
    domain = _square_domain(context)
    x = alt.X("x:Q", title="First dimension (1 − correlation)", scale=alt.Scale(domain=domain[0], nice=False))
    y = alt.Y("y:Q", title="Second dimension", scale=alt.Scale(domain=domain[1], nice=False))
    tooltip = forms.tips(("run:N", "run"), ("x:Q", "first", ".3f"), ("y:Q", "second", ".3f"))
    dots = forms.run_dots(forms.base("mds"), x, y, context.sizes, tooltip, size=80)
    crosses = (
        forms.base("mds_centroids")
        .mark_point(shape="cross", size=150, filled=True, stroke="white", strokeWidth=1)
        .encode(
            x=alt.X("centroid_x:Q"),
            y=alt.Y("centroid_y:Q"),
            color=forms.by_size(context.sizes),
            opacity=forms.shown(1, 0.15, "size"),
            tooltip=forms.tips(
                ("size:N", "size"),
                ("inter:Q", "distance to other sizes", ".3f"),
                ("within:Q", "spread of its seeds", ".3f"),
                ("ratio:Q", "separation", ".3~g"),
            ),
        )
    )
    return Figure(
        name="mds",
        title="A map of the runs",
        sentence="Runs whose trajectories correlate lie close together (classical scaling of 1 − correlation). "
        "Crosses are the sizes’ centres.",
        alt="Scatter plot of runs in two dimensions made from the correlations of their trajectories.",
        chart=forms.focusable(dots + crosses),
        tables=("mds", "mds_centroids"),
        layout=Layout(square=True),
        legend=True,
    )


def _square_domain(context: Context) -> list[list[float]]:
    """Ranges of x and y of one length, so that distances on the map are true."""
    if not context.has("mds"):
        return [[0, 1], [0, 1]]
    spans = [ends(context.tables["mds"][column]) for column in "xy"]
    half = 0.55 * max(high - low for low, high in spans) or 1.0
    return [[(low + high) / 2 - half, (low + high) / 2 + half] for low, high in spans]


def _separation(context: Context) -> Item:
    title = "Separation of the sizes on the map"
    return context.missing(title, "mds_centroids") or Table(
        "separation",
        title,
        context.tables["mds_centroids"],
        {
            "size": "Size",
            "centroid_x": "Centre, first",
            "centroid_y": "Centre, second",
            "inter": "Distance to other sizes",
            "within": "Spread of its seeds",
            "ratio": "Separation",
            "chance": "By chance",
            "p_holm": "p (Holm)",
        },
        "Separation is the mean distance to the other sizes’ centres, divided by the mean distance of a size’s seeds from "
        "their own. By chance: the mean over exchanges of the runs’ sizes.",
        folded=True,
    )
