"""Identity over time: is the head that is largest at the end the one that was largest before?"""

from __future__ import annotations

import numpy as np
import polars as pl

from headway.studies.previous_token.draft import Draft
from headway.studies.previous_token.heads import RUN_COLUMNS, SIZE_COLUMNS, Heads
from headway.studies.previous_token.position import top_heads


def identity(draft: Draft) -> None:
    """Adds the rise of each run's finally largest head among its heads, and when it takes the lead."""
    rise = final_head(draft.heads)
    draft.tables["final_head"] = rise
    draft.tables["final_head_means"] = final_head_means(rise)
    draft.tables["lead"] = lead(draft.heads, rise)
    draft.put("beyond.identity", _sentences(draft))


def final_head(heads: Heads) -> pl.DataFrame:
    """At each step, the value and rank of the head that is the run's largest at the final step.

    `percentile` is 1 for the largest, 0 for the smallest, 0.5 on average for a head picked blindly.
    """
    tops = top_heads(heads).select("run", final_layer="layer", final_head="head")
    ranked = heads.frame.with_columns(
        rank=pl.col("value").rank("average", descending=True).over("run", "step"),
        largest=pl.col("value").max().over("run", "step"),
        n=pl.len().over("run", "step"),
    )
    of_final = ranked.join(tops, on="run", maintain_order="left").filter(
        (pl.col("layer") == pl.col("final_layer")) & (pl.col("head") == pl.col("final_head"))
    )
    return of_final.select(
        *RUN_COLUMNS,
        "step",
        "step_modded",
        "value",
        "largest",
        "rank",
        n_heads="n",
        percentile=pl.when(pl.col("n") > 1).then((pl.col("n") - pl.col("rank")) / (pl.col("n") - 1)),
        leads=pl.col("value") == pl.col("largest"),
    )


def final_head_means(rise: pl.DataFrame) -> pl.DataFrame:
    """The percentile averaged over seeds with a 95 % t interval, and the share of runs in which the head leads."""
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
    """The 97.5 % quantile of t for the group's number of percentiles."""
    from scipy.stats import t

    return pl.col("percentile").count().map_elements(lambda n: t.ppf(0.975, n - 1), return_dtype=pl.Float64)


def lead(heads: Heads, rise: pl.DataFrame) -> pl.DataFrame:
    """When each run's final top head takes the lead for good, and how often the lead changes hands.

    Repeated and suspect checkpoints count as no step of their own.
    """
    steps = heads.trajectories.filter(~pl.col("repeated") & ~pl.col("suspect"))
    tops = top_heads(heads).select("run", final_layer="layer", final_head="head", final_step="step")
    leaders = steps.join(tops, on="run", maintain_order="left").filter(pl.col("step") <= pl.col("final_step"))
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
    first = rise.group_by("run", maintain_order=True).agg(percentile_first=pl.col("percentile").first())
    return found.join(first, on="run", how="left", maintain_order="left")


def _sentences(draft: Draft) -> dict[str, object]:
    from scipy.stats import t

    leads = draft.tables["lead"]
    first = leads["percentile_first"].drop_nulls().to_numpy()
    changes = float(leads["n_changes"].to_numpy().mean())
    taken = np.nanmedian(leads["takes_lead_step"].to_numpy())
    says = (
        f"The lead changes hands {changes:.1f} times in a run on average; the head that is largest at the end leads "
        f"for good from step {taken:,.0f} on in the median run."
    )
    numbers = {"n_changes_mean": changes}
    if len(first) > 1:
        mean, half = float(first.mean()), t.ppf(0.975, len(first) - 1) * first.std(ddof=1) / len(first) ** 0.5
        says += (
            f" At the first step it stands above {mean:.0%} of the other heads on average (95 % interval "
            f"{mean - half:.0%} to {mean + half:.0%}; 50% is chance)."
        )
        numbers |= {"percentile_first_mean": mean, "lower": mean - half, "upper": mean + half}
    return {
        "says": says,
        "does_not_say": "It does not say what happens between measured steps: a head that led only there is not seen, "
        "and a lead is taken somewhere after the last step at which another head led.",
        **numbers,
    }
