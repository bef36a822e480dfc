"""The sections of the chapter: when composition rises, in what order, the circuit, its repetition over runs, and paths."""

from __future__ import annotations

from collections.abc import Iterator

import altair as alt
import polars as pl

from headway.reporting.charts import axes, forms
from headway.reporting.context import Context
from headway.reporting.parts import Control, Figure, Item, Layout, Section, Table
from headway.reporting.relations.frames import KINDS, LINES
from headway.reporting.roles.frames import NO_ROLE_COLOUR, colours
from headway.studies.roles.heads import NONE

_KIND_COLOURS = dict(zip(KINDS.values(), ("#c2410c", "#2c5aa0", "#9467bd"), strict=True))
_ROW = 10  # pixels of a bar of onsets


def _kind(field: str, title: str) -> alt.Color:
    return forms.by_name(field, title, _KIND_COLOURS)


# Composition -------------------------------------------------------------------------------------------------


def rise(context: Context) -> Section:
    items = list(_rise_items(context))
    section = context.section("rise", "Does the later head read what the earlier one writes?", items, about="rise")
    edges = [finding.text for finding in context.result.findings("edges")]
    return Section(section.name, section.title, [*section.lead, *edges], section.items)


def _rise_items(context: Context) -> Iterator[Item]:
    if missing := context.missing("Composition of heads of two roles over training", "trajectories"):
        yield missing
    else:
        yield _curves(context)
        yield Table(
            "beyond",
            "All pairs of roles at the last step",
            context.tables["beyond"],
            {
                "kind": "Kind",
                "first": "From",
                "second": "To",
                "n_runs": "Runs",
                "n_pairs": "Pairs",
                "n_edges": "Edges",
                "mean": "Composition",
                "chance": "Random heads",
                "others": "Same layers",
                "difference": "Beyond layers",
                "lower": "95% from",
                "upper": "to",
                "p_holm": "p (Holm)",
            },
            "Runs are the units. ‘Beyond layers’ is composition less that of all heads of the same two layers.",
            folded=True,
        )
    yield _shares(context)


def _curves(context: Context) -> Figure:
    table = "curves"
    x, y = axes.step_x(), alt.Y("value:Q", title="Composition", scale=alt.Scale(zero=False))
    colour = forms.by_name("what", "", dict(zip(LINES, ("#b07aa1", "#c2410c", "#5f636b", "#a8a59e"), strict=True)))
    tooltip = forms.tips(
        ("what:N", "line"), ("step:Q", "step", ",d"), ("value:Q", "composition", ".3~g"), ("n_pairs:Q", "pairs of heads")
    )  # fmt: skip
    of_run = forms.tips(
        ("run:N", "run"),
        ("step:Q", "step", ",d"),
        ("value:Q", "mean of pairs", ".3~g"),
        ("n_pairs:Q", "pairs of heads"),
    )
    runs = forms.base(table, "datum.what == 'runs'")
    thin = runs.mark_line(strokeWidth=1, color="#c2410c").encode(
        x=x, y=y, detail=alt.Detail("run:N"), opacity=forms.shown(0.3, 0.06, "seed"), tooltip=of_run
    )
    lines = forms.base(table, "datum.what != 'runs'")
    dashed = alt.StrokeDash(
        "what:N", title="", scale=alt.Scale(domain=list(LINES), range=[[1, 0], [1, 0], [6, 3], [2, 3]])
    )
    # The mean of pairs is widest: it shows beneath the dashed line where both coincide.
    width = alt.condition("datum.what == 'mean of pairs'", alt.value(3.4), alt.value(1.5))
    thick = lines.mark_line().encode(x=x, y=y, color=colour, strokeDash=dashed, strokeWidth=width)
    hover = forms.hoverable(lines, x, y, tooltip, detail=alt.Detail("what:N"))
    layered = alt.layer(thin, thick, hover)
    return Figure(
        name="composition",
        title="Composition of heads of two roles over training",
        sentence="Heads are those that hold the roles at the end. Thick lines are means over the runs of a size, thin ones the runs’ own "
        "means of pairs. Dashed: all heads of the same layers. Dotted: random heads.",
        alt="Curves of composition over training steps beside those of heads of the same layers and of random heads, a panel a size.",
        chart=forms.focusable(forms.panels(layered.properties(height=190), "size", context.sizes)),
        tables=(table,),
        controls=(context.control(table, "pair", "From → to"), context.control(table, "kind", "Read by")),
        layout=context.size_panels,
        small=forms.focusable(
            alt.layer(thin, thick).transform_filter(f"datum.size == '{context.sizes[-1]}'").properties(height=forms.SMALL_HEIGHT)
        ),
    )  # fmt: skip


def _shares(context: Context) -> Figure:
    table = "counted_edges"
    x, y = axes.step_x(), alt.Y("share:Q", title="Share of pairs that are edges", axis=alt.Axis(format="%"))
    tooltip = forms.tips(
        ("run:N", "run"), ("kind:N", "read by"), ("step:Q", "step", ",d"), ("n_edges:Q", "edges", ",d"), ("n:Q", "of pairs", ",d")
    )  # fmt: skip
    rows = forms.base(table)
    detail = [alt.Detail("run:N"), alt.Detail("kind:N")]
    lines = rows.mark_line(strokeWidth=1.3).encode(
        x=x, y=y, color=_kind("kind", "Read by"), detail=detail, opacity=forms.shown(0.75, 0.1, "seed")
    )
    hover = forms.hoverable(rows, x, y, tooltip, detail=detail)
    return Figure(
        name="edge-shares",
        title="How many pairs beat random heads",
        sentence="A line is a run. Heads without a preference for directions have an edge in 5% of checkpoints.",
        alt="Curves of the share of edges among all pairs of heads over training steps, a panel a size.",
        chart=forms.focusable(forms.panels(alt.layer(lines, hover).properties(height=170), "size", context.sizes)),
        tables=(table,),
        layout=context.size_panels,
    )


# Order -------------------------------------------------------------------------------------------------------


def order(context: Context) -> Section:
    return context.section("order", "Is composition there before the later role?", _order_items(context), about="order")


def _order_items(context: Context) -> Iterator[Item]:
    if missing := context.missing("The order within runs", "order"):
        yield missing
        return
    yield _onsets(context)
    yield Table(
        "order-table",
        "The order within runs",
        context.tables["order"].filter(pl.col("size").is_null()),
        {
            "first": "One",
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
        "p is that of the exact sign test over the runs that can tell.",
    )


def _onsets(context: Context) -> Figure:
    table = "spans"
    names = context.levels(table, "role")
    relations_last = sorted(names, key=lambda name: "composition" in name)
    own = colours(relations_last)
    scale = alt.Scale(domain=list(own), range=list(own.values()))
    colour = alt.Color("role:N", title="", scale=scale, legend=alt.Legend(orient="top", labelLimit=320))
    chart = forms.base(table)
    x = axes.log_x("start", axes.STEP_TITLE)
    y, offset = axes.seed_y(context.seeds), alt.YOffset("role:N", sort=relations_last)
    tooltip = forms.tips(
        ("run:N", "run"), ("role:N", "what"), ("lower:Q", "after step", ",d"), ("upper:Q", "by step", ",d")
    )
    placed = {"y": y, "yOffset": offset, "color": colour, "tooltip": tooltip}
    bars = chart.mark_bar(height=7, cornerRadius=3).encode(
        x=x, x2=alt.X2("end:Q"), opacity=forms.shown(0.95, 0.15, "size", "seed"), **placed
    )
    later = chart.mark_point(shape="triangle-right", size=55, filled=True).encode(
        x=x, opacity=alt.condition("datum.open", alt.value(0.9), alt.value(0)), **placed
    )
    both = bars + later
    return Figure(
        name="onsets",
        title="Between which steps roles and their composition arise, in every run",
        sentence="A bar spans the steps between which the onset lies. A triangle stands at the last step of a run without one.",
        alt="Bars of the steps between which roles and their composition arise, a row a run, a panel a size.",
        chart=forms.focusable(forms.panels(both.properties(height=alt.Step(_ROW)), "size", context.sizes)),
        tables=(table,),
        layout=context.size_panels,
        small=forms.focusable(
            both.transform_filter(f"datum.size == '{context.sizes[0]}'").properties(height=forms.SMALL_HEIGHT)
        ),
    )


# The circuit -------------------------------------------------------------------------------------------------


def circuit(context: Context) -> Section:
    title = "The circuit of a run"
    items = [context.missing(title, "edges", "nodes") or _circuit(context)]
    return context.section("circuit", "Which heads are joined?", items, about="circuit")


def _circuit(context: Context) -> Figure:
    nodes, edges, counts = "nodes", "drawn_edges", "counted_edges"
    roles = [role for role in context.levels(nodes, "role") if role != NONE]
    # The numbers above the chart name the kinds in their colours, in the place of a legend.
    scale = alt.Scale(domain=list(_KIND_COLOURS), range=list(_KIND_COLOURS.values()))
    kind = alt.Color("kind:N", scale=scale, legend=None)
    x = alt.X("head:Q", title="Head", axis=_whole(context, "head"), scale=alt.Scale(nice=False, padding=18))
    y = alt.Y("layer:Q", title="Layer", axis=_whole(context, "layer"), scale=alt.Scale(nice=False, padding=18))
    lines = forms.base(edges).mark_rule(strokeCap="round").encode(
        x=alt.X("start:Q", title="Head"), x2=alt.X2("end:Q"), y=alt.Y("from_layer:Q", title="Layer"), y2=alt.Y2("layer:Q"),
        color=kind,
        strokeWidth=alt.StrokeWidth("excess:Q", legend=None, scale=alt.Scale(zero=True, range=[0.4, 5])),
        opacity=alt.value(0.6),
        tooltip=forms.tips(
            ("kind:N", "read by"), ("from_layer:O", "from layer"), ("from_head:O", "its head"), ("layer:O", "to layer"),
            ("head:O", "its head"), ("composition:Q", "composition", ".3~f"), ("chance:Q", "random heads", ".3~f"),
            ("p_holm:Q", "p (Holm)", ".1~e"),
        ),
    )  # fmt: skip
    fill = alt.Fill(
        "role:N",
        title="Role at the last step",
        scale=alt.Scale(domain=[*roles, NONE], range=[*colours(roles).values(), NO_ROLE_COLOUR]),
        legend=alt.Legend(orient="bottom", symbolStrokeWidth=0, columns=4),
    )
    dots = forms.base(nodes).mark_point(size=150, opacity=1, stroke="white", strokeWidth=1).encode(
        x=x, y=y, fill=fill,
        tooltip=forms.tips(("layer:O", "layer"), ("head:O", "head"), ("role:N", "role at the last step")),
    )  # fmt: skip
    said = forms.base(counts).transform_calculate(
        words="datum.kind + ' ' + format(datum.n_edges, ',d') + ' of ' + format(datum.n, ',d') + ' pairs'",
        place=f"indexof({list(KINDS.values())}, datum.kind) * 190",
    ).mark_text(align="left", baseline="bottom", fontSize=11, y=-6).encode(
        x=alt.X("place:Q", scale=None, title="Head"), text=alt.Text("words:N"), color=kind
    )  # fmt: skip
    most = context.values["most_edges"]
    n_layers = int(context.highest(nodes, "layer")) + 1
    return Figure(
        name="circuit",
        title="The circuit of a run",
        sentence="Dots are heads, by layer; their colour is the role that they hold at the last step. Lines join pairs that beat random "
        f"heads, at most the {most} strongest of a step. Wider lines have more composition. Numbers above count all edges.",
        alt="Heads as dots in rows by layer, joined by lines in the colours of Q-, K- and V-composition, with a slider for the step.",
        chart=alt.layer(lines, dots, said).properties(height=max(240, 46 * n_layers)),
        tables=(counts, edges, nodes),
        controls=(
            context.control(counts, "run", "Run", last=True),
            context.control(counts, "step", "Step", last=True, slider=True),
        ),
        layout=Layout(),
        small=alt.layer(lines, dots).properties(height=forms.SMALL_HEIGHT),
    )


def _whole(context: Context, column: str) -> alt.Axis:
    """Ticks at whole numbers, at most twelve."""
    numbers = range(int(context.highest("nodes", column)) + 1)
    return alt.Axis(values=list(numbers[:: -(-len(numbers) // 12)]), format="d", grid=False)


def repeats(context: Context) -> Section:
    title = "Do the strongest pairs repeat over runs?"
    table = context.missing(title, "repeats") or Table(
        "repeats",
        "The strongest pairs of runs beside exchanged heads",
        context.tables["repeats"],
        {
            "what": "What repeats",
            "kind": "Kind",
            "size": "Size",
            "first": "From",
            "second": "To",
            "n_runs": "Runs",
            "n_pairs": "Pairs of a run",
            "n": "Count",
            "expected": "Exchanged heads",
            "lower": "95% from",
            "upper": "to",
            "draws": "Exchanges",
            "p": "p",
            "p_holm": "p (Holm)",
        },
        "Same roles: pairs from a head of the one role to a head of the other. Same heads: pairs with the same numbers in two runs.",
        folded=True,
    )
    return context.section("repeats", title, [table], about="repeats")


# Paths -------------------------------------------------------------------------------------------------------


def paths(context: Context) -> Section:
    return context.section(
        "paths",
        "What does the later head lose without the earlier one?",
        [_paths(context), _changes(context)],
        about="paths",
    )


def _path_controls(context: Context, table: str) -> tuple[Control, ...]:
    words = {"title": "Effect", "input": "Replaced in", "replaced_by": "Replaced by"}
    return tuple(context.control(table, column, label) for column, label in words.items())


def _paths(context: Context) -> Figure:
    table = "drawn_paths"
    x, y = axes.step_x(), axes.value_y("change", "Change")
    color = forms.by_size(context.sizes)
    base = forms.base(table)
    lines = base.mark_line(strokeWidth=2.2, point=True).encode(
        x=x, y=y, color=color, opacity=forms.shown(1, 0.13, "size")
    )
    chance = base.mark_line(strokeWidth=1.6, strokeDash=[5, 4]).encode(
        x=x, y=alt.Y("control:Q"), color=color, opacity=forms.shown(1, 0.13, "size")
    )
    tooltip = forms.tips(
        ("size:N", "size"), ("step:Q", "step", ",d"), ("before:Q", "before", ".3~g"), ("change:Q", "change", ".3~g"),
        ("control:Q", "other heads", ".3~g"), ("difference:Q", "difference", ".3~g"), ("lower:Q", "95%: from", ".3~g"),
        ("upper:Q", "to", ".3~g"), ("n_runs:Q", "runs"), ("n_pairs:Q", "pairs"), ("n_controls:Q", "other heads, at least"),
    )  # fmt: skip
    return Figure(
        name="paths",
        title="What the later heads lose, over training",
        sentence="Lines are means over pairs of heads and over the runs of a size. Dashed lines are other heads of the same layers in the "
        "place of the earlier head. Intervals of the difference are in the tooltips and the table.",
        alt="Curves of the change of a later head over training steps, one for each size, and dashed ones for other heads.",
        chart=forms.focusable(alt.layer(lines, chance, forms.hoverable(base, x, y, tooltip))),
        tables=(table,),
        controls=_path_controls(context, table),
        legend=True,
    )


def _changes(context: Context) -> Table:
    return Table(
        "path-changes",
        "Every size and step",
        context.tables["drawn_paths"],
        {
            "size": "Size",
            "step": "Step",
            "title": "Effect",
            "input": "Replaced in",
            "replaced_by": "Replaced by",
            "n_runs": "Runs",
            "n_pairs": "Pairs",
            "before": "Before",
            "change": "Change",
            "control": "Other heads",
            "n_controls": "Other heads, at least",
            "difference": "Difference",
            "lower": "95% from",
            "upper": "to",
        },
        folded=True,
    )
