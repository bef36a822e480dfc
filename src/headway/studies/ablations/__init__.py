"""What abilities lose without the heads of a score or a role, over training, beside random heads. `docs/interventions.md` lists
every table."""

from __future__ import annotations

import numpy as np
import polars as pl

from headway.known_abilities import known_ability, restates
from headway.known_scores import SCORES
from headway.progress import Progress, Silent
from headway.stats.distributions import t_quantile
from headway.store.directory import RunDirectory
from headway.studies.prose import LEVEL, digits
from headway.studies.result import Result
from headway.text import count

NAME, SUBJECT = "ablations", "heads"
_OF_MEANS = ("group", "size", "step", "step_modded", "operation", "effect", "title", "control")
_REPLACED = {"zero": "zero", "mean": "their means", "resample": "what they are on another text"}
_KEY_EFFECTS = ("repeat_accuracy", "loss", "kl")


def study(rundir: RunDirectory, *, bootstraps: int = 1000, seed: int = 0, progress: Progress | None = None) -> Result:
    """Average the table `ablations` over runs; nothing is written before `Result.save`.

    Args:
        rundir: a run directory with a table `ablations`.
        bootstraps, seed: not used: nothing is resampled.
        progress: shows the progress.

    Raises:
        RunDirectoryError: there is no such table.
    """
    progress = progress or Silent()
    progress.start("ablations", 1)
    table = rundir.read("ablations").sort(pl.col("effect") == "kl", maintain_order=True)  # abilities first
    table = table.with_columns(
        step_modded=pl.col("step") + 1,
        title=pl.col("effect").map_elements(titled, return_dtype=pl.String),
    )
    groups = table["group"].unique(maintain_order=True).to_list()
    result = Result(NAME, SUBJECT, {"groups": groups, "sizes": _sizes(table)})
    result.tables["changes"] = changes = table.filter(pl.col("control").is_not_null())
    result.tables["change_means"] = change_means(changes)
    last = table.filter(pl.col("step") == pl.col("step").max().over("run"))
    own = last.unique(["group", "run", "operation", "effect", "dose"], maintain_order=True)
    result.tables["doses"] = (
        own.group_by("group", "size", "operation", "effect", "title", "dose", maintain_order=True)
        .agg(mean=pl.mean("change"), n_runs=pl.len())
        .sort("group", "size", "operation", "effect", "dose", maintain_order=True)
    )
    _say(result)
    progress.advance(note="findings")
    return result


def titled(effect: str) -> str:
    """The title of an ability, of another head's score, or of the divergence."""
    if effect == "kl":
        return "KL divergence of predictions"
    if effect in SCORES:
        return f"{SCORES[effect].title} of the highest other head"
    known = known_ability(effect)
    return known.title if known else effect


def _sizes(table: pl.DataFrame) -> list[str]:
    return table.sort("n_params", maintain_order=True)["size"].unique(maintain_order=True).to_list()


def change_means(changes: pl.DataFrame) -> pl.DataFrame:
    """The mean change over the runs of a size, with its 95% t interval (null for one run), and the mean of the controls' medians."""
    means = changes.group_by(*_OF_MEANS, maintain_order=True).agg(
        mean=pl.mean("change"),
        error=pl.std("change") / pl.len().sqrt(),
        control_mean=pl.mean("control_median"),
        n_runs=pl.len(),
        n_small_p=(pl.col("p") <= LEVEL).sum(),
        n_controls=pl.min("n_controls"),
    )
    n = means["n_runs"].to_numpy()
    half = pl.Series(np.where(n > 1, t_quantile(0.975, np.maximum(n - 1, 1)), np.nan)) * means["error"]
    return means.with_columns(
        lower=(pl.col("mean") - half).fill_nan(None), upper=(pl.col("mean") + half).fill_nan(None)
    ).select(*_OF_MEANS, "mean", "lower", "upper", "control_mean", "n_runs", "n_small_p", "n_controls")


def _say(result: Result) -> None:
    """A finding for each effect at the last step: what the heads cost, and what random ones cost.

    What an ability is by another convention or in other units stands in the tables only.
    """
    changes = result.tables["changes"]
    told = [effect for effect in changes["effect"].unique() if not restates(effect)]
    last = changes.filter(pl.col("step") == pl.col("step").max().over("run"), pl.col("effect").is_in(told))
    operations = last["operation"].unique(maintain_order=True).to_list()
    operation = "mean" if "mean" in operations else operations[0]
    for (group, effect), of in last.filter(operation=operation).group_by("group", "effect", maintain_order=True):
        title = titled(str(effect))
        own = of.unique("run", maintain_order=True)
        went = f"goes from {digits(_mean(own, 'before'))} to {digits(_mean(own, 'after'))}"
        if effect == "kl":
            went = f"is {digits(_mean(own, 'after'))} nats"
        result.find(
            "last",
            f"{effect} without {group}" if len(result.values["groups"]) > 1 else str(effect),
            f"Without the heads ({group}), {title[:1].lower() + title[1:] if effect != 'kl' else title} {went} at the last step.",
            f"These are means over {count(own.height, 'run')}; the heads’ outputs are replaced by "
            f"{_REPLACED[operation]}.",
            *(_beside(str(kind), part) for (kind,), part in of.group_by("control", maintain_order=True)),
            key=effect in _KEY_EFFECTS,
            effect=effect,
            group=group,
            title=title,
            operation=operation,
            n_runs=own.height,
        )


def _beside(kind: str, of: pl.DataFrame) -> str:
    tested = of.filter(pl.col("n_controls") > 0)
    if not tested.height:
        return f"There are no other heads of the {kind} to compare with."
    fewest = int(tested["n_controls"].to_numpy().min())
    if 1 / (fewest + 1) > LEVEL:
        return (
            f"Random heads of the {kind} change it by {digits(_mean(tested, 'control_median'))}; with {count(fewest, 'group')} of them "
            "no run can be told apart."
        )
    small = tested.filter(pl.col("p") <= LEVEL).height
    return (
        f"Random heads of the {kind} change it by {digits(_mean(tested, 'control_median'))}. At most 5% of their groups cost as much in "
        f"{small} of {count(tested.height, 'run')}."
    )


def _mean(frame: pl.DataFrame, column: str) -> float:
    return float(frame[column].drop_nulls().to_numpy().mean())
