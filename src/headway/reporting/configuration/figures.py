"""The sections of the chapter: whether weights tell a role, what sets it apart, and whether heads match over runs."""

from __future__ import annotations

from collections.abc import Iterator

import altair as alt

from headway.reporting.charts import axes, forms
from headway.reporting.configuration.frames import ALL_SIZES, BY, MEANINGS
from headway.reporting.context import Context
from headway.reporting.parts import Figure, Item, Layout, Section, Table
from headway.reporting.roles.frames import NO_ROLE_COLOUR, colours
from headway.studies.roles.heads import NONE

_ROW = 24  # pixels of a row of dots
_MAP_HEIGHT = 360


def _role(context: Context, title: str = "Role") -> alt.Color:
    return forms.by_name("role", title, colours(list(context.values["roles"])))


# Weights -----------------------------------------------------------------------------------------------------


def weights(context: Context) -> Section:
    return context.section(
        "weights",
        "Do weights tell the role of a head in runs that were not seen?",
        list(_weights(context)),
        about="weights",
    )


def _weights(context: Context) -> Iterator[Item]:
    if missing := context.missing("Roles told from weights", "classified"):
        yield missing
    else:
        yield _classified(context)
        yield _by_step(context)
        yield Table(
            "classification-table",
            "All tests of classification",
            context.tables["classified"],
            {
                "role": "Role",
                "size": "Size",
                "n_runs": "Runs",
                "n_holders": "Heads of the role",
                "n_others": "Other heads",
                "balanced_accuracy": "Balanced accuracy",
                "chance": "Chance",
                "lower": "95% from",
                "upper": "to",
                "draws": "Exchanges",
                "p": "p",
                "p_holm": "p (Holm)",
            },
            folded=True,
        )
    yield _alike(context)


def _classified(context: Context) -> Figure:
    table = "classified"
    order = context.levels(table, "row")
    tooltip = forms.tips(
        ("row:N", ""), ("balanced_accuracy:Q", "balanced accuracy", ".1%"), ("chance:Q", "chance", ".1%"),
        ("lower:Q", "95% from", ".1%"), ("upper:Q", "to", ".1%"), ("p_holm:Q", "p (Holm)", ".2~g"),
        ("n_holders:Q", "heads of the role", ",d"), ("n_others:Q", "other heads", ",d"), ("n_runs:Q", "runs"),
    )  # fmt: skip
    chart = forms.against_chance(
        table, "balanced_accuracy", "Balanced accuracy in unseen runs", "row", order, "", tooltip
    )
    return Figure(
        name="classified",
        title="Roles told from weight features, in runs of unseen seeds",
        sentence="A dot is the mean over held-out runs at the last step. Bars show exchanged labels (central 95%, with a tick at the mean).",
        alt="Dots of balanced accuracy by role and size over bars of what exchanged labels give.",
        chart=chart.properties(height=_ROW * len(order)),
        tables=(table,),
        small=chart.properties(height=forms.SMALL_HEIGHT),
    )


def _by_step(context: Context) -> Figure:
    table = "classified_steps"
    sizes = context.levels(table, "size", [*context.sizes, ALL_SIZES])
    x = axes.step_x()
    y = alt.Y("balanced_accuracy:Q", title="Balanced accuracy", axis=alt.Axis(format="%"), scale=alt.Scale(zero=False))
    tooltip = forms.tips(
        ("role:N", "role"), ("step:Q", "step", ",d"), ("balanced_accuracy:Q", "balanced accuracy", ".1%"), ("chance:Q", "chance", ".1%"),
        ("n_runs:Q", "runs"),
    )  # fmt: skip
    rows = forms.base(table)
    lines = rows.mark_line(strokeWidth=1.8, point=alt.OverlayMarkDef(size=22)).encode(x=x, y=y, color=_role(context))
    chart = alt.layer(lines, forms.hoverable(rows, x, y, tooltip, detail=alt.Detail("role:N"))).properties(height=170)
    return Figure(
        name="classified-steps",
        title="From when on weights tell the final role",
        sentence="Heads are those that hold the role at the last step, followed back. The classifier learns anew at each step. Chance is 50%.",
        alt="Curves of balanced accuracy over training steps, a line a role, a panel a size.",
        chart=forms.panels(chart, "size", sizes),
        tables=(table,),
        layout=Layout(panels=len(sizes), panel_width=230, max_columns=2),
    )


def _alike(context: Context) -> Figure:
    table = "alike_rows"
    order = context.levels(table, "row") if context.has(table) else []
    tooltip = forms.tips(
        ("row:N", ""), ("distance:Q", "mean distance", ".3f"), ("chance:Q", "exchanged heads", ".3f"), ("p_holm:Q", "p (Holm)", ".2~g"),
        ("n_pairs:Q", "pairs of heads", ",d"), ("n_runs:Q", "runs"),
    )  # fmt: skip
    chart = forms.against_chance(table, "distance", "Mean distance of two heads of the role", "row", order, "", tooltip)
    return Figure(
        name="alike",
        title="How far the weights of two heads of a role are apart",
        sentence="A dot left of its bar: heads of the role have more alike weights than other heads of the same layers. The unit is the "
        "standard deviation of heads within layers.",
        alt="Dots of mean distances by role and size over bars of what exchanged heads give.",
        chart=chart.properties(height=_ROW * max(1, len(order))),
        tables=(table,),
        controls=(context.control(table, "pairs", "Pairs of heads", last=True),) if context.has(table) else (),
    )


# Features ----------------------------------------------------------------------------------------------------


def features(context: Context) -> Section:
    return context.section(
        "features", "What sets the weights of a role apart?", [_tiles(context), _map(context)], about="features"
    )


def _tiles(context: Context) -> Figure:
    table = "feature_tiles"
    largest = context.highest(table, "difference")
    tooltip = forms.tips(
        ("role:N", "role"), ("feature:N", "feature"), ("meaning:N", "meaning"), ("difference:Q", "difference", ".2f"),
        ("lower:Q", "95%: from", ".2f"), ("upper:Q", "to", ".2f"), ("p_holm:Q", "p (Holm)", ".2~g"), ("n_runs:Q", "runs"),
    )  # fmt: skip
    x = alt.X("feature:N", title="Weight feature", sort=list(MEANINGS))
    y = axes.rows_y("role", list(context.values["roles"]), "")
    color = forms.diverging("difference", "Difference", domain=[-largest, largest])
    marks = forms.tiles(table, x, y, color, tooltip)
    sure = forms.base(table, "datum.p_holm <= 0.05").mark_point(size=26, filled=True, style="ink").encode(x=x, y=y)
    return Figure(
        name="features",
        title="Heads of a role less the other heads of their layers",
        sentence="Colours are differences in standard deviations of heads within layers, as means over runs. A dot marks p ≤ 0.05 after "
        "Holm’s correction. The tooltip says what a feature is.",
        alt="Heat map of differences in weight features, a row a role and a column a feature.",
        chart=alt.layer(marks, sure).properties(height=34 * max(1, len(context.values["roles"]))),
        tables=(table,),
        controls=(context.control(table, "size", "Size", last=True),) if context.has(table) else (),
    )


def _map(context: Context) -> Figure:
    table = "head_map"
    roles = list(context.values["roles"])
    own = colours(roles) | {NONE: NO_ROLE_COLOUR}
    color = forms.by_name("role", "Role", own)
    tooltip = forms.tips(
        ("run:N", "run"),
        ("layer:Q", "layer"),
        ("head:Q", "head"),
        ("role:N", "role"),
        ("explained:Q", "variance shown", ".0%"),
    )
    chart = forms.base(table).mark_point(size=60, filled=True).encode(
        x=alt.X("x:Q", title="First dimension"),
        y=alt.Y("y:Q", title="Second dimension"),
        color=color,
        opacity=forms.shown(0.85, 0.08, "seed"),
        tooltip=tooltip,
    )  # fmt: skip
    return Figure(
        name="head-map",
        title="Heads by their weight features",
        sentence="A dot is a head of a run at the last step; the colour is the role of the largest excess. Features are relative to the "
        "head’s layer. The two dimensions are those in which they vary most (principal components).",
        alt="Scatter plot of heads in two dimensions of their weight features, in the colours of their roles.",
        chart=forms.focusable(chart.properties(height=_MAP_HEIGHT)),
        tables=(table,),
        controls=(context.control(table, "size", "Size", last=True),),
    )


# Matches -----------------------------------------------------------------------------------------------------


def matches(context: Context) -> Section:
    return context.section(
        "matches", "Do heads have a counterpart in other runs?", list(_matches(context)), about="matches"
    )


def _matches(context: Context) -> Iterator[Item]:
    if missing := context.missing("Heads matched over runs", "similarity"):
        yield missing
        return
    yield _matched(context)
    yield _similarity(context)
    if not context.has("matched_rows"):
        return
    yield Table(
        "matched-table",
        "All roles and kinds of matching",
        context.tables["matched_rows"],
        {
            "role": "Role",
            "size": "Size",
            "by": "Matched by",
            "n_runs": "Runs",
            "n": "Met the same role",
            "n_possible": "Possible",
            "share": "Share",
            "expected": "Chance",
            "lower": "95% from",
            "upper": "to",
            "draws": "Exchanges",
            "p": "p",
            "p_holm": "p (Holm)",
        },
        "p is missing where all exchanges give the same count: all heads of these layers hold the role.",
        folded=True,
    )


def _matched(context: Context) -> Figure:
    table = "matched_rows"
    order = context.levels(table, "row") if context.has(table) else []
    tooltip = forms.tips(
        ("row:N", ""), ("share:Q", "share", ".1%"), ("n:Q", "pairs", ",d"), ("n_possible:Q", "of possible", ",d"),
        ("chance:Q", "exchanged heads", ".1%"), ("p_holm:Q", "p (Holm)", ".2~g"), ("n_runs:Q", "runs"),
    )  # fmt: skip
    chart = forms.against_chance(
        table, "share", "Share of heads of the role that meet one in the other run", "row", order, "", tooltip
    )
    return Figure(
        name="matched",
        title="Do heads of a role meet heads of the same role?",
        sentence="Heads of every two runs of a size are matched by what they do with the same tokens. Bars show heads exchanged within their "
        "layers (central 95%).",
        alt="Dots of the share of heads that are matched with heads of the same role, over bars of what exchanged heads give.",
        chart=chart.properties(height=_ROW * max(1, len(order))),
        tables=(table,),
        controls=(context.control(table, "by", "Matched by", order=list(BY.values()), last=True),)
        if context.has(table)
        else (),
    )


def _similarity(context: Context) -> Figure:
    table = "similarity"
    x, y = axes.step_x(), axes.value_y("similarity", "Similarity of matched heads")
    tooltip = forms.tips(
        ("size:N", "size"), ("step:Q", "step", ",d"), ("similarity:Q", "similarity", ".3f"), ("same_layer:Q", "in the same layer", ".0%"),
        ("same_layer_chance:Q", "random partners", ".0%"), ("agree:Q", "both kinds agree", ".0%"), ("n_pairs:Q", "pairs of runs"),
    )  # fmt: skip
    rows = forms.base(table)
    lines = rows.mark_line(strokeWidth=2, point=True).encode(
        x=x, y=y, color=forms.by_size(context.sizes), opacity=forms.shown(1, 0.13, "size")
    )
    return Figure(
        name="similarity",
        title="How alike matched heads are, over training",
        sentence="Lines are means over heads and pairs of runs of a size. Untrained heads show what matching alone gives.",
        alt="Curves of the similarity of matched heads over training steps, one a size.",
        chart=forms.focusable(alt.layer(lines, forms.hoverable(rows, x, y, tooltip))),
        tables=(table,),
        controls=(context.control(table, "by", "Matched by", order=list(BY.values()), last=True),),
        legend=True,
    )
