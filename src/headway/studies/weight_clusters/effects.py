"""What interventions on clusters did, beside the same on random groups of heads; an effect without that is not shown."""

from __future__ import annotations

import polars as pl

from headway.studies.result import Result

_FEWEST_CONTROLS = 20  # with fewer no p reaches 0.05
_DIFFER = ("clusters_differ", "controls_differ")
_GROUP = ("run", "layers", "kind", "clustering")


def effects(result: Result, interventions: pl.DataFrame) -> None:
    """Adds the table `effects`: the interventions that have controls, with `kl_first_step`, the same heads' effect at
    the run's first step, where nothing had been learned, and `beyond`, whether the effect exceeds 95 % of the controls."""
    shown = interventions.filter(pl.col("n_controls") > 0)
    same = [*_GROUP, "operation", "cluster", "other_cluster"]
    first = (
        shown.filter(pl.col("step") == pl.col("step").min().over("run"))
        .select(*same, first_step="step", kl_first_step="kl")
        .unique(same, keep="first")
    )
    result.tables["effects"] = shown.join(first, on=same, how="left", nulls_equal=True).with_columns(
        beyond=pl.col("kl_p") <= 0.05
    )
    if left_out := len(interventions) - len(shown):
        result.notes.append(f"{left_out} effects have no random groups to be compared with and are not shown.")
    _say(result)


def _say(result: Result) -> None:
    last = result.tables["effects"].filter(pl.col("step") == pl.col("step").max().over("run"))
    if len(last):
        able = last.filter(pl.col("n_controls") >= _FEWEST_CONTROLS)
        told = f"{int(able['beyond'].sum())} of {len(able)} interventions on clusters at the last step did more than 95 % of "
        told += f"the same interventions on random groups of heads; {0.05 * len(able):.1f} are expected by chance."
        few = f"{len(last) - len(able)} interventions on clusters have fewer than {_FEWEST_CONTROLS} random groups of their "
        few += "size to be compared with: too few to say that an effect is beyond 95 % of them."
        result.values["findings"] += [told] * (len(able) > 0) + [few] * (len(able) < len(last))


def prompts(result: Result, table: pl.DataFrame) -> None:
    """Adds the table `prompts`: what each cluster's heads answer alone, and how often random groups differ too."""
    result.tables["prompts"] = (shown := table.filter(pl.col("n_controls") > 0))
    once = shown.unique([*_GROUP, "step", "prompt"], keep="first")
    if len(once):
        differ, by_chance = (float(once[name].cast(pl.Float64).to_numpy().mean()) for name in _DIFFER)
        result.values["findings"].append(
            f"The clusters' heads alone answer differently in {differ:.0%} of cases; random groups "
            f"of their sizes do in {by_chance:.0%}."
        )
