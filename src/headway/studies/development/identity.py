"""Identity over time: is the head that is largest at the end the one that was largest before?"""

from __future__ import annotations

from typing import Any

import polars as pl

from headway.stats.distributions import t_quantile
from headway.studies.development.builder import ResultBuilder
from headway.studies.development.heads import RUN_COLUMNS, SIZE_COLUMNS, Heads
from headway.studies.development.position import NO_TOP_HEAD, top_heads
from headway.studies.prose import from_to, percent, share_of

_TABLES = ("final_head", "final_head_means", "lead")


def identity(draft: ResultBuilder) -> None:
    """Adds the rise of each run's finally largest head among its heads, and when it takes the lead."""
    heads = draft.heads
    tops = top_heads(heads).filter(pl.col("run").is_in(heads.followed))
    if not tops.height:
        only_one = "no run has two distinct steps, so nothing is known of the time before the last"
        draft.leave_out("beyond.identity", NO_TOP_HEAD if heads.followed else only_one, _TABLES)
        return
    rise = final_head(heads, tops)
    draft.tables["final_head"] = rise
    draft.tables["final_head_means"] = final_head_means(rise)
    draft.tables["lead"] = lead(heads, tops, rise)
    _say(draft, _sizes(heads, draft.tables["lead"]))


def final_head(heads: Heads, tops: pl.DataFrame) -> pl.DataFrame:
    """At each step, the value and rank of the head that is the run's largest at the final step.

    `percentile` is 1 for the largest, 0 for the smallest, 0.5 on average for a head picked blindly. `leads`: no other
    head is as large.
    """
    places = tops.lazy().select("run", "layer", "head", is_final=True)
    marked = heads.frame.lazy().join(places, on=["run", "layer", "head"], how="left", maintain_order="left")
    ranked = heads.frame.with_columns(
        marked.select("is_final").collect().to_series(),
        rank=pl.col("value").rank("average", descending=True).over("run", "step"),
        largest=pl.col("value").max().over("run", "step"),
        n=pl.len().over("run", "step"),
    )
    return ranked.filter("is_final").select(
        *RUN_COLUMNS,
        "step",
        "step_modded",
        "value",
        "largest",
        "rank",
        n_heads="n",
        percentile=pl.when(pl.col("n") > 1).then((pl.col("n") - pl.col("rank")) / (pl.col("n") - 1)),
        leads=pl.col("rank") == 1,
    )


def _final_places(tops: pl.DataFrame) -> pl.DataFrame:
    return tops.select("run", final_layer="layer", final_head="head", final_step="step")


def final_head_means(rise: pl.DataFrame) -> pl.DataFrame:
    """The percentile averaged over seeds with a 95% t interval, and the share of runs in which the head leads."""
    averages = (
        rise.group_by(*SIZE_COLUMNS, "step", "step_modded", maintain_order=True)
        .agg(
            mean=pl.col("percentile").mean(),
            half=_t_quantile() * pl.col("percentile").std() / pl.col("percentile").count().sqrt(),
            share_leads=pl.col("leads").mean(),
            n_seeds=pl.len(),
        )
        .sort("n_params", "model", "step")
    )
    mean, half = pl.col("mean"), pl.col("half")
    return averages.select(
        *SIZE_COLUMNS,
        "step",
        "step_modded",
        "mean",
        lower=(mean - half).clip(0, 1),
        upper=(mean + half).clip(0, 1),
        share_leads="share_leads",
        n_seeds="n_seeds",
    )


def _t_quantile() -> pl.Expr:
    """The 97.5% quantile of t for the group's number of percentiles."""
    return pl.col("percentile").count().map_elements(lambda n: t_quantile(0.975, n - 1), return_dtype=pl.Float64)


def lead(heads: Heads, tops: pl.DataFrame, rise: pl.DataFrame) -> pl.DataFrame:
    """When each run's final top head takes the lead for good, and how often the lead changes hands.

    Repeated and suspect checkpoints count as no step of their own, nor do those at which several heads share the lead.
    `percentile_first` is the head's at the start step of its size; None for a run that lacks it.
    """
    steps = heads.distinct.filter(pl.col("layer").is_not_null())
    leaders = steps.join(_final_places(tops), on="run", maintain_order="left")
    leaders = leaders.filter(pl.col("step") <= pl.col("final_step"))
    is_final = (pl.col("layer") == pl.col("final_layer")) & (pl.col("head") == pl.col("final_head"))
    other = pl.col("step").filter(~is_final).max()  # the last step at which another head leads
    leader = pl.struct("layer", "head")
    found = leaders.group_by(RUN_COLUMNS, maintain_order=True).agg(
        pl.first("final_layer", "final_head"),
        takes_lead_step=pl.col("step").filter(pl.col("step") > pl.coalesce(other, pl.lit(-1))).min(),
        takes_lead_after=other,
        first_led_step=pl.col("step").filter(is_final).min(),
        n_changes=(leader.rle_id().max()).cast(pl.Int64),
        n_leaders=leader.n_unique().cast(pl.Int64),
        n_steps=pl.len(),
    )
    starts = heads.runs.select("run", step="start_step").join(
        rise.select("run", "step", percentile_first="percentile"), on=["run", "step"]
    )
    found = found.drop_nulls("takes_lead_step")  # the final step may itself be a suspect one
    return found.join(starts.drop("step"), on="run", how="left", maintain_order="left")


def _sizes(heads: Heads, leads: pl.DataFrame) -> list[dict[str, Any]]:
    return [
        heads.sizes.filter(pl.col("model") == model).select("model", "size", "start_step").row(0, named=True)
        | _of_size(of)
        for (model,), of in leads.group_by("model", maintain_order=True)
    ]


def _say(draft: ResultBuilder, sizes: list[dict[str, Any]]) -> None:
    draft.put("beyond.identity", {"sizes": sizes})
    known = [row for row in sizes if row["percentile_first_mean"] is not None]
    if known:
        places = [(row["size"], row["percentile_first_mean"]) for row in known]
        draft.find(
            "identity",
            "start",
            _at_first(known),
            f"It stands above {from_to(places, percent)} of the other heads; 50% is expected by chance.",
            "" if any(row["lower"] is not None for row in known) else "One run of each size tells no more.",
            key=True,
            sizes=known,
        )
    taken = [(row["size"], row["takes_lead_by"]) for row in sizes]
    changes = [(row["size"], row["n_changes_mean"]) for row in sizes]
    draft.find(
        "identity",
        "lead",
        f"The final top head leads for good by step {from_to(taken, _whole)}, in the median run.",
        f"The lead changes hands {from_to(changes, _tenths)} times in a run on average.",
        takes_lead_by=dict(taken),
        n_changes_mean=dict(changes),
    )
    draft.find(
        "identity",
        "caveat",
        "A head that led only between two checkpoints is not seen.",
        "A lead is taken somewhere after the last checkpoint at which another head led.",
    )


def _at_first(known: list[dict[str, Any]]) -> str:
    """Whether the final top head is above chance at the first step, as far as intervals over seeds tell."""
    steps = {row["start_step"] for row in known}
    when = f"At step {steps.pop():,}" if len(steps) == 1 else "At the first step of its size"
    tested = [row for row in known if row["lower"] is not None]
    above = [row for row in tested if row["lower"] > 0.5]
    if not tested:
        return f"{when} the head that ends on top is one among others."
    if not above:
        return f"{when} the head that ends on top ranks no higher than chance."
    return f"{when} the head that ends on top ranks above chance in {share_of(len(above), len(tested), 'size')}."


def _whole(step: float) -> str:
    return f"{step:,.0f}"


def _tenths(value: float) -> str:
    return f"{value:.1f}"


def _of_size(leads: pl.DataFrame) -> dict[str, object]:
    """Of a size: mean number of changes, the step by which half of its runs are led for good, and the mean percentile
    of the final top head at the start with its 95% t interval, which is not let out of 0 to 1."""
    first = leads["percentile_first"].drop_nulls().to_numpy()
    n = len(first)
    half = t_quantile(0.975, n - 1) * first.std(ddof=1) / n**0.5 if n > 1 else None
    return {
        "n_changes_mean": float(leads["n_changes"].to_numpy().mean()),
        "takes_lead_by": leads["takes_lead_step"].quantile(0.5, "higher"),
        "percentile_first_mean": float(first.mean()) if n else None,
        "lower": max(float(first.mean() - half), 0.0) if half is not None else None,
        "upper": min(float(first.mean() + half), 1.0) if half is not None else None,
        "n_runs": n,
    }
