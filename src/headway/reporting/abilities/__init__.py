"""Make the report's chapter from a result of the study `abilities`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import altair as alt
import polars as pl

from headway.known_abilities import ABILITIES, restates
from headway.reporting.charts import axes, forms
from headway.reporting.context import Context, View
from headway.reporting.parts import Chapter, Control, Figure, Item, Layout, Missing, Section, Table, Term
from headway.reporting.roles.frames import colours
from headway.studies import Result
from headway.text import count

Tables = Mapping[str, pl.DataFrame]
_TITLE = "Roles and abilities: what rises with what?"
_ROLE, _ABILITY = "role", "ability"
_OF_ABILITIES = ("#d95f02", "#6f7379", "#1b9e9e", "#8c6d31")  # none of them is a role's
_MOST_LINES = len(_OF_ABILITIES)  # abilities that are drawn together


def _timeline(tables: Tables) -> pl.DataFrame:
    """The scaled means on the axis of step + 1, named as in texts.

    Abilities that say what another says are left out, and of many no more are drawn than can be told apart.
    """
    table = tables["timeline"]
    abilities = table.filter(what=_ABILITY)["name"].unique(maintain_order=True).to_list()
    drawn = ([name for name in abilities if not restates(name)] or abilities)[:_MOST_LINES]
    shown = (pl.col("what") == _ROLE) | pl.col("name").is_in(drawn)
    titles = {name: ABILITIES[name].title for name in drawn if name in ABILITIES}
    return table.filter(shown).with_columns(pl.col("name").replace(titles), step_modded=pl.col("step") + 1)


def _pairs(tables: Tables) -> pl.DataFrame:
    """The onsets of a role and of an ability in one row per run, where both are known: the middles of their intervals."""

    def middle(frame: pl.DataFrame, name: str) -> pl.DataFrame:
        low, high = pl.col("lower").fill_null(0) + 1, pl.col("upper") + 1
        return frame.drop_nulls("upper").select(
            "run", "size", "seed", pl.col("role").alias(name), (low * high).sqrt().alias(f"{name}_at")
        )

    roles = middle(tables["role_onsets"], _ROLE)
    abilities = middle(tables["ability_onsets"], _ABILITY).drop("size", "seed")
    return roles.join(abilities, on="run", maintain_order="left")


def _tested(tables: Tables) -> pl.DataFrame:
    return tables["coupling"].with_columns(pair=pl.format("{}, {}", "role", "ability"))


VIEWS: dict[str, View] = {
    "lines": View(("timeline",), _timeline),
    "pairs": View(("role_onsets", "ability_onsets"), _pairs),
    "coupled": View(("coupling",), _tested),
}


def chapter(result: Result) -> Chapter:
    """Return the chapter of the result."""
    context = Context(result, VIEWS)
    sections = [_over_time(context), _order(context), _together(context), _earlier(context)]
    orders = {("order", finding.name): "timeline" for finding in result.findings("order")}
    shown_by = orders | {("coupling", "changes"): "coupling", ("timing", "onsets"): "onset-pairs"}
    names = context.levels("curves", "ability")
    return Chapter(
        study=result.study,
        subject=result.subject,
        title=_TITLE,
        summary=context.highlights({key: name for key, name in shown_by.items() if _drawn(sections, name)}, sections),
        facts=[
            (
                "abilities",
                f"{count(len(names), 'ability', 'abilities')}, {count(len(context.levels('curves', 'run')), 'run')}",
            )
        ],
        notes=result.notes,
        sections=sections,
        terms=_TERMS,
        methods=_METHODS,
        limits=_LIMITS,
        tables=context.tables,
        sizes=_sizes(context),
        seeds=context.levels("curves", "seed"),
        left_out=[(left["what"], left["reason"]) for left in result.values.get("left_out") or []],
    )


def _drawn(sections: list[Section], name: str) -> bool:
    return any(figure.name == name for section in sections for figure in section.figures)


def _sizes(context: Context) -> list[str]:
    there = set(context.levels("curves", "size"))
    return [size for size in context.values["sizes"] if size in there]


def _over_time(context: Context) -> Section:
    return context.section(
        "abilities", "How do abilities develop?", [_lines(context), _curves(context)], about="abilities"
    )


def _lines(context: Context) -> Figure:
    table, sizes = "lines", _sizes(context)
    n_abilities, n_drawn = len(context.levels("curves", "ability")), len(_named(context, _ABILITY))
    more = f" {n_drawn} of {n_abilities} abilities are drawn." if n_drawn < n_abilities else ""
    x, y = axes.step_x(), axes.value_y("scaled", "From least to most", zero=True)
    color = alt.Color(
        "name:N", title=None, scale=_line_colours(context), legend=alt.Legend(orient="top", columns=3, labelLimit=260)
    )
    dash = alt.StrokeDash("what:N", scale=alt.Scale(domain=[_ROLE, _ABILITY], range=[[1, 0], [6, 3]]), legend=None)
    tooltip = forms.tips(("name:N", ""), ("step:Q", "step", ",d"), ("value:Q", "mean", ".4~g"))
    lines = (
        forms.base(table)
        .mark_line(strokeWidth=2.2)
        .encode(x=x, y=y, color=color, strokeDash=dash, detail=alt.Detail("name:N"))
    )
    hover = forms.hoverable(forms.base(table), x, y, tooltip, detail=alt.Detail("name:N"))
    return Figure(
        name="timeline",
        title="Roles and abilities on one time axis",
        sentence="Solid lines are the largest score of any head for a role, dashed lines abilities, both means over the runs of a "
        "size. Each goes from the least to the most that it reaches in any size. Abilities that fall as they get better are turned over."
        + more,
        alt="Scaled curves of roles and abilities over training steps, a panel a size.",
        chart=forms.panels(alt.layer(lines, hover).properties(height=190), "size", sizes),
        tables=(table,),
        layout=Layout(panels=len(sizes), panel_width=230, max_columns=2),
        small=lines.transform_filter(f"datum.size == '{sizes[-1]}'"),
    )


def _line_colours(context: Context) -> alt.Scale:
    """A role has its colour of all chapters; an ability has one of its own."""
    roles = _named(context, _ROLE)
    of_roles = colours([name.removesuffix(" heads") for name in roles]).values()
    of_lines = dict(zip(roles, of_roles, strict=True)) | dict(
        zip(_named(context, _ABILITY), _OF_ABILITIES, strict=False)
    )
    return alt.Scale(domain=list(of_lines), range=list(of_lines.values()))


def _named(context: Context, what: str) -> list[str]:
    return context.tables["lines"].filter(what=what)["name"].unique(maintain_order=True).to_list()


def _curves(context: Context) -> Figure:
    table, sizes = "curves", _sizes(context)
    x = axes.step_x("at")
    chart = forms.base(table).transform_calculate(at="datum.step + 1")
    y = axes.value_y("value", "Value")
    tooltip = forms.tips(("run:N", "run"), ("step:Q", "step", ",d"), ("value:Q", "value", ".4~g"))
    lines = chart.mark_line(strokeWidth=1.3).encode(
        x=x, y=y, detail=alt.Detail("run:N"), color=forms.by_size(sizes), opacity=forms.shown(0.7, 0.08, "size", "seed")
    )
    return Figure(
        name="ability-curves",
        title="An ability in every run",
        sentence="Each line is a run.",
        alt="Curves of the chosen ability over training steps, a line a run.",
        chart=forms.focusable(alt.layer(lines, forms.hoverable(chart, x, y, tooltip, detail=alt.Detail("run:N")))),
        tables=(table,),
        controls=(context.control(table, "ability", "Ability"),),
        legend=True,
    )


def _order(context: Context) -> Section:
    items: list[Item] = [
        context.missing("The order of roles and abilities", "order")
        or Table(
            "order",
            "The order of roles and abilities within runs",
            context.tables["order"],
            {
                "role": "Role",
                "ability": "Ability",
                "n_first": "Role first (runs)",
                "n_second": "Ability first",
                "n_tie": "Cannot tell",
                "n_unknown": "Neither",
                "p": "p",
                "p_holm": "p (Holm)",
                "lag_lower": "Lag, decades: from",
                "lag_upper": "to",
            },
            "p is that of the exact sign test over the runs that can tell.",
        )
    ]
    return context.section("order", "Which comes first, role or ability?", items, about="order")


def _together(context: Context) -> Section:
    return context.section("coupling", "Do they change together?", list(_coupling(context)), about="coupling")


def _coupling(context: Context) -> Iterator[Item]:
    if not context.has("coupling") or context.tables["coupling"].is_empty():
        yield Missing("Changes of roles and abilities", context.reason("coupling"))
        return
    order = context.levels("coupled", "pair")
    tooltip = forms.tips(
        ("pair:N", ""), ("r:Q", "mean correlation", ".3f"), *forms.TEST_TIPS, ("n_runs:Q", "runs", "d")
    )
    chart = forms.against_chance("coupled", "r", "Mean correlation of changes within runs", "pair", order, "", tooltip)
    yield Figure(
        name="coupling",
        title="Changes of a role and of an ability, within runs",
        sentence="A dot is the correlation of changes between checkpoints, averaged over runs. Grey bars show it with each run’s role beside "
        "the ability of another run of its size (central 95%). Only a dot outside its bar says that a run’s own changes go together.",
        alt="Mean correlations of changes by pair of role and ability, each against runs exchanged.",
        chart=chart.properties(height=30 * len(order)),
        tables=("coupled",),
    )


def _earlier(context: Context) -> Section:
    return context.section(
        "timing", "Does an earlier role mean an earlier ability?", list(_timing(context)), about="timing"
    )


def _timing(context: Context) -> Iterator[Item]:
    if not context.has("pairs") or context.tables["pairs"].is_empty():
        yield Missing("Onsets of roles and abilities", context.reason("pairs", "timing"))
        return
    table, sizes = "pairs", _sizes(context)
    x = axes.log_x("role_at", "The role arises at step + 1 (middle of its interval)")
    y = axes.log_y("ability_at", "The ability is half of its way")
    tooltip = forms.tips(("run:N", "run"), ("role_at:Q", "role at", ",.0f"), ("ability_at:Q", "ability at", ",.0f"))
    first = context.tables[table].row(0, named=True)
    yield Figure(
        name="onset-pairs",
        title="Onset of the role and of the ability, in every run",
        sentence="Each dot is a run. Dots above the diagonal have the role first. Dots of runs with the same intervals coincide.",
        alt="Scatter plot of the onset of an ability against that of a role, a dot a run.",
        chart=forms.focusable(forms.run_dots(forms.base(table), x, y, sizes, tooltip)),
        tables=(table,),
        controls=(Control("role", "Role", first["role"]), Control("ability", "Ability", first["ability"])),
        legend=True,
    )


_TERMS = [
    Term("Ability", "One number of a checkpoint, such as its accuracy on repeated sequences or a benchmark result."),
    Term("Half of its way", "The value midway between an ability’s first and its best value in a run. A run that ends early takes the median "
         "of the others."),
    Term("Role", "A score and the level that it must pass; see the chapter on roles."),
]  # fmt: skip
_METHODS = [
    "Changes are those between neighbouring checkpoints: of the largest score of any head, and of the ability. Their correlation is taken "
    "within each run and averaged. For p, the roles of runs are set beside the abilities of other runs of the same size (two-sided).",
    "For timing, pairs of runs of one size are put in order by the onset of the role and by that of the ability (Kendall’s tau-b, overlapping "
    "intervals tied), and runs are exchanged in the same way.",
    "p is corrected over all pairs of roles and abilities (Holm).",
]
_LIMITS = [
    "Two curves that rise correlate anyway. Even changes that go together within runs can both follow from something else.",
    "Whether the ability needs the role is a question for interventions.",
    "Leads and lags shorter than the gap between checkpoints cannot be seen.",
    "Roles that should not matter stand beside the others as a control: a method that couples them, too, says little.",
]
