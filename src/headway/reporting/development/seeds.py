"""How many seeds are enough, and what the fitted relations say of sizes to come."""

from __future__ import annotations

from collections.abc import Iterator

import altair as alt

from headway.reporting.charts import forms
from headway.reporting.development.context import Context
from headway.reporting.numbers import ends
from headway.reporting.parts import Figure, Item, Layout, Missing, Section, Table

_OUTCOMES = ["onset", "peak", "slope"]


def how_many(context: Context) -> Section:
    return context.section(
        "seeds", "How many seeds are enough?", context.beyond("seeds"), _seed_items(context), part="seeds"
    )


def _seed_items(context: Context) -> Iterator[Item]:
    yield _widths(context)
    yield _relation_widths(context)
    yield _detection(context)
    yield _needed(context)


def _widths(context: Context) -> Figure:
    base = alt.Chart(forms.named("seed_intervals"))
    x = alt.X("n_seeds:Q", title="Seeds", axis=alt.Axis(tickMinStep=1, format="d"))
    y = forms.log_y("expected_width", "")
    color = forms.by_size(context.sizes)
    tooltip = forms.tips(
        ("size:N", "size"),
        ("n_seeds:Q", "seeds"),
        ("width:Q", "mean width over subsets", ".3~g"),
        ("width_lower:Q", "80 % of subsets: from", ".3~g"),
        ("width_upper:Q", "to", ".3~g"),
        ("expected_width:Q", "expected", ".3~g"),
    )
    expected = base.mark_line(strokeDash=[4, 3], strokeWidth=1.2).encode(
        x=x, y=y, color=color, opacity=forms.shown(0.8, 0.08, "size")
    )
    found = base.mark_point(size=36, filled=True).encode(
        x=x, y="width:Q", color=color, opacity=forms.shown(0.95, 0.1, "size")
    )
    hover = forms.hoverable(base, x, "expected_width:Q", tooltip, detail="size:N")
    chart = forms.panels(alt.layer(expected, found, hover).properties(height=190), "outcome", _OUTCOMES, columns=3)
    return Figure(
        name="seed-intervals",
        title="How the 95 % interval of a size’s mean shrinks with more seeds",
        sentence=(
            "Dots are the mean widths of the interval over subsets of the seeds there are, dashed lines what "
            "to expect of more; onset is in log10 steps."
        ),
        alt="Interval width against number of seeds, a panel for onset, peak and slope, a line a size.",
        chart=forms.focusable(chart.resolve_scale(y="independent")),
        tables=("seed_intervals",),
        layout=Layout(panels=3, panel_width=190, max_columns=3, own_axes=True),
        legend=True,
    )


def _relation_widths(context: Context) -> Figure:
    base = alt.Chart(forms.named("relation_intervals"))
    x = alt.X(
        "n_seeds:Q",
        title="Seeds of every size",
        axis=alt.Axis(tickMinStep=1, format="d"),
        scale=alt.Scale(nice=False, padding=8),
    )
    tooltip = forms.tips(
        ("n_seeds:Q", "seeds"),
        ("width:Q", "mean width over subsets", ".3~g"),
        ("width_lower:Q", "80 % of subsets: from", ".3~g"),
        ("width_upper:Q", "to", ".3~g"),
        ("expected_width:Q", "expected", ".3~g"),
    )
    y = forms.log_y("expected_width", "Width of the interval")
    expected = base.mark_line(strokeDash=[4, 3], strokeWidth=1.2, style="ink").encode(x=x, y=y)
    found = base.mark_point(size=36, filled=True, style="accent").encode(x=x, y="width:Q")
    hover = forms.hoverable(base, x, "expected_width:Q", tooltip)
    chart = forms.panels(alt.layer(expected, found, hover).properties(height=190), "outcome", _OUTCOMES, columns=3)
    return Figure(
        name="relation-intervals",
        title="How the 95 % interval of the relation to size shrinks with more seeds",
        sentence=(
            "The relation is the slope of a straight line through all runs on log10(parameters). Dots are the mean widths "
            "of its interval over subsets of the seeds there are, dashed lines what to expect of more."
        ),
        alt="Interval width of the coefficient of size against number of seeds, a panel for onset, peak and slope.",
        chart=chart.resolve_scale(y="independent"),
        tables=("relation_intervals",),
        layout=Layout(panels=3, panel_width=190, max_columns=3, own_axes=True),
    )


def _detection(context: Context) -> Figure:
    base = alt.Chart(forms.named("seed_detection"))
    x = alt.X("n_seeds:Q", title="Seeds of each size", axis=alt.Axis(tickMinStep=1, format="d"))
    y = forms.share_y("share_detected", "Share of subsets")
    tooltip = forms.tips(("pair:N", "sizes"), ("n_seeds:Q", "seeds"), ("share_detected:Q", "told apart in", ".0%"))
    over = alt.selection_point(name="over", fields=["pair"], on="pointerover", clear="pointerout", empty=False)
    lines = base.mark_line(style="soft").encode(
        x=x,
        y=y,
        detail="pair:N",
        strokeWidth=alt.condition(over, alt.value(3.2), alt.value(1.4)),
        opacity=alt.condition(over, alt.value(1), alt.value(0.7)),
    )
    hover = forms.hoverable(base, x, y, tooltip, detail="pair:N").add_params(over)
    chart = forms.panels(alt.layer(lines, hover).properties(height=190), "outcome", _OUTCOMES, columns=3)
    return Figure(
        name="seed-detection",
        title="How many seeds tell two sizes apart?",
        sentence=(
            "Each line is a pair of sizes: the share of subsets of so many seeds in which a t test finds "
            "them to differ (5 % level)."
        ),
        alt="Share of subsets in which two sizes differ, against number of seeds, a panel for onset, peak and slope.",
        chart=chart,
        tables=("seed_detection",),
        layout=Layout(panels=3, panel_width=190, max_columns=3),
    )


def _needed(context: Context) -> Item:
    if not context.has("seed_power"):
        return Missing("Seeds needed", context.reason("seed_power"))
    return Table(
        "seeds-needed",
        "Seeds needed to tell two sizes apart",
        context.tables["seed_power"],
        {
            "outcome": "Outcome",
            "pair": "Sizes",
            "difference": "Difference",
            "lower": "95 % from",
            "upper": "to",
            "effect": "Effect (Hedges’ g)",
            "p": "p (Welch)",
            "seeds_needed": "Seeds needed",
            "seeds_needed_lower": "from",
            "seeds_needed_upper": "to ",
        },
        "Seeds of each size for a power of 80 % at the 5 % level; a dash stands for more than 1,000.",
        folded=True,
    )


def sizes_to_come(context: Context) -> Section:
    return context.section(
        "sizes-to-come",
        "What of larger models?",
        context.beyond("extrapolation"),
        _size_items(context),
        part="extrapolation",
    )


def _size_items(context: Context) -> Iterator[Item]:
    parts = (
        ("onset", "onset", "m_step", "Mean onset step (log scale)", True),
        ("peak", "peaks", "max_attn", f"Peak: {context.axis}", False),
        ("slope", "slopes", "estimate", "Slope: rise per tenfold of step + 1", False),
    )
    for outcome, points, column, axis, log in parts:
        yield _extrapolated(context, outcome, points, column, axis, log)


def _extrapolated(context: Context, outcome: str, points: str, column: str, axis: str, log: bool) -> Figure:
    table = f"extrapolation_{outcome}"
    base = alt.Chart(forms.named(table))
    x = forms.parameters_x()
    # no onset comes before the first step, however far down the intervals reach, and where they reach far beyond the last
    # step that was measured they say nothing
    last = ends(context.tables["runs"]["last_step"])[1] + 1
    y = forms.log_y(column, axis, domainMin=1, domainMax=10 * last) if log else forms.value_y(column, axis)
    of_size = base.mark_area(opacity=0.16, style="soft", clip=True).encode(x=x, y=alt.Y("lower:Q"), y2="upper:Q")
    dotted = base.mark_line(strokeDash=[1, 3], strokeWidth=1.4, style="ink", clip=True)
    of_run = [dotted.encode(x=x, y=f"{end}:Q") for end in ("run_lower", "run_upper")]
    tooltip = forms.tips(
        ("n_params:Q", "parameters", ".3~s"),
        ("fit:Q", "predicted", ".4~g"),
        ("lower:Q", "mean of a size: from", ".4~g"),
        ("upper:Q", "to", ".4~g"),
        ("run_lower:Q", "one run: from", ".4~g"),
        ("run_upper:Q", "to ", ".4~g"),
    )
    inside = base.transform_filter("!datum.extrapolated").mark_line(strokeWidth=2, style="ink").encode(x=x, y="fit:Q")
    outside = base.transform_filter("datum.extrapolated").mark_line(strokeWidth=1.6, strokeDash=[5, 4], style="accent")
    dots = (
        alt.Chart(forms.named(points))
        .mark_point(size=45, filled=True)
        .encode(
            x=x,
            y=y,
            color=forms.by_size(context.sizes),
            opacity=forms.shown(0.75, 0.1, "size", "seed"),
            tooltip=forms.tips(("run:N", "run"), (f"{column}:Q", axis, ".4~g")),
        )
    )
    hover = forms.hoverable(base, x, "fit:Q", tooltip)
    return Figure(
        name=f"to-come-{outcome}",
        title=f"{outcome.capitalize()}, carried on to larger sizes",
        sentence=(
            "Dashed beyond the sizes measured: a guess that the line holds. The band is the 95 % prediction of a size’s "
            "mean from the few sizes there are, the dotted lines are that of one run if the line is right."
        ),
        alt=f"{axis} against parameters, extrapolated with prediction intervals.",
        chart=forms.focusable(alt.layer(of_size, *of_run, inside, outside.encode(x=x, y="fit:Q"), hover, dots)),
        tables=(table, points),
        legend=True,
    )
