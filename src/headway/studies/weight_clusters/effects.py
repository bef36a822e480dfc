"""What interventions on clusters did, beside the same on random groups of heads; an effect without that is not shown."""

from __future__ import annotations

import polars as pl

from headway.studies.result import Result

_FEWEST_CONTROLS = 20  # with fewer no p reaches 0.05
_DIFFER = ("clusters_differ", "controls_differ")
_GROUP = ("run", "layers", "kind", "clustering")
_DEED = (*_GROUP, "operation", "cluster", "other_cluster")
_SAME_HEADS = (*_DEED, "heads")  # a run's earlier sweeps may have left effects of clusters that it no longer has
_BY_TEXT = ("top_texts", "top_before", "top_before_p", "top_after", "top_after_p")
_BY_RANK = ("token_before", "p_before", "token_after", "p_after")


def effects(result: Result, interventions: pl.DataFrame) -> None:
    """Adds two tables of the interventions that have controls.

    `effects`: with `kl_first_step`, the same heads' effect at `first_step`, the run's first, where nothing had been
    learned (none in the rows of that step itself), and `beyond`, whether the effect exceeds 95 % of the controls.
    `tops`: the most probable tokens before and after, a row a text and rank.
    """
    shown = interventions.filter(pl.col("n_controls") > 0)
    first = (
        shown.filter(pl.col("step") == pl.col("step").min().over("run"))
        .select(*_SAME_HEADS, first_step="step", kl_first_step="kl")
        .unique(_SAME_HEADS, keep="first")
    )
    later = pl.col("step") > pl.col("first_step")  # an effect is no control of its own
    result.tables["effects"] = (
        shown.drop(_BY_TEXT)
        .join(first, on=_SAME_HEADS, how="left", nulls_equal=True)
        .with_columns(
            *(pl.when(later).then(name).alias(name) for name in ("first_step", "kl_first_step")),
            beyond=pl.col("kl_p") <= 0.05,
        )
    )
    result.tables["tops"] = _tops(shown)
    if left_out := len(interventions) - len(shown):
        result.notes.append(f"{left_out} effects have no random groups to be compared with and are not shown.")
    _say(result)


def _tops(shown: pl.DataFrame) -> pl.DataFrame:
    """A row per intervention, text and rank of token; beside them the share of texts in which the first one changes,
    and of how many random groups of heads do so."""
    context = ("step", *_DEED, "heads", "top_changed", "top_changed_control_median", "n_controls")
    texts = shown.select(*context, *_BY_TEXT).with_columns(text_number=pl.int_ranges(pl.col("top_texts").list.len()))
    by_text = texts.explode("text_number", *_BY_TEXT).rename(dict(zip(_BY_TEXT, ("text", *_BY_RANK), strict=True)))
    ranked = by_text.with_columns(rank=pl.int_ranges(1, pl.col("token_before").list.len() + 1))
    return ranked.explode("rank", *_BY_RANK).filter(pl.col("rank").is_not_null())


def _say(result: Result) -> None:
    effects = result.tables["effects"]
    last = effects.filter(pl.col("step") == pl.col("step").max().over("run"))
    if len(last):
        able = last.filter(pl.col("n_controls") >= _FEWEST_CONTROLS)
        told = f"{int(able['beyond'].sum())} of {len(able)} interventions on clusters at the last step did more than 95 % of "
        told += f"the same interventions on random groups of heads; {0.05 * len(able):.1f} are expected by chance."
        few = f"{len(last) - len(able)} interventions on clusters have fewer than {_FEWEST_CONTROLS} random groups of their "
        few += "size to be compared with: too few to say that an effect is beyond 95 % of them."
        result.values["findings"] += [told] * (len(able) > 0) + [few] * (len(able) < len(last))
    if alone := _with_one_step(effects):
        result.notes.append(
            f"{', '.join(alone)}: interventions at one step only, so there is no earlier step at which the same heads "
            "could be seen to matter as much before anything was learned."
        )


def _with_one_step(effects: pl.DataFrame) -> list[str]:
    steps = effects.group_by("run", maintain_order=True).agg(pl.col("step").n_unique())
    return steps.filter(pl.col("step") == 1)["run"].to_list()


def prompts(result: Result, table: pl.DataFrame) -> None:
    """Adds the table `prompts`: what each cluster's heads answer alone, and how often random groups differ too."""
    result.tables["prompts"] = (shown := table.filter(pl.col("n_controls") > 0).drop("left_out"))
    last = shown.filter(pl.col("step") == pl.col("step").max().over("run"))
    once = last.unique([*_GROUP, "prompt"], keep="first")
    if len(once):
        differ, by_chance = (float(once[name].cast(pl.Float64).to_numpy().mean()) for name in _DIFFER)
        result.values["findings"].append(
            f"At the last step, the clusters' heads alone answer differently in {differ:.0%} of cases; random groups "
            f"of their sizes do in {by_chance:.0%}."
        )
    left_out = table.explode("left_out").filter(pl.col("left_out").is_not_null())
    for why, runs in left_out.group_by("left_out", maintain_order=True).agg(pl.col("run").unique()).iter_rows():
        result.notes.append(f"Not asked of {', '.join(sorted(runs))}: {why}.")
