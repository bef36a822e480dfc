"""Effects of interventions on clusters, beside those on random groups of heads. Effects without controls are left out."""

from __future__ import annotations

import numpy as np
import polars as pl

from headway.studies.prose import digits
from headway.studies.result import Result

_FEWEST_CONTROLS = 20  # with fewer no p reaches 0.05
_DIFFER = ("clusters_differ", "controls_differ")
_GROUP = ("run", "layers", "kind", "clustering")
_DEED = (*_GROUP, "operation", "cluster", "other_cluster")
_SAME_HEADS = (*_DEED, "heads")  # earlier sweeps may have left effects of clusters that a run no longer has
_BY_TEXT = ("top_texts", "top_before", "top_before_p", "top_after", "top_after_p")
_BY_RANK = ("token_before", "p_before", "token_after", "p_after")


def effects(result: Result, interventions: pl.DataFrame) -> None:
    """Add three tables of the interventions that have controls.

    `effects`: with `kl_first_step`, the same heads' effect at `first_step`, the run's first, where nothing had been
    learned (none in the rows of that step itself), and `beyond`, whether the effect exceeds 95% of the controls.
    `tops`: the most probable tokens before and after, a row a text and rank; `top_words`: those of a text in one line.
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
    result.tables["top_words"] = top_words(result.tables["tops"])
    if left_out := len(interventions) - len(shown):
        result.notes.append(f"{left_out} effects have no random groups to be compared with and are not shown.")
    _say(result)


def _tops(shown: pl.DataFrame) -> pl.DataFrame:
    """One row per intervention, text and rank of token, with the share of texts in which the most probable token changes,
    and the same share for random groups of heads."""
    context = ("step", *_DEED, "heads", "top_changed", "top_changed_control_median", "n_controls")
    texts = shown.select(*context, *_BY_TEXT).with_columns(text_number=pl.int_ranges(pl.col("top_texts").list.len()))
    by_text = texts.explode("text_number", *_BY_TEXT).rename(dict(zip(_BY_TEXT, ("text", *_BY_RANK), strict=True)))
    ranked = by_text.with_columns(rank=pl.int_ranges(1, pl.col("token_before").list.len() + 1))
    return ranked.explode("rank", *_BY_RANK).filter(pl.col("rank").is_not_null())


def top_words(tops: pl.DataFrame) -> pl.DataFrame:
    """The tokens of each text in one line, before and after, with their probabilities."""
    five = (
        pl.format("{} ({})", f"token_{when}", pl.col(f"p_{when}").round(2)).str.join(", ").alias(when)
        for when in ("before", "after")
    )
    beside = ("text", "top_changed", "top_changed_control_median")
    operation = ("run", "step", "layers", "kind", "heads", "operation", "text_number")
    return tops.group_by(operation, maintain_order=True).agg(pl.col(beside).first(), *five)


def _say(result: Result) -> None:
    effects = result.tables["effects"]
    last = effects.filter(pl.col("step") == pl.col("step").max().over("run"))
    if len(last):
        able = last.filter(pl.col("n_controls") >= _FEWEST_CONTROLS)
        if len(able):
            beyond, expected = int(able["beyond"].sum()), 0.05 * len(able)
            result.find(
                "effects",
                "beyond",
                f"{beyond or 'None'} of {len(able)} interventions on clusters did more than 95% of random groups of heads.",
                f"By chance {expected:.1f} {'is' if f'{expected:.1f}' == '1.0' else 'are'} expected. All are at the last step.",
                n_beyond=beyond,
                n=len(able),
                expected=expected,
            )
        if few := len(last) - len(able):
            result.find(
                "effects",
                "few_controls",
                f"{few} interventions on clusters have fewer than {_FEWEST_CONTROLS} random groups of their size.",
                "That is too few to say that an effect is beyond 95% of them.",
                key=False,
                n=few,
            )
    if alone := _with_one_step(effects):
        result.notes.append(
            f"{', '.join(alone)}: interventions at one step only. "
            "Whether the same heads mattered as much before anything was learned is not known."
        )


def conventions(result: Result, interventions: pl.DataFrame, as_published: pl.DataFrame) -> None:
    """Add the table `conventions`: each intervention on heads, and the one that the published study made in its place.

    It has a row for each intervention of both tables, with the KL divergence over all positions, over last positions, and the
    median of random groups; the published ones end in `_published`.
    """
    key = ("size", "step", *_SAME_HEADS)
    numbers = ("kl", "kl_last", "kl_control_median", "kl_percentile", "n_controls")
    pair = [table.select(*key, *numbers) for table in (interventions, as_published)]
    both = pair[0].join(pair[1], on=key, suffix="_published", nulls_equal=True, maintain_order="left")
    result.tables["conventions"] = both
    for operation, deed in (("swap", "a swap of two clusters"), ("zero", "the ablation of a cluster")):
        of = both.filter(pl.col("operation") == operation, pl.col("step") == pl.col("step").max().over("run"))
        if of.height:
            medians = {
                name: float(np.median(of[name].to_numpy()))
                for name in ("kl", "kl_published", "kl_control_median_published")
            }
            result.find(
                "published",
                f"{operation} as published",
                f"As published, {deed} moves predictions by {digits(medians['kl_published'])} nats (median of {len(of)} at the last step); "
                f"on heads it moves them by {digits(medians['kl'])}.",
                f"The published intervention moves them by {digits(medians['kl_control_median_published'])} with random groups of heads, too.",
                "It does not act on heads: slices are taken after heads were summed, and the fused weight is read in thirds.",
                key=False,
                **medians,
            )


def _with_one_step(effects: pl.DataFrame) -> list[str]:
    steps = effects.group_by("run", maintain_order=True).agg(pl.col("step").n_unique())
    return steps.filter(pl.col("step") == 1)["run"].to_list()


def prompts(result: Result, table: pl.DataFrame) -> None:
    """Add three tables. `prompts`: the answers of each cluster alone, and how often random groups differ too.
    `answers`, `answers_by_task`: the shares of prompts with different answers."""
    result.tables["prompts"] = (shown := table.filter(pl.col("n_controls") > 0).drop("left_out"))
    result.tables["answers"] = answers(shown)
    result.tables["answers_by_task"] = answers_by_task(shown)
    last = shown.filter(pl.col("step") == pl.col("step").max().over("run"))
    once = last.unique([*_GROUP, "prompt"], keep="first")
    if len(once):
        differ, by_chance = (float(once[name].cast(pl.Float64).to_numpy().mean()) for name in _DIFFER)
        result.find(
            "prompts",
            "differ",
            f"The clusters' heads alone answer differently in {differ:.0%} of cases; random groups of their sizes do in "
            f"{by_chance:.0%}.",
            "That is at the last step.",
            differ=differ,
            by_chance=by_chance,
        )
    left_out = table.explode("left_out").filter(pl.col("left_out").is_not_null())
    for why, runs in left_out.group_by("left_out", maintain_order=True).agg(pl.col("run").unique()).iter_rows():
        result.notes.append(f"Not asked of {', '.join(sorted(runs))}: {why}.")


def answers_by_task(shown: pl.DataFrame) -> pl.DataFrame:
    """A row per run, step and task of the prompts, over layers and kinds: the shares of clusters and of random groups whose
    answers differ, over `n` answers of `n_prompts` prompts."""
    once = shown.unique(["run", "step", *_GROUP, "prompt"], keep="first", maintain_order=True)
    return once.group_by("run", "step", "task", maintain_order=True).agg(
        pl.col("clusters_differ").cast(pl.Float64).mean().alias("clusters"),
        pl.col("controls_differ").mean().alias("random_groups"),
        n_prompts=pl.col("prompt").n_unique(),
        n=pl.len(),
    )


def answers(shown: pl.DataFrame) -> pl.DataFrame:
    """A row per run, step, layers, kind and `of` (`clusters` or `random groups`): the `share` of the prompts to which
    their answers differ."""
    once = shown.unique(["run", "step", *_GROUP, "prompt"], keep="first", maintain_order=True)
    place = ("run", "step", "layers", "kind")
    shares = once.group_by(place, maintain_order=True).agg(
        pl.col("clusters_differ").cast(pl.Float64).mean().alias("clusters"),
        pl.col("controls_differ").mean().alias("random groups"),
        n_prompts=pl.len(),
    )
    return shares.unpivot(
        on=["clusters", "random groups"], index=[*place, "n_prompts"], variable_name="of", value_name="share"
    )
