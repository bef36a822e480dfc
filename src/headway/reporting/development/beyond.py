"""Beyond the study: place, pairing and identity of heads across seeds and over time."""

from __future__ import annotations

from collections.abc import Iterator

import altair as alt

from headway.reporting.charts import forms
from headway.reporting.development.context import Context
from headway.reporting.numbers import ends
from headway.reporting.parts import Control, Figure, Item, Layout, Missing, Section

_CHANCE = [
    ("chance:Q", "by chance", ".3~f"),
    ("chance_lower:Q", "chance, from", ".3~f"),
    ("chance_upper:Q", "to", ".3~f"),
]
_TEST = [*_CHANCE, ("p:Q", "p", ".2~g")]
_GREY = "Grey bars are the central 95 % of what chance gives, with a tick at its mean."


def position(context: Context) -> Section:
    return context.section(
        "position",
        "Is it in the same place in every seed?",
        context.beyond("position"),
        _position_items(context),
        part="position",
    )


def _position_items(context: Context) -> Iterator[Item]:
    yield _depths(context)
    yield Figure(
        name="layer-agreement",
        title="Do seeds agree on the order of the layers?",
        sentence=f"Kendall’s W is 1 where every seed orders the layers alike. {_GREY}",
        alt="Kendall’s W of each size against what chance gives.",
        chart=forms.against_chance(
            "layer_agreement",
            "w",
            "Kendall’s W",
            "size",
            context.sizes,
            "Size",
            forms.tips(("size:N", "size"), ("w:Q", "W", ".3~f"), *_TEST),
        ).properties(height=30 * len(context.sizes)),
        tables=("layer_agreement",),
    )
    yield _top_layers(context)
    chart = forms.against_chance(
        "same_place",
        "share",
        "Share of pairs of seeds",
        "size",
        context.sizes,
        "Size",
        forms.tips(("size:N", "size"), ("share:Q", "share of pairs", ".1%"), *_TEST, ("n_pairs:Q", "pairs")),
    ).properties(height=alt.Step(28))
    yield Figure(
        name="same-place",
        title="Do the top heads of two seeds share their layer, or their number?",
        sentence=f"Heads have no order within a layer, so their numbers should agree no more than by chance. {_GREY}",
        alt="Share of pairs of seeds whose top heads agree in layer and in head number, against chance.",
        chart=forms.panels(chart, "what", ["layer", "head"], title="Same"),
        tables=("same_place",),
        layout=Layout(panels=2, panel_width=260, max_columns=2),
    )


def _depths(context: Context) -> Figure:
    base = alt.Chart(forms.named("top_head_depth"))
    x = alt.X("sixth:O", title="Sixth of the depth", axis=alt.Axis(labelAngle=0))
    tooltip = forms.tips(("size:N", "size"), ("sixth:O", "sixth"), ("share:Q", "share of runs", ".0%"), *_CHANCE)
    bars = base.mark_bar(width=18, opacity=0.85, style="accent").encode(
        x=x, y=alt.Y("share:Q", title="Share of runs", axis=alt.Axis(format="%")), tooltip=tooltip
    )
    chance = base.mark_rule(strokeWidth=2, style="soft").encode(
        x=x, y="chance_lower:Q", y2="chance_upper:Q", tooltip=tooltip
    )
    order = [*context.sizes, "all"]
    return Figure(
        name="top-head-depth",
        title="How deep is the top head?",
        sentence=(
            "Bars are the share of runs whose finally largest head lies in each sixth of the depth; grey "
            "lines the 95 % that chance gives."
        ),
        alt="Bars of the share of runs by depth of their top head, a panel a size and one for all.",
        chart=forms.panels(alt.layer(bars, chance).properties(height=150), "size", order, columns=3),
        tables=("top_head_depth",),
        layout=Layout(panels=len(order), panel_width=112, max_columns=3),
    )


def _top_layers(context: Context) -> Figure:
    base = alt.Chart(forms.named("layer_ranks"))
    x = alt.X("layer:O", title="Layer (counted from 0)", axis=alt.Axis(labelAngle=0))
    tooltip = forms.tips(
        ("size:N", "size"),
        ("layer:O", "layer"),
        ("top_share:Q", "top head is here", ".0%"),
        ("chance:Q", "by chance", ".0%"),
        ("mean_rank:Q", "mean rank of the layer", ".2~f"),
    )
    bars = base.mark_bar(opacity=0.85, style="accent").encode(
        x=x, y=alt.Y("top_share:Q", title="Share of runs", axis=alt.Axis(format="%")), tooltip=tooltip
    )
    chance = base.mark_line(strokeDash=[3, 3], style="soft", strokeWidth=1.2).encode(x=x, y="chance:Q")
    chart = forms.panels(alt.layer(bars, chance).properties(height=130), "size", context.sizes)
    return Figure(
        name="top-layers",
        title="Which layer holds the top head?",
        sentence=(
            "Bars are the share of seeds whose largest head of all is in the layer; the dashed line is an "
            "even spread over layers."
        ),
        alt="Bars of the share of seeds whose top head is in each layer, a panel a size.",
        chart=chart.resolve_scale(x="independent"),
        tables=("layer_ranks",),
        layout=Layout(panels=len(context.sizes), panel_width=230, max_columns=2),
    )


def matching(context: Context) -> Section:
    return context.section(
        "matching",
        "Do seeds grow the same heads?",
        context.beyond("matching"),
        _matching_items(context),
        part="matching",
    )


_TESTS = ["same layer", "layers", "beyond layers"]


def _matching_items(context: Context) -> Iterator[Item]:
    chart = forms.against_chance(
        "matching",
        "observed",
        "Share, or distance",
        "size",
        context.sizes,
        "Size",
        forms.tips(("size:N", "size"), ("observed:Q", "observed", ".3~f"), *_TEST, ("n_pairs:Q", "pairs of seeds")),
    ).properties(height=alt.Step(28))
    yield Figure(
        name="matching-tests",
        title="Heads paired by their trajectories, against chance",
        sentence=(
            "‘Same layer’: share of freely paired heads that share their layer (right of grey: more than chance). "
            "The others: distance between trajectories paired within layers (left of grey: closer than chance), where "
            "chance deals heads out to layers, and, ‘beyond layers’, each layer’s heads out to the seeds. "
            f"{_GREY}"
        ),
        alt="Three panels comparing the pairing of heads between seeds with chance.",
        chart=forms.panels(chart, "test", _TESTS, columns=3).resolve_scale(x="independent"),
        tables=("matching",),
        layout=Layout(panels=3, panel_width=190, max_columns=3),
    )
    if context.has("matched_heads"):
        yield _pairs(context)


def _pairs(context: Context) -> Figure:
    first = context.tables["matched_heads"].row(0, named=True)
    chart = (
        alt.Chart(forms.named("matched_heads"))
        .mark_point(size=70, filled=True, opacity=0.8)
        .encode(
            x=alt.X("layer1:O", title="Layer in the first seed", axis=alt.Axis(labelAngle=0)),
            y=alt.Y("layer2:O", title="Layer in the second seed", sort="descending"),
            xOffset=alt.XOffset("head1:Q"),
            yOffset=alt.YOffset("head2:Q"),
            color=alt.Color(
                "distance:Q",
                title="Distance between trajectories",
                scale=alt.Scale(range="ramp", reverse=True),
                legend=alt.Legend(type="gradient"),
            ),
            tooltip=forms.tips(
                ("layer1:O", "first seed: layer"),
                ("head1:O", "head"),
                ("layer2:O", "second seed: layer"),
                ("head2:O", "head "),
                ("distance:Q", "distance", ".3~g"),
            ),
        )
    )
    return Figure(
        name="matched-heads",
        title="The pairs of heads of two seeds",
        sentence=(
            "Each dot pairs a head of one seed with the head of another whose trajectory is most alike; dots "
            "on the diagonal stay in their layer."
        ),
        alt="Scatter plot of paired heads: layer in one seed against layer in another.",
        chart=chart,
        tables=("matched_heads",),
        controls=(
            Control("size", "Size", first["size"]),
            Control("seed1", "First seed", first["seed1"]),
            Control("seed2", "Second seed", first["seed2"]),
        ),
        layout=Layout(square=True),
    )


def identity(context: Context) -> Section:
    return context.section(
        "identity",
        "Is the head that ends on top there from the start?",
        context.beyond("identity"),
        _identity_items(context),
        part="identity",
    )


def _identity_items(context: Context) -> Iterator[Item]:
    yield _rank(context)
    yield _leads(context)
    yield _takes_lead(context)


def _rank(context: Context) -> Figure:
    base = alt.Chart(forms.named("final_head"))
    runs, means = (base.transform_filter(f"datum.kind == '{kind}'") for kind in ("seed", "mean"))
    x = forms.step_x()
    y = forms.share_y("percentile", "Percentile")
    tooltip = forms.tips(
        ("run:N", "run"),
        ("step:Q", "step", ",d"),
        ("percentile:Q", "percentile", ".0%"),
        ("rank:Q", "rank"),
        ("n_heads:Q", "of"),
        ("value:Q", "its value", ".4~g"),
        ("largest:Q", "the largest then", ".4~g"),
    )
    color = forms.by_size(context.sizes)
    band = means.mark_area().encode(
        x=x, y=alt.Y("lower:Q"), y2="upper:Q", color=color, opacity=forms.shown(0.15, 0.02, "size")
    )
    line = means.mark_line(strokeWidth=2.4).encode(
        x=x, y="percentile:Q", color=color, opacity=forms.shown(1, 0.12, "size")
    )
    dots = runs.mark_point(size=18, filled=True).encode(
        x=x, y=y, color=color, tooltip=tooltip, opacity=forms.shown(0.4, 0.04, "size", "seed")
    )
    return Figure(
        name="final-head-rank",
        title="Where the final top head stood before",
        sentence=(
            "Lines are the mean percentile of the finally largest head at each step (100 % is largest, 50 % "
            "chance), with 95 % intervals over seeds; dots are runs."
        ),
        alt="Lines of the percentile of the finally largest head over training steps, one a size.",
        chart=forms.focusable(forms.panels(alt.layer(band, dots, line).properties(height=170), "size", context.sizes)),
        tables=("final_head",),
        layout=Layout(panels=len(context.sizes), panel_width=230, max_columns=2),
    )


def _leads(context: Context) -> Figure:
    base = alt.Chart(forms.named("final_head_means"))
    x = forms.step_x()
    y = forms.share_y("share_leads", "Share of runs")
    tooltip = forms.tips(("size:N", "size"), ("step:Q", "step", ",d"), ("share_leads:Q", "share of runs", ".0%"))
    line = base.mark_line(strokeWidth=2.2, point=alt.OverlayMarkDef(size=24, filled=True)).encode(
        x=x, y=y, color=forms.by_size(context.sizes), opacity=forms.shown(1, 0.12, "size")
    )
    return Figure(
        name="share-leads",
        title="How often the final top head already leads",
        sentence="The share of a size’s runs in which the head that ends on top is already the largest at that step.",
        alt="Lines of the share of runs led by their final top head over training steps, one a size.",
        chart=forms.focusable(line + forms.hoverable(base, x, y, tooltip, detail="size:N")),
        tables=("final_head_means",),
        legend=True,
    )


def _takes_lead(context: Context) -> Figure:
    tooltip = forms.tips(
        ("run:N", "run"),
        ("final_layer:O", "final top head: layer"),
        ("final_head:O", "head"),
        ("takes_lead_after:Q", "another still led at step", ",d"),
        ("takes_lead_step:Q", "leads from step", ",d"),
        ("n_changes:Q", "changes of the lead"),
        ("n_leaders:Q", "heads that ever led"),
    )
    bars = (
        alt.Chart(forms.named("lead"))
        .mark_bar(height=7, cornerRadius=3)
        .encode(
            x=forms.log_x("start", forms.STEP_TITLE),
            x2="end:Q",
            y=alt.Y("seed:N", title="Seed", sort=context.seeds),
            color=forms.by_size(context.sizes),
            tooltip=tooltip,
            opacity=forms.shown(0.9, 0.12, "size", "seed"),
        )
        .properties(height=alt.Step(15))
    )
    return Figure(
        name="takes-lead",
        title="When the final top head takes the lead for good",
        sentence=(
            "A bar runs from the last measured step at which another head led to the first from which the "
            "final one leads to the end."
        ),
        alt="Bars on the step axis for each run, a panel a size.",
        chart=forms.focusable(forms.panels(bars, "size", context.sizes)),
        tables=("lead",),
        layout=Layout(panels=len(context.sizes), panel_width=230, max_columns=2),
    )


def duplicates(context: Context) -> Section:
    return context.section(
        "duplicates",
        "Are any checkpoints the same twice?",
        context.beyond("duplicates"),
        [_duplicates(context)],
        part="duplicates",
    )


def _duplicates(context: Context) -> Item:
    title = "Steps with identical scores in all heads"
    if not context.has("duplicates"):
        return Missing(title, "no two steps of a run are identical")
    base = alt.Chart(forms.named("duplicates"))
    y = alt.Y("seed:N", title="Seed", sort=context.seeds)
    color = alt.Color("kind:N", title="Identical steps", scale=alt.Scale(domain=_KINDS))
    tooltip = forms.tips(
        ("run:N", "run"), ("same_as:Q", "step", ",d"), ("step:Q", "is identical to step", ",d"), ("kind:N", "they are")
    )
    opacity = forms.shown(1, 0.15, "size", "seed")
    measured = context.tables["runs"]
    domain = [ends(measured["first_step"])[0] + 1, ends(measured["last_step"])[1] + 1]
    spans = base.mark_rule(strokeWidth=2).encode(x="start:Q", x2="end:Q", y=y, color=color, opacity=opacity)
    dots = [
        base.mark_point(size=45, filled=True).encode(
            x=forms.step_x(end, domain=domain), y=y, color=color, tooltip=tooltip, opacity=opacity
        )
        for end in ("start", "end")
    ]
    chart = alt.layer(spans, *dots).properties(height=alt.Step(15))
    return Figure(
        name="identical-steps",
        title=title,
        sentence=(
            "Two joined dots are two steps of a run that are the same in every score of every head. No slope is taken "
            "between neighbours; where others lie between, slopes reach over the earlier one."
        ),
        alt="Pairs of joined dots on the step axis for each run, a panel a size.",
        chart=forms.focusable(forms.panels(chart, "size", context.sizes)),
        tables=("duplicates",),
        layout=Layout(panels=len(context.sizes), panel_width=230, max_columns=2),
    )


_KINDS = ["next to one another", "with others between"]
