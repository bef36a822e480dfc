"""The sections of the chapter: order, onsets, numbers, places and changes of roles."""

from __future__ import annotations

from collections.abc import Iterator

import altair as alt
import polars as pl

from headway.reporting.charts import axes, forms
from headway.reporting.context import Context
from headway.reporting.parts import Figure, Item, Layout, Section, Table
from headway.reporting.roles.frames import colours
from headway.studies.roles.heads import NONE

_ROW = 10  # pixels of a role's bar


def role_names(context: Context) -> list[str]:
    """The roles with a level, in their declared order."""
    return context.tables["levels"].drop_nulls("level")["role"].to_list()


def _colour(context: Context) -> alt.Color:
    return forms.by_name("role", "Role", colours(role_names(context)))


def order(context: Context) -> Section:
    return context.section("order", "Which role comes first?", _order_items(context), about="order")


def _order_items(context: Context) -> Iterator[Item]:
    yield _onsets(context)
    if missing := context.missing("The order of every two roles within runs", "order"):
        yield missing
        return
    overall = context.tables["order"].filter(pl.col("size").is_null())
    yield Table(
        "order-table",
        "The order of every two roles within runs",
        overall,
        {
            "first": "One role",
            "second": "The other",
            "n_first": "One first (runs)",
            "n_second": "Other first",
            "n_tie": "Cannot tell",
            "n_unknown": "Neither arises",
            "p": "p",
            "p_holm": "p (Holm)",
            "lag_lower": "Lag, decades: from",
            "lag_upper": "to",
        },
        "p is that of the exact sign test over the runs that can tell. The lag is the mean over runs of log10 of the ratio of "
        "steps; its ends are what the gaps between checkpoints allow.",
    )
    yield Table(
        "order-by-level",
        "The same with other levels",
        context.tables["order_by_level"],
        {
            "multiple": "Multiple of the untrained spread",
            "first": "One role",
            "second": "The other",
            "n": "Runs",
            "n_first": "One first",
            "n_second": "Other first",
            "n_tie": "Cannot tell",
        },
        "A level lies this many times as far above the median untrained head as the largest one. The report uses 2.",
        folded=True,
    )


def _onsets(context: Context) -> Figure:
    table, names = "spans", role_names(context)
    chart = forms.base(table)
    x = axes.log_x("start", axes.STEP_TITLE)
    y, offset = axes.seed_y(context.seeds), alt.YOffset("role:N", sort=names)
    tooltip = forms.tips(
        ("run:N", "run"), ("role:N", "role"), ("lower:Q", "after step", ",d"), ("upper:Q", "by step", ",d"),
        ("seen:Q", "first seen at step", ",d"), ("layer:O", "layer of the largest head"), ("head:O", "its head"),
    )  # fmt: skip
    placed = {"y": y, "yOffset": offset, "color": _colour(context), "tooltip": tooltip}
    bars = chart.mark_bar(height=7, cornerRadius=3).encode(
        x=x, x2=alt.X2("end:Q"), opacity=forms.shown(0.95, 0.15, "size", "seed"), **placed
    )
    # Hidden rather than filtered: a layer without rows has no range, of which Vega warns.
    later = chart.mark_point(shape="triangle-right", size=55, filled=True).encode(
        x=x, opacity=alt.condition("datum.open", alt.value(0.9), alt.value(0)), **placed
    )
    both = bars + later
    return Figure(
        name="onsets",
        title="Between which steps each role arises, in every run",
        sentence="A bar spans the steps between which some head takes the role, so that from then on it is always held. "
        "A triangle stands at the last measured step of a run in which the role had not arisen. "
        "Roles whose bars overlap cannot be put in order.",
        alt="Bars of the steps between which each role arises, a row a run, a panel a size.",
        chart=forms.focusable(forms.panels(both.properties(height=alt.Step(_ROW)), "size", context.sizes)),
        tables=(table,),
        layout=context.size_panels,
        small=forms.focusable(
            both.transform_filter(f"datum.size == '{context.sizes[0]}'").properties(height=forms.SMALL_HEIGHT)
        ),
    )


def numbers(context: Context) -> Section:
    items = [_shares(context), _layers(context)]
    section = context.section("number", "How many heads hold each role?", items, about="number")
    onsets = [finding.text for finding in context.result.findings("onset")]
    return Section(section.name, section.title, [*section.lead, *onsets], section.items)


def _shares(context: Context) -> Figure:
    table = "shares"
    x, y = axes.step_x(), alt.Y("share:Q", title="Share of heads", axis=alt.Axis(format="%"))
    runs = forms.base(table, "datum.kind == 'run'")
    means = forms.base(table, "datum.kind == 'mean'")
    color = _colour(context)
    tooltip = forms.tips(
        ("role:N", "role"), ("step:Q", "step", ",d"), ("n_heads:Q", "heads", ".1~f"), ("share:Q", "share", ".1%")
    )
    thin = runs.mark_line(strokeWidth=0.8, opacity=0.3).encode(
        x=x, y=y, color=color, detail=[alt.Detail("run:N"), alt.Detail("role:N")]
    )
    thick = means.mark_line(strokeWidth=2.4).encode(x=x, y=y, color=color, detail=alt.Detail("role:N"))
    hover = forms.hoverable(means, x, y, tooltip, detail=alt.Detail("role:N"))
    return Figure(
        name="holders",
        title="The share of heads that hold each role over training",
        sentence="Thick lines are means over the runs of a size, thin lines are runs. A head can hold several roles.",
        alt="Curves of the share of heads by role over training steps, a panel a size.",
        chart=forms.panels(alt.layer(thin, thick, hover).properties(height=190), "size", context.sizes),
        tables=(table,),
        layout=context.size_panels,
        small=thick.transform_filter(f"datum.size == '{context.sizes[-1]}'"),
    )


def _layers(context: Context) -> Figure:
    table = "by_layer"
    tooltip = forms.tips(("layer:O", "layer"), ("step:Q", "step", ",d"), ("mean:Q", "heads (mean over runs)", ".2~f"))
    tiles = forms.tiles(table, axes.step_tiles_x(), axes.layer_y(), forms.sequential("mean", "Heads"), tooltip)
    names = role_names(context)
    return Figure(
        name="layers",
        title="In which layers they are",
        sentence="Colour is the number of heads of a layer that hold the role, averaged over runs.",
        alt="Heat maps of the number of heads by layer and step, a panel for each role.",
        chart=forms.panels(tiles.properties(height=170), "role", names),
        tables=(table,),
        controls=(context.control(table, "size", "Size", order=context.sizes, last=True),),
        layout=Layout(panels=len(names), panel_width=230, max_columns=2),
    )


def places(context: Context) -> Section:
    of_heads = context.missing("The role of every head", "main_roles") or _map(context)
    return context.section("several", "Which heads hold which role?", [of_heads, _several(context)], about="several")


def _whole(context: Context, column: str) -> alt.Axis:
    """Ticks at whole numbers, at most eight of the largest size."""
    numbers = range(int(context.highest("main_roles", column)) + 1)
    return alt.Axis(values=list(numbers[:: -(-len(numbers) // 8)]), format="d")


def _map(context: Context) -> Figure:
    table = "main_roles"
    chart = forms.base(table).transform_calculate(
        left="datum.head - 0.5", right="datum.head + 0.5", below="datum.layer - 0.5", above="datum.layer + 0.5"
    )
    tiles = chart.mark_rect(stroke="white", strokeWidth=0.4).encode(
        x=alt.X("left:Q", title="Head", axis=_whole(context, "head"), scale=alt.Scale(nice=False)),
        x2=alt.X2("right:Q"),
        y=alt.Y("below:Q", title="Layer", axis=_whole(context, "layer"), scale=alt.Scale(nice=False)),
        y2=alt.Y2("above:Q"),
        color=_colour(context),
        opacity=forms.shown(1, 0.2, "seed"),
        tooltip=forms.tips(
            ("run:N", "run"), ("layer:O", "layer"), ("head:O", "head"), ("role:N", "role"), ("value:Q", "its score", ".3~f"),
            ("n_roles:Q", "roles held", "d"),
        ),
    )  # fmt: skip
    return Figure(
        name="head-map",
        title="The role of every head",
        sentence="The colour is the role whose level the head exceeds most, of attention if it holds one. Heads without a role "
        "are left blank. "
        "Move the slider to follow them through training.",
        alt="Maps of heads by layer, coloured by role, a panel for each seed, with a slider for the step.",
        chart=forms.focusable(
            forms.panels(tiles.properties(height=170), "seed", context.seeds, title="Seed", columns=3)
        ),
        tables=(table,),
        controls=(
            context.control(table, "size", "Size", order=context.sizes),
            context.control(table, "step", "Step", last=True, slider=True),
        ),
        layout=Layout(panels=len(context.seeds), panel_width=112, max_columns=3),
    )


def _several(context: Context) -> Item:
    title = "Heads that hold two roles at some step"
    return context.missing(title, "several") or Table(
        "several",
        title,
        context.tables["several"],
        {
            "one": "One role",
            "other": "The other",
            "n_one": "Heads with the one",
            "n_other": "with the other",
            "n": "with both",
            "expected": "By chance",
            "p_holm": "p (Holm)",
        },
        "By chance roles are dealt to the heads of each layer independently.",
    )


def changes(context: Context) -> Section:
    section = context.section(
        "changes", "Do heads keep their roles?", [_matrix(context), _stays(context)], about="changes"
    )
    kept = [finding.text for finding in context.result.findings("stay")]
    return Section(section.name, section.title, [*section.lead, *kept], section.items)


def _matrix(context: Context) -> Figure:
    table, names = "change_cells", role_names(context)
    tooltip = forms.tips(
        ("before:N", "first role"), ("after:N", "role at the last step"), ("n:Q", "heads", ",d"),
        ("expected:Q", "by chance", ".1~f"), ("p_holm:Q", "p (Holm)", ".2~g"), ("share:Q", "of the first role’s heads", ".0%"),
    )  # fmt: skip
    x = alt.X("after:N", title="Role at the last step", sort=[*names, NONE], axis=alt.Axis(labelAngle=0))
    y = alt.Y("before:N", title="First role", sort=names)
    tiles = forms.tiles(table, x, y, forms.sequential("share", "Share of heads", domain=[0, 1]), tooltip)
    words = (
        forms.base(table)
        .transform_calculate(words="format(datum.n, ',d') + ' (' + format(datum.expected, ',.0f') + ')'")
        .mark_text(fontSize=11)
        .encode(
            x=x,
            y=y,
            text=alt.Text("words:N"),
            color=alt.condition("datum.share > 0.55", alt.value("white"), alt.value("#333")),
        )
    )
    return Figure(
        name="changes",
        title="From the first role of a head to its role at the last step",
        sentence="Numbers are heads of all runs, in brackets what chance gives. "
        "By chance the heads of a layer exchange what they are at the end.",
        alt="Matrix of roles at the beginning and at the end, with numbers of heads.",
        chart=(tiles + words).properties(height=44 * len(names)),
        tables=(table,),
    )


def _stays(context: Context) -> Table:
    return Table(
        "stays",
        "Heads that keep a role",
        context.tables["stays_by_size"],
        {
            "size": "Size",
            "role": "Role",
            "n_before": "Held it before the last step",
            "n_kept": "and still do",
            "n_last": "Hold it at the last step",
        },
        "Heads of all runs of a size are counted together.",
        folded=True,
    )
