"""A ratio without an upper end: whether its largest head is also the one with the largest numerator, and its outliers.

Previous-token attention over self-attention is large in a head that attends to previous tokens, and in one that hardly
attends to itself. Only the numerator tells the two apart.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from headway.stats.corrections import holm, over
from headway.stats.outliers import grubbs
from headway.studies.development.builder import ResultBuilder
from headway.studies.development.heads import RUN_COLUMNS, SIZE_COLUMNS, Heads, largest_heads
from headway.studies.prose import LEVEL, digits, p_text, share_of
from headway.tables import SCORES
from headway.text import listed

_TABLES = ("ratio_heads", "ratio_outliers")


def ratio(draft: ResultBuilder) -> None:
    """Adds both heads of each run, the outliers among the runs of a size, and what follows from them."""
    heads = draft.heads
    if heads.score.numerator is None:
        return draft.leave_out("beyond.ratio", f"{heads.score.name} is not a ratio without an upper end", _TABLES)
    found = ratio_heads(heads)
    if not found.height:
        reason = f"the table lacks {heads.score.numerator}, the numerator, or no run has one head above all others"
        return draft.leave_out("beyond.ratio", reason, _TABLES)
    draft.tables["ratio_heads"] = found
    draft.tables["ratio_outliers"] = outliers(heads)
    n_other = int((~found["same"]).sum())
    draft.put("beyond.ratio", {"n": found.height, "n_other_head": n_other, "numerator": heads.score.numerator})
    _say(draft, found)
    return None


def ratio_heads(heads: Heads) -> pl.DataFrame:
    """The head with the largest ratio and the one with the largest numerator at the final step, a row per run.

    `layer, head, ratio, numerator` are of the first, `numerator_layer …` of the second; `same` where they are one head.
    Runs in which either largest value is shared by several heads are left out.
    """
    place = ["run", "layer", "head", "n_layers", "ratio", "numerator"]
    final = heads.final.with_columns(ratio="value")
    by_ratio = largest_heads(final).drop_nulls(["layer", "numerator"]).select(place)
    by_numerator = largest_heads(final.drop_nulls("numerator").with_columns(value="numerator")).drop_nulls("layer")
    renamed = by_numerator.select(
        "run", numerator_layer="layer", numerator_head="head", numerator_ratio="ratio", numerator_largest="numerator"
    )
    both = by_ratio.join(renamed, on="run")
    same = (pl.col("layer") == pl.col("numerator_layer")) & (pl.col("head") == pl.col("numerator_head"))
    return heads.runs.select(RUN_COLUMNS).join(both.with_columns(same=same), on="run", maintain_order="left")


def outliers(heads: Heads) -> pl.DataFrame:
    """The run farthest from its size's mean log ratio: SIZE_COLUMNS, run, value, n, g, p, p_holm (over the sizes).

    Ratios are compared as logarithms, so that twice and half are equally far. Runs whose ratio is 0 are left out.
    """
    rows = []
    for (model,), of in largest_heads(heads.final).filter(pl.col("value") > 0).group_by("model", maintain_order=True):
        tested = grubbs(np.log(of["value"].to_numpy()))
        if tested is not None:
            place, g, p = tested
            named = {"model": model, "run": of["run"][place], "value": of["value"][place]}
            rows.append(named | {"n": of.height, "g": g, "p": p})
    schema = {
        "model": pl.String,
        "run": pl.String,
        "value": pl.Float64,
        "n": pl.Int64,
        "g": pl.Float64,
        "p": pl.Float64,
    }
    frame = pl.DataFrame(rows, schema=schema).with_columns(p_holm=over(pl.Series("p", [r["p"] for r in rows]), holm))
    return heads.sizes.select(SIZE_COLUMNS).join(frame, on="model", maintain_order="left_right")


def _say(draft: ResultBuilder, found: pl.DataFrame) -> None:
    score, other = draft.heads.score, found.filter(~pl.col("same"))
    numerator = SCORES[str(score.numerator)]
    what = numerator.title[:1].lower() + numerator.title[1:]
    answer = f"In {share_of(other.height, found.height, 'run')}, the head with the largest final ratio does not have the most {what}."
    draft.find(
        "position",
        "ratio",
        answer,
        "The ratio has no upper end: it is large where a head hardly attends to itself." if other.height else None,
        _other_heads(other, numerator.name),
        _largest_of_all(found, numerator.name),
        _outlier_words(draft.tables["ratio_outliers"]),
        key=other.height > 0,
        runs=other["run"].to_list(),
        outliers=draft.tables["ratio_outliers"].to_dicts(),
    )


def _other_heads(other: pl.DataFrame, name: str) -> str | None:
    if not other.height:
        return None
    in_last = other.filter(pl.col("layer") == pl.col("n_layers") - 1).height
    numerator, largest = other["numerator"].median(), other["numerator_largest"].median()
    return (
        f"In {in_last} of these {other.height} it lies in the last layer. Its {name} is {digits(numerator)} there "  # type: ignore[arg-type]
        f"(median), against {digits(largest)} in the other head."  # type: ignore[arg-type]
    )


def _largest_of_all(found: pl.DataFrame, name: str) -> str:
    top = found.sort("ratio", nulls_last=False).row(-1, named=True)
    return (
        f"The largest ratio of all, {digits(top['ratio'])}, is that of {top['run']}, layer {top['layer']}, head {top['head']}, "
        f"with a {name} of {digits(top['numerator'])}."
    )


def _outlier_words(outliers: pl.DataFrame) -> str:
    """Names the runs that stand out from their size."""
    out = outliers.filter(pl.col("p_holm") <= LEVEL).select("run", "value", "p_holm").rows()
    if not out:
        return (
            "No run is an outlier among those of its size (Grubbs’ test of log ratios, Holm’s correction over sizes)."
        )
    said = [f"{run} ({digits(value)}, {p_text(p)})" for run, value, p in out]
    return f"Outliers among the runs of their size (Grubbs’ test of log ratios, Holm’s correction): {listed(said)}."
