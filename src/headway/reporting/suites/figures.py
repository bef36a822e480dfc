"""The sections of the chapter: how suites differ in the onset of roles, and how roles grow in each."""

from __future__ import annotations

from collections.abc import Iterator

import altair as alt

from headway.reporting.charts import axes, forms
from headway.reporting.context import Context
from headway.reporting.parts import Control, Figure, Item, Layout, Section, Table
from headway.reporting.suites.frames import STEPS, TOKENS, colours

_ROW = 14  # pixels of a run's bar
_X_TITLE = "Tokens seen, or training step + 1 (log scale)"


def names(context: Context) -> list[str]:
    """The suites, in the order of the run directory."""
    return [str(name) for name in context.values["suites"]]


def _axis(context: Context, table: str) -> Control:
    """The choice of the axis. It is tokens at first if every suite's are known."""
    known = context.tables["runs"]["last_tokens"].null_count() == 0
    there = context.levels(table, "axis", order=(TOKENS, STEPS))
    return Control("axis", "Axis", TOKENS if known and TOKENS in there else STEPS)


def _without_tokens(context: Context) -> str:
    """Which suites are not drawn by tokens."""
    runs = context.tables["runs"]
    unknown = [name for name in names(context) if runs.filter(suite=name)["last_tokens"].null_count()]
    return (
        f" The tokens of {', '.join(unknown)} are unknown, wholly or in part: look at them by steps." if unknown else ""
    )


def _panels(context: Context, width: int) -> Layout:
    return Layout(panels=len(names(context)), panel_width=width, max_columns=2)


def compared(context: Context) -> Section:
    section = context.section(
        "compared", "Do roles arise at the same time in all suites?", _compared(context), about="compared"
    )
    onsets = [finding.text for finding in context.result.findings("onset")]
    return Section(section.name, section.title, [*section.lead, *onsets], section.items)


def _compared(context: Context) -> Iterator[Item]:
    yield _onsets(context)
    yield Table(
        "factors",
        "By what factor the onset differs between suites",
        context.tables["ratios"],
        {
            "role": "Role",
            "unit": "By",
            "first": "One suite",
            "second": "The other",
            "n_first": "Runs of the one",
            "n_second": "of the other",
            "sizes": "Within sizes",
            "ratio": "Factor",
            "lower": "95% from",
            "upper": "to",
            "p": "p",
            "p_holm": "p (Holm)",
        },
        "The factor is the onset in the other suite over that in the one. Without common sizes, all runs are compared.",
    )
    yield Table(
        "medians",
        "The onset in each suite",
        context.tables["onsets"],
        {
            "role": "Role",
            "suite": "Suite",
            "unit": "By",
            "n": "Runs",
            "n_reached": "with an onset",
            "earliest": "All onsets after",
            "latest": "and by",
            "median": "Median",
            "lower": "95% from",
            "upper": "to",
        },
        "Steps are counted from 1. Without a median, all onsets may lie at one time between the ends.",
        folded=True,
    )
    yield Table(
        "levels",
        "The levels of the roles",
        context.tables["levels"],
        {
            "role": "Role",
            "score": "Score",
            "suite": "Suite",
            "level": "Level used",
            "own_level": "Level of the suite alone",
            "n_untrained": "Untrained heads",
            "untrained_largest": "The largest of them",
        },
        "The largest of the suites’ own levels is used in all of them.",
        folded=True,
    )


def _onsets(context: Context) -> Figure:
    table, suites = "spans", names(context)
    chart = forms.base(table)
    x = axes.log_x("start", _X_TITLE)
    tooltip = forms.tips(
        ("suite:N", "suite"), ("run:N", "run"), ("lower:Q", "after step", ",d"), ("upper:Q", "by step", ",d"),
        ("lower_tokens:Q", "after tokens", ",d"), ("upper_tokens:Q", "by tokens", ",d"),
    )  # fmt: skip
    y = alt.Y("label:N", title="Size · seed", sort=alt.Undefined, axis=alt.Axis(labelOverlap=False))
    placed = {"y": y, "color": forms.by_name("suite", "Suite", colours(suites)), "tooltip": tooltip}
    bars = chart.mark_bar(height=7, cornerRadius=3).encode(x=x, x2=alt.X2("end:Q"), opacity=alt.value(0.9), **placed)
    # Hidden rather than filtered: a layer without rows has no range, of which Vega warns.
    later = chart.mark_point(shape="triangle-right", size=55, filled=True).encode(
        x=alt.X("end:Q"), opacity=alt.condition("datum.open", alt.value(0.9), alt.value(0)), **placed
    )
    both = bars + later
    rows = alt.Y("suite:N", title=None, sort=suites)
    small = bars.encode(y=rows, yOffset=alt.YOffset("label:N"))
    return Figure(
        name="suite-onsets",
        title="When each run’s first head takes a role and keeps it",
        sentence="A bar spans the time between the two checkpoints in which the onset lies. A triangle marks a run without an onset. "
        "A bar that reaches back to 0 tokens starts at a tenth of its end." + _without_tokens(context),
        alt="Bars of the time in which a role arises, a row a run, a panel a suite, on an axis of tokens or of steps.",
        chart=forms.panels(both.properties(height=alt.Step(_ROW)), "suite", suites),
        tables=(table,),
        controls=(context.control(table, "role", "Role"), _axis(context, table)),
        layout=_panels(context, 300),
        small=small.properties(height=forms.SMALL_HEIGHT),
    )


def followed(context: Context) -> Section:
    return context.section(
        "followed", "How does the strongest head grow in each suite?", [_curves(context)], about="followed"
    )


def _curves(context: Context) -> Figure:
    table, suites = "curves", names(context)
    x, y = axes.log_x("x", _X_TITLE), alt.Y("value:Q", title="Score of the strongest head")
    runs, means = forms.base(table, "datum.kind == 'run'"), forms.base(table, "datum.kind == 'mean'")
    sizes = alt.Scale(domain=list(context.sizes))
    colour = alt.Color("size:O", title="Size", scale=sizes, legend=alt.Legend(orient="top", symbolOpacity=1))
    tooltip = forms.tips(
        ("suite:N", "suite"), ("size:N", "size"), ("step:Q", "step", ",d"), ("tokens_seen:Q", "tokens", ",d"),
        ("value:Q", "mean of runs", ".3~f"), ("n_runs:Q", "runs"),
    )  # fmt: skip
    detail = alt.Detail("size:N")
    thin = runs.mark_line(strokeWidth=0.8, opacity=0.35).encode(x=x, y=y, color=colour, detail=alt.Detail("run:N"))
    area = forms.band(means, x, opacity=alt.value(0.15), color=colour)
    thick = means.mark_line(strokeWidth=2.4).encode(x=x, y=y, color=colour, detail=detail)
    hover = forms.hoverable(means, x, y, tooltip, detail=detail)
    return Figure(
        name="suite-curves",
        title="The strongest head of a role over training, in each suite",
        sentence="Thick lines are means over the runs of a size, with 95% intervals; thin lines are runs. Suites are never averaged "
        "together. By tokens, the untrained model has no place on the axis." + _without_tokens(context),
        alt="Curves of the strongest head’s score, a panel a suite, on an axis of tokens or of steps.",
        chart=forms.panels(alt.layer(area, thin, thick, hover).properties(height=200), "suite", suites),
        tables=(table,),
        controls=(context.control(table, "role", "Role"), _axis(context, table)),
        layout=_panels(context, 300),
    )
