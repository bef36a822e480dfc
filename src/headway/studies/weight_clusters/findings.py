"""What was found, in sentences with numbers."""

from __future__ import annotations

from itertools import pairwise

import polars as pl

from headway.studies.result import Result
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
    _notes(result, result.tables["timeline"])


def _published(table: pl.DataFrame) -> list[str]:
    n = len(table)
    lone = int((table["published_clusters"] & (table["lone_heads"].list.len() > 0)).sum())
    said = [
        f"At the last step, {table['published_clusters'].sum()} of {n} layers and kinds of raw weights are clustered by the "
        f"published rule (silhouette above 0.3); {table['corrected_clusters'].sum()} are beyond what heads without clusters "
        f"give, corrected for all that was looked at."
    ]
    if lone:
        said.append(f"In {lone} of the published clusterings, a head is alone in its cluster: an outlier.")
    said.append(
        f"Pooled weights of the two clusters differ (p < 1e-6) in {table['published_differ'].sum()} of {n}; over heads, "
        f"{table['corrected_differ'].sum()} do."
    )
    said.append(
        f"The published rule calls {table['published_sudden'].sum()} of {n} transitions sudden; the test of change "
        f"{table['corrected_sudden'].sum()}."
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
    gaps = _gaps(lines)
    if gaps:
        notes.append(f"The grid's widest gap is from step {gaps[0]:,} to {gaps[1]:,}: what happens within is not seen.")


def _gaps(lines: pl.DataFrame) -> tuple[int, int] | None:
    """The neighbouring steps with the largest ratio."""
    steps = lines["step"].unique().sort().to_list()
    pairs = list(pairwise(steps))
    return max(pairs, key=lambda pair: (pair[1] + 1) / (pair[0] + 1)) if pairs else None
