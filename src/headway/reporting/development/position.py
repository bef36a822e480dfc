"""Place and pairing of heads across seeds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import altair as alt

from headway.reporting.charts import axes, forms
from headway.reporting.context import Context
from headway.reporting.parts import Control, Figure, Item, Layout, Section
from headway.tables import SCORES


def position(context: Context) -> Section:
    return context.section(
        "position", "Is it in the same place in every seed?", _position_items(context), about="position"
    )


def _position_items(context: Context) -> Iterator[Item]:
    yield _depths(context)
    if context.has("ratio_heads"):
        yield _ratio_heads(context)
    yield _agreement(context)
    yield _top_layers(context)
    yield _same_place(context)


def _size_rows(context: Context, table: str, x: str, title: str, tooltip: list[alt.Tooltip]) -> Any:
    """A row for each size: what was observed, on what chance gives."""
    return forms.against_chance(table, x, title, "size", context.sizes, "Size", tooltip)


def _depths(context: Context) -> Figure:
    table = "top_head_depth"
    x = axes.layer_x("sixth", "Sixth of the layers")
    tooltip = forms.tips(
        ("size:N", "size"), ("sixth:O", "sixth"), ("share:Q", "share of runs", ".0%"), *forms.CHANCE_TIPS
    )
    order = [*context.sizes, "all"]
    bars = forms.shares_and_chance(table, x, "share", tooltip, ranges=True).properties(height=150)
    last = context.levels(table, "size")[-1] if context.has(table) else "all"  # that of all sizes, or of the only one
    return Figure(
        name="top-head-depth",
        title="How deep is the top head?",
        sentence="Bars are the share of runs whose largest head at the final step lies in each sixth of the layers. "
        "Grey lines are the 95% range of what chance gives.",
        alt="Bars of the share of runs by depth of their top head, a panel a size and one for all.",
        chart=forms.panels(bars, "size", order, columns=3),
        tables=(table,),
        layout=Layout(panels=len(order), panel_width=112, max_columns=3),
        small=forms.shares_and_chance(
            table, x, "share", tooltip, ranges=True, where=f"datum.size == {json.dumps(last)}"
        ),
    )


def _ratio_heads(context: Context) -> Figure:
    table = "ratio_heads"
    numerator = SCORES[context.value("beyond", "ratio", "numerator")]
    tooltip = forms.tips(
        ("run:N", "run"),
        ("layer:O", "layer"),
        ("head:O", "head"),
        ("ratio:Q", context.score, ".3~f"),
        ("numerator:Q", numerator.name, ".3~f"),
        ("numerator_layer:O", "the other head: layer"),
        ("numerator_head:O", "head "),
        ("numerator_largest:Q", numerator.name + " ", ".3~f"),
    )
    x, y = alt.X("numerator:Q", title=numerator.title), axes.value_y("ratio", context.short_axis, zero=True)
    dots = forms.run_dots(forms.base(table), x, y, context.sizes, tooltip)
    rings = forms.base(table, "!datum.same").mark_point(size=190, style="ink", strokeWidth=1.3)
    return Figure(
        name="ratio-heads",
        title="Does the head with the largest ratio attend the most?",
        sentence="Each dot is a run’s head with the largest ratio at the final step. "
        f"A ring marks runs in which another head has a larger {numerator.name}: the ratio is large for a small divisor.",
        alt=f"Scatter plot of each run’s largest {context.score.lower()} against the {numerator.name} of that head.",
        chart=forms.focusable(dots + rings.encode(x=x, y=y)),
        tables=(table,),
        small=forms.focusable(dots + rings.encode(x=x, y=y)),
        legend=True,
    )


def _agreement(context: Context) -> Figure:
    tooltip = forms.tips(("size:N", "size"), ("w:Q", "W", ".3~f"), *forms.TEST_TIPS)
    chart = _size_rows(context, "layer_agreement", "w", "Kendall’s W", tooltip)
    return Figure(
        name="layer-agreement",
        title="Do seeds agree on the order of the layers?",
        sentence=f"Kendall’s W is 1 where every seed orders the layers alike. {forms.GREY}",
        alt="Kendall’s W of each size against what chance gives.",
        chart=chart.properties(height=30 * len(context.sizes)),
        tables=("layer_agreement",),
    )


def _same_place(context: Context) -> Figure:
    tooltip = forms.tips(
        ("size:N", "size"), ("share:Q", "share of pairs", ".1%"), *forms.TEST_TIPS, ("n_pairs:Q", "pairs")
    )
    chart = _size_rows(context, "same_place", "share", "Share of pairs of seeds", tooltip)
    return Figure(
        name="same-place",
        title="Do the top heads of two seeds share their layer, or their number?",
        sentence="Heads have no order within a layer, so their numbers should agree no more often than by chance. "
        f"{forms.GREY}",
        alt="Share of pairs of seeds whose top heads agree in layer and in head number, against chance.",
        chart=forms.panels(chart.properties(height=alt.Step(28)), "what", ["layer", "head"], title="Same"),
        tables=("same_place",),
        layout=Layout(panels=2, panel_width=260, max_columns=2),
    )


def _top_layers(context: Context) -> Figure:
    tooltip = forms.tips(
        ("size:N", "size"),
        ("layer:O", "layer"),
        ("top_share:Q", "top head is here", ".0%"),
        ("chance:Q", "by chance", ".0%"),
        ("mean_rank:Q", "mean rank of the layer", ".2~f"),
    )
    bars = forms.shares_and_chance("layer_ranks", axes.layer_x(), "top_share", tooltip, ranges=False)
    chart = forms.panels(bars.properties(height=130), "size", context.sizes)
    return Figure(
        name="top-layers",
        title="Which layer holds the top head?",
        sentence="Bars are the share of seeds whose largest head is in the layer. "
        "The dashed line is an even spread over layers.",
        alt="Bars of the share of seeds whose top head is in each layer, a panel a size.",
        chart=chart.resolve_scale(x="independent"),
        tables=("layer_ranks",),
        layout=context.size_panels,
    )


def matching(context: Context) -> Section:
    return context.section("matching", "Do seeds grow the same heads?", _matching_items(context), about="matching")


_TESTS = ["same layer", "layers", "beyond layers"]


def _matching_items(context: Context) -> Iterator[Item]:
    tooltip = forms.tips(
        ("size:N", "size"), ("observed:Q", "observed", ".3~f"), *forms.TEST_TIPS, ("n_pairs:Q", "pairs of seeds")
    )
    chart = _size_rows(context, "matching", "observed", "Share, or distance", tooltip).properties(height=alt.Step(28))
    yield Figure(
        name="matching-tests",
        title="Heads paired by their trajectories, against chance",
        sentence="‘Same layer’ is the share of freely paired heads that share their layer: right of grey is more than chance. "
        "The others are distances between heads paired within layers: left of grey is closer than chance. "
        "Chance deals heads out to the layers, or, for ‘beyond layers’, each layer’s heads out to the seeds. "
        f"{forms.GREY}",
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
        forms.base("matched_heads")
        .mark_point(size=70, filled=True, opacity=0.8)
        .encode(
            x=axes.layer_x("layer1", "Layer in the first seed"),
            y=axes.layer_y("layer2", "Layer in the second seed"),
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
        sentence="Each dot pairs a head of one seed with the head of another whose trajectory is most alike. "
        "Dots on the diagonal stay in their layer.",
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
