"""The diagnostic plots beneath a model, folded."""

from __future__ import annotations

from collections.abc import Iterator

import altair as alt
import polars as pl

from headway.reporting.charts import forms
from headway.reporting.context import Context
from headway.reporting.parts import Figure, Layout

_TITLES = {
    "lmm.final_layer_by_size": "the layers by size",
    "lmm.final_depth": "the line over depth",
    "gam.final_depth": "the curve over depth",
    "lmm.growth": "growth",
    "gam.growth": "the curve of growth",
    "lmm.onset": "onset by size",
    "lmm.peak": "peak by size",
    "lmm.slope": "slope by size",
}


def diagnosed(context: Context, path: str) -> Iterator[Figure]:
    """The figure of the model under `path`, if its diagnostics are there."""
    if not context.has("diagnostics"):
        return
    rows = context.tables["diagnostics"].filter(pl.col("model") == path)
    if not len(rows):
        return
    panels = rows["panel"].unique(maintain_order=True).to_list()
    chart = forms.base("diagnostics")
    x = alt.X("x:Q", title=None, scale=alt.Scale(zero=False))
    band = chart.mark_area(opacity=0.14, style="soft").encode(x=x, y=alt.Y("lower:Q", title=None), y2=alt.Y2("upper:Q"))
    line = chart.mark_line(style="soft", strokeWidth=1.2).encode(x=x, y=alt.Y("reference:Q"))
    dots = chart.mark_point(filled=True, size=14, opacity=0.6, style="accent").encode(x=x, y=alt.Y("y:Q", title=None))
    layers = alt.layer(band, line, dots).properties(height=150)
    panelled = forms.panels(layers, "panel", panels, columns=2).resolve_scale(x="independent", y="independent")
    panelled.transform = [alt.FilterTransform(f"datum.model == '{path}'")]  # before the panels are made of what is left
    autocorrelated = any(panel == "autocorrelation" for panel in panels)
    yield Figure(
        name=f"diagnostics-{path.replace('.', '-').replace('_', '-')}",
        title=f"Does the model of {_TITLES[path]} fit? Its residuals",
        sentence="Dots of a normal sample lie on the line of the quantile plots, mostly within its band (95% for each dot). "
        "Residuals should show no pattern by fitted value. They are in standard deviations."
        + (" Autocorrelation by lag in steps should lie within the band." if autocorrelated else ""),
        alt="Quantile plots of residuals and random effects, and residuals by fitted value.",
        chart=panelled,
        tables=("diagnostics",),
        layout=Layout(panels=len(panels), panel_width=230, max_columns=2, own_axes=True),
        folded=True,
    )
