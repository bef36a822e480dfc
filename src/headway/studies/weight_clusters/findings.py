"""What was found, in sentences with numbers."""

from __future__ import annotations

from itertools import pairwise

import polars as pl

from headway.studies.result import Result
from headway.studies.weight_clusters.published import STRONG
from headway.studies.weight_clusters.timeline import LEVEL, main_series


def findings(result: Result) -> None:
    """Adds `findings`, `summary` and the notes that the reader needs before believing them."""
    lines = main_series(result.tables["timeline"])
    published = result.tables["published"]
    if len(published):
        result.values["findings"] += _published(published)
        result.values["published"] = {
            name: int(published[name].sum())
            for name in ("published_clusters", "corrected_clusters", "published_differ", "corrected_differ",
                         "published_sudden", "corrected_sudden")
        } | {"n": len(published)}  # fmt: skip
    _beyond(result, lines)
    _how_many(result, lines)
    _notes(result, result.tables["timeline"])


def too_few_heads(table: pl.DataFrame) -> list[str]:
    """A note on the kinds of which no layer could be clustered, although its heads differ."""
    kinds = table.group_by("size", "kind", maintain_order=True).agg(
        clustered=(pl.col("k") > 1).any() | pl.col("all_equal").any(), n=pl.col("norms").list.len().max()
    )
    return [
        f"Of size {size}, {', '.join(own['kind'].str.to_uppercase())} {'has' if len(own) == 1 else 'have'} {n} "
        f"{'head' if n == 1 else 'heads'} a layer, too few to be clustered: norms and changes are all there is."
        for (size, n), own in kinds.filter(~pl.col("clustered")).group_by("size", "n", maintain_order=True)
    ]


def _published(table: pl.DataFrame) -> list[str]:
    n = len(table)
    lone = int((table["published_clusters"] & (table["lone_heads"].list.len() > 0)).sum())
    said = [
        f"At the last step, {table['published_clusters'].sum()} of {n} layers and kinds of raw weights are clustered by the "
        f"published rule (silhouette above {STRONG}, inferred from its table); {table['corrected_clusters'].sum()} have groups "
        f"of several heads beyond every null, corrected for all that was looked at."
    ]
    if lone:
        said.append(f"In {lone} of the published clusterings, a head is alone in its cluster: an outlier.")
    said.append(
        f"Pooled weights of the two clusters differ (p < 1e-6) in {table['published_differ'].sum()} of {n}; over heads, "
        f"{table['corrected_differ'].sum()} do."
    )
    said.append(
        f"The published rule calls {table['published_sudden'].sum()} of {n} transitions sudden; groups that are there at the "
        f"last step arose abruptly by the test of change in {table['corrected_sudden'].sum()}."
    )
    return said


def _beyond(result: Result, lines: pl.DataFrame) -> None:
    by_feature = {}
    for feature, own in lines.group_by("feature", maintain_order=True):
        tested = own.filter(pl.col("q").is_not_null())
        by_feature[str(feature[0])] = {
            "n_tested": len(tested),
            "n_beyond": int(tested["beyond"].sum()),
            "n_uncorrected": int((tested["p"] <= LEVEL).sum()),
            "largest_excess": tested["excess"].max(),
        }
    result.values["beyond"] = by_feature
    result.values["verdicts"] = result.tables["transitions"].select(
        "run", "size", "layer", "kind", "feature", "verdict"
    ).to_dicts()  # fmt: skip


def _how_many(result: Result, lines: pl.DataFrame) -> None:
    last = lines.filter(pl.col("feature") == "raw", pl.col("step") == pl.col("step").max().over("run"))
    counted = last["gap_k"].drop_nulls()
    if len(counted):
        several = int((counted > 1).sum())
        result.values["findings"].append(
            f"By the gap statistic, one cluster included, {several} of {len(counted)} layers and kinds of raw weights have more "
            f"than one at the last step; heads without clusters have in at most about 5 % of cases."
        )


def _notes(result: Result, lines: pl.DataFrame) -> None:
    notes = result.notes
    p = lines["p"].drop_nulls().to_numpy()
    if not len(p):
        notes.append("No nulls were drawn: nothing here says whether clusters are more than noise gives.")
    else:
        least, n_tests = float(p.min()), main_series(lines).filter(pl.col("feature") == "raw").height
        if n_tests and least * n_tests > LEVEL:
            needed = int(least * n_tests / LEVEL + 0.999)
            notes.append(
                f"p cannot fall below {least:.2g} with so many null draws: of {n_tests} tests of raw weights, at least "
                f"{needed} must reach it before any survives correction. More draws (--nulls) give finer p."
            )
    notes.append(
        "Tests named published take every weight as an independent sample, which it is not; clusters were found in the "
        "same weights that all tests between clusters compare."
    )
    notes.extend(_stale_changes(lines))
    gaps = _gaps(lines)
    if gaps:
        notes.append(f"The grid's widest gap is from step {gaps[0]:,} to {gaps[1]:,}: what happens within is not seen.")


def _stale_changes(lines: pl.DataFrame) -> list[str]:
    """Changes that were measured before a step between was added to the grid."""
    main = main_series(lines).filter(pl.col("feature") == "raw").sort("step")
    before = pl.col("step").shift(1).over("run", "layer", "kind")
    stale = main.filter((pl.col("previous_step") < before).fill_null(False))
    if stale.is_empty():
        return []
    steps = ", ".join(f"{step:,}" for step in stale["step"].unique().sort())
    return [
        f"Changes at step {steps} are since an earlier step than the one before, which was added later: the column "
        f"previous_step says which. `headway cluster --force` measures them anew."
    ]


def _gaps(lines: pl.DataFrame) -> tuple[int, int] | None:
    """The neighbouring steps with the largest ratio."""
    steps = lines["step"].unique().sort().to_list()
    pairs = list(pairwise(steps))
    return max(pairs, key=lambda pair: (pair[1] + 1) / (pair[0] + 1)) if pairs else None
