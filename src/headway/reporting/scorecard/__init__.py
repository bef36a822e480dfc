"""Make the report's chapter from a result of the study `scorecard`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import altair as alt
import polars as pl
import polars.selectors as cs

from headway.reporting.charts import forms
from headway.reporting.context import Context
from headway.reporting.parts import Chapter, Figure, Item, Layout, Section, Table, Term
from headway.reporting.scorecard.frames import DIFFERENCE, LINES, VIEWS, behind
from headway.studies import Result
from headway.studies.scorecard import SUBJECT
from headway.studies.scorecard.measures import AXES
from headway.text import count

_TITLE = "Scorecard: on which axes do claims about heads generalize?"
_COLOURS = dict(zip(AXES, ("#4477aa", "#aa3377", "#228833", "#b3560b", "#5f636b"), strict=True))
_QUESTIONS = {
    "functional": "is such a head there in every run, and is it needed?",
    "developmental": "does the role arise alike in different runs?",
    "positional": "do its heads lie in the same layers?",
    "relational": "are its heads joined to the same other roles?",
    "configurational": "are its heads alike in their weights?",
}
_GREY = "#8a8a8a"
_ROW = 20  # pixels of a line
_CROSS = "M-.7,-.7L.7,.7M.7,-.7L-.7,.7"
_TERMS = [
    Term("Scale", "0 is what chance gives, 1 is perfect.", "(observed − chance) / (1 − chance)"),
    Term(
        "Functional",
        "Some head holds the role in every run, and the heads’ ablation costs more than that of random heads.",
    ),
    Term(
        "Developmental",
        "The role’s score changes at the same steps in different runs, and the role arises between the same checkpoints.",
    ),
    Term(
        "Positional",
        "The role’s heads lie in the same layers in runs of one size, and at the same depths in runs of different sizes.",
    ),
    Term(
        "Relational",
        "The role’s heads are joined to heads of the same other roles in different runs, beyond what layers explain.",
    ),
    Term("Configurational", "The role’s heads can be told by their weights in a run that was left out."),
]
_METHODS = [
    "The five axes are those of Trott 2025 (arXiv 2509.22831).",
    "Criterion: the share of runs with a head that holds the role at the last step. Chance is the share of untrained runs that pass. Each "
    "is judged by a level from the other runs. The interval is exact (Clopper and Pearson).",
    "Ablation: the share of random groups of heads that cost less than the role’s heads, at the last step of each run. Chance is one half.",
    "Trajectories: the correlation of changes between steps of two runs’ largest scores. By chance each run’s changes come in "
    "another order.",
    "Onsets: whether two runs’ onsets lie in gaps between checkpoints that overlap. By chance an onset lies in any gap of its run.",
    "Layers: the share of heads of two runs in the same layers. Depths: 1 less the distance of the heads’ depths in runs of different "
    "sizes. By chance heads lie anywhere in their run.",
    "Composition: the overlap of two runs’ strongest edges, counted by what reads, by direction, and by the role at the other end. By "
    "chance heads exchange their roles within layers.",
    "Paths: the share of other heads of the senders’ layers whose path changes the role’s score less. Chance is one half.",
    "Runs are the units; of lines over sizes, sizes are. Intervals over pairs are t intervals with the jackknife’s error, to which "
    "that of chance is added. The lower end is also that of the same runs and one more, which has what chance gives.",
    "The numbers of runs for an interval of ± 0.2 or ± 0.1 take the spread of these runs as that of all runs.",
]
_LIMITS = [
    "A value near 1 says that runs agree. Runs that share data, its order or their initialisation may agree for that reason.",
    "Chance differs from axis to axis, so that values of different axes cannot be ranked.",
    "Intervals of few runs are wide. In simulations they cover the truth in at least 90% of suites, and mostly in more than 95%.",
    "Lines over sizes rest on few sizes. Without three sizes they have no interval.",
    "Intervals are of one line each, not corrected for their number. The figure cuts them at −1.",
]


def chapter(result: Result) -> Chapter:
    """Return the chapter of the result."""
    context = Context(result, VIEWS)
    subjects = context.levels("lines", "subject")
    sections = [_card(context), *_axes(context)]
    if context.has("differences"):
        sections.insert(1, _differences(context))
    shown_by = {("whole", finding.name): "card" for finding in result.findings("whole")} | {
        ("difference", "clear"): "card"
    }
    return Chapter(
        study=result.study,
        subject=result.subject,
        title=_TITLE,
        summary=context.highlights(
            shown_by, sections, lambda one: {"subject": one.name if one.section == "whole" else subjects[0]}
        ),
        facts=_facts(context),
        notes=result.notes,
        sections=sections,
        terms=_TERMS,
        methods=_METHODS,
        limits=_LIMITS,
        tables=context.tables,
        sizes=context.sizes,
        seeds=context.seeds,
        left_out=[(left["what"], left["reason"]) for left in result.values.get("left_out") or []],
    )


def _facts(context: Context) -> list[tuple[str, str]]:
    claims, runs = len(context.values["roles"]), context.tables["runs"].height
    facts = [("scorecard", f"{count(claims, 'claim')}, {count(runs, 'run')} of {count(len(context.sizes), 'size')}")]
    facts.append(("draws of chance", f"{context.values['draws']:,}"))
    if names := context.values.get("directories"):
        facts.append(("this directory", names[0]))
        facts.append(("beside", names[1]))
    return facts


def _card(context: Context) -> Section:
    items: list[Item] = [_figure(context), _numbers(context), *_unanswered(context)]
    return context.section("card", "On which axes do claims generalize?", items, about="whole")


def _figure(context: Context) -> Figure:
    names = context.values.get("directories") or []
    rows = [*names, DIFFERENCE] if names else []
    subjects = context.levels("lines", "subject")
    card = _layers(context, rows)
    height: dict[str, Any] = {"step": 12, "for": "offset"} if names else {"step": _ROW}
    chart = forms.panels(card.properties(height=height, width=230), "subject", subjects)
    beside = f" Circles are {names[0]}, squares {names[1]}, diamonds their difference." if names else ""
    return Figure(
        name="card",
        title="The scorecard",
        sentence="A line is a measure of an axis, from what chance gives (0, dotted) to perfect (1, solid). Bars are 95% intervals over "
        f"runs or sizes.{beside} Large marks stand for their axis. Open marks have too few runs for an interval. Crosses: these data cannot tell.",
        alt="Dots with intervals on a scale from chance to perfect, a row for each measure of the five axes, a panel for each role.",
        chart=chart,
        tables=("lines",),
        layout=Layout(panels=len(subjects), panel_width=300, max_columns=2, own_axes=True),
        small=card,
    )


def _layers(context: Context, rows: list[str]) -> Any:
    table = "lines"
    order = [line for line in LINES if line in set(context.tables[table]["line"])]
    axis = alt.Axis(values=[-1, -0.5, 0, 0.5, 1], format="~g")
    x = alt.X(
        "shown:Q", title="From chance (0) to perfect (1)", scale=alt.Scale(domain=[-1, 1.05], nice=False), axis=axis
    )
    place: dict[str, Any] = {"y": alt.Y("line:N", title=None, sort=order, axis=alt.Axis(labelLimit=220, grid=True))}
    if rows:
        place["yOffset"] = alt.YOffset("directory:N", sort=rows)
    shapes = alt.Scale(domain=rows or [""], range=["circle", "square", "diamond"][: len(rows) or 1])
    legend = alt.Legend(orient="top", symbolFillColor=_GREY, symbolStrokeColor=_GREY) if rows else None
    colours = alt.Scale(domain=list(_COLOURS), range=list(_COLOURS.values()))
    apart, grey = f"datum.directory == '{DIFFERENCE}'", alt.value(_GREY)
    colour = alt.condition(apart, grey, alt.Color("axis:N", scale=colours, legend=None))
    fill = alt.condition(apart, grey, alt.Fill("axis:N", scale=colours, legend=None))
    tooltip = forms.tips(
        ("line:N", ""), ("directory:N", "directory"), ("what:N", "of"), ("value:Q", "value", ".2f"), ("lower:Q", "95% from", ".2f"),
        ("upper:Q", "to", ".2f"), ("observed:Q", "observed", ".3~g"), ("chance:Q", "chance", ".3~g"), ("p:Q", "p", ".2~g"),
        ("n_units:Q", "runs or sizes"), ("n_pairs:Q", "pairs of runs", ",d"), ("n_controls:Q", "controls, at least", ",d"),
        ("n_draws:Q", "draws of chance", ",d"),
    )  # fmt: skip
    why = forms.tips(("line:N", ""), ("reason:N", "unanswered, because"), ("needs:N", "to answer it"))
    bounded = forms.base(table, "datum.answered && isValid(datum.lower)").transform_calculate(
        start="max(-1, datum.lower)", end="min(1, datum.upper)"
    )
    rule = bounded.mark_rule().encode(
        x=alt.X("start:Q"), x2=alt.X2("end:Q"), color=colour,
        strokeWidth=alt.condition("datum.headline", alt.value(2.6), alt.value(1.3)), **place,
    )  # fmt: skip
    reached = forms.base(table, "datum.answered").transform_calculate(shown="min(1, max(-1, datum.value))")
    dots = reached.mark_point(opacity=1, strokeWidth=1.8).encode(
        x=x, color=colour, fill=fill, shape=alt.Shape("directory:N", title="", scale=shapes, legend=legend),
        size=alt.condition("datum.headline", alt.value(70), alt.value(30)),
        fillOpacity=alt.condition("isValid(datum.lower)", alt.value(1), alt.value(0)), tooltip=tooltip, **place,
    )  # fmt: skip
    silent = forms.base(table, "!datum.answered")
    crosses = silent.mark_point(shape=_CROSS, size=50, strokeWidth=1.5, style="soft").encode(
        x=alt.XDatum(-0.96), tooltip=why, **place
    )
    words = silent.mark_text(align="left", dx=8, fontSize=9, fontStyle="italic").encode(
        x=alt.XDatum(-0.96), text=alt.value("not answered"), tooltip=why, **place
    )
    per_panel = alt.Chart(forms.named(table)).transform_aggregate(rows="count()", groupby=["subject"])
    perfect = per_panel.mark_rule(style="soft", strokeWidth=1).encode(x=alt.XDatum(1))
    return alt.layer(forms.guide(table, "subject", x=0), perfect, rule, crosses, words, dots)


_NUMBERS = {
    "subject": "Claim", "line": "Line", "value": "Value", "lower": "95% from", "upper": "to", "observed": "Observed", "chance": "Chance",
    "p": "p", "n_units": "Runs or sizes", "n_pairs": "Pairs of runs", "n_controls": "Controls, at least", "n_draws": "Draws",
    "units_for_02": "Needed for ± 0.2", "units_for_01": "for ± 0.1",
}  # fmt: skip


def _numbers(context: Context) -> Table:
    frame = context.tables["lines"].filter(pl.col("answered"), pl.col("directory") != DIFFERENCE)
    shown = {"directory": "Directory", **_NUMBERS} if context.has("against") else _NUMBERS
    own = (context.values.get("directories") or [""])[0]
    ending = context.result.subject.removeprefix(SUBJECT).partition("-against-")[0]
    addresses = [behind(row, ending) if row["directory"] == own else "" for row in frame.iter_rows(named=True)]
    return Table(
        "numbers",
        "The numbers of every line",
        frame.with_columns(cs.float().round(3), address=pl.Series(addresses, dtype=pl.String)),
        shown,
        "A line leads to the figure behind it, if the report has one. Needed: runs, or sizes, for an interval of this half-width, if they "
        "scatter as these do; – is more than 1,000, or unknown. "
        "Controls beside the criterion are untrained runs. Without draws, chance is known exactly.",
        folded=True,
        links={"line": "address"},
    )


def _unanswered(context: Context) -> Iterator[Table]:
    frame = context.tables["lines"].filter(~pl.col("answered"))
    if frame.height:
        shown = {
            "subject": "Claim",
            "line": "Line",
            "reason": "Unanswered, because",
            "needs": "To answer it",
        }
        yield Table(
            "unanswered",
            "What these data cannot answer",
            frame,
            {"directory": "Directory", **shown} if context.has("against") else shown,
        )


def _axes(context: Context) -> Iterator[Section]:
    """A section for each axis, with the findings of all claims."""
    for axis in AXES:
        yield context.section(axis, f"{axis.capitalize()}: {_QUESTIONS[axis]}", [], about=axis)


def _differences(context: Context) -> Section:
    names = context.values["directories"]
    table = Table(
        "differences",
        f"{names[1]} less {names[0]}",
        context.tables["differences"],
        {
            "subject": "Claim", "axis": "Axis", "measure": "Measure", "over": "Over", "value": names[0], "other_value": names[1],
            "difference": "Difference", "lower": "95% from", "upper": "to", "n_units": f"Runs or sizes, {names[0]}",
            "other_n_units": names[1],
        },
        "Intervals of differences are made from those of both values (MOVER).",
    )  # fmt: skip
    return context.section("difference", "Do the two directories differ?", [table], about="difference")
