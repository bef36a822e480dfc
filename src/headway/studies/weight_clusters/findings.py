"""What was found, in sentences with numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import polars as pl

from headway.studies.result import Result
from headway.studies.weight_clusters.corrections import LEVEL
from headway.studies.weight_clusters.published import STRONG
from headway.studies.weight_clusters.timeline import main_series
from headway.text import count, listed

_MOST_NAMED = 3
_UNEVEN = 1.5  # largest norm by smallest
_FEATURES = {"spectrum": " circuit's spectrum", "subspace": " circuit's subspaces"}
_CHANGES = {
    "gradual": ", which grew gradually",
    "undecided": "; whether they arose abruptly or gradually cannot be told",
    "none": ", which did not change in training",
}
_PUBLISHED = ("published_clusters", "corrected_clusters", "published_differ", "corrected_differ", "published_sudden",
              "corrected_sudden")  # fmt: skip
_PLACE = ("size", "layer", "kind", "feature")


def findings(result: Result, table: pl.DataFrame) -> None:
    """Adds `findings`, numbers and the notes that the reader needs before believing them: of groups first, then of single
    heads, then of what the published rules say."""
    lines = main_series(result.tables["timeline"])
    transitions = result.tables["transitions"].filter(pl.col("run").is_not_null())
    several = table["run"].n_unique() > 1
    result.values["findings"] += [
        *_groups(result, lines, several),
        *_undecided(transitions, lines, several),
        *_outliers(result.tables["outliers"], several),
        *_copies(table, several),
        *_uneven_norms(table, result, several),
    ]
    published = result.tables["published"]
    if len(published):
        result.values["findings"] += _published(published)
        result.values["published"] = {name: int(published[name].sum()) for name in _PUBLISHED} | {"n": len(published)}
    result.values["groups"] = {
        "n": int(transitions["q_series"].count()),
        "n_last": int(transitions["last_beyond"].sum()),
        "n_undecided": int(transitions["undecided"].sum()),
    }
    _beyond(result, lines)
    _notes(result, table)


def _place(row: Mapping[str, Any], runs: str = "") -> str:
    """A layer's weights in words, such as Q in layer 3 of toy-seed1."""
    return f"{row['kind'].upper()}{_FEATURES.get(row.get('feature', 'raw'), '')} in layer {row['layer']}{runs}"


def _of_run(row: Mapping[str, Any], several: bool) -> str:
    return f" of {row['run']}" if several else ""


def _few(named: Sequence[str]) -> str:
    """The first of them, and how many others there are."""
    more = len(named) - _MOST_NAMED
    return listed(named) if more <= 0 else f"{', '.join(named[:_MOST_NAMED])} and {count(more, 'other')}"


def _groups(result: Result, lines: pl.DataFrame, several: bool) -> Iterable[str]:
    """Where heads form groups, since when, and how these arose."""
    transitions = result.tables["transitions"]
    tested = transitions.filter(pl.col("run").is_not_null(), pl.col("q_series").is_not_null())
    if not len(tested):
        return
    looked_at = f"{count(len(tested), 'layer and kind', 'layers and kinds')} of weights, circuits included"
    if not (tested["feature"] != "raw").any():
        looked_at = f"{count(len(tested), 'layer and kind', 'layers and kinds')} of weights"
    there = tested.filter("last_beyond")
    earlier = int(lines.filter("groups").select(pl.struct("run", *_PLACE).n_unique()).item()) - len(there)
    if len(there):
        last = lines.filter(pl.col("groups"), pl.col("step") == pl.col("step").max().over("run"))
        places = last.group_by(_PLACE, maintain_order=True).agg(pl.len(), pl.col("group_silhouette").mean())
        places = places.sort("len", "group_silhouette", descending=True, maintain_order=True)
        named = [_group_words(place, transitions, last, several) for place in places.iter_rows(named=True)]
        yield f"Heads form groups in {len(there)} of {looked_at} at the last step. {_few_long(named)}."
    elif n_decided := len(tested) - int(tested["undecided"].sum()):
        of = "any" if n_decided == len(tested) else str(n_decided)
        yield f"Heads form no groups in {of} of {looked_at} at the last step."
    if earlier:
        yield f"In {earlier} others they did at an earlier step."


def _few_long(named: Sequence[str]) -> str:
    """As `_few`, of what has commas of its own."""
    more = len(named) - _MOST_NAMED
    return "; ".join([*named[:_MOST_NAMED], *([f"and {count(more, 'other')}"] if more > 0 else [])])


def _group_words(place: Mapping[str, Any], transitions: pl.DataFrame, last: pl.DataFrame, several: bool) -> str:
    here = pl.all_horizontal(pl.col(name) == place[name] for name in _PLACE)
    own, runs = last.filter(here), transitions.filter(here, pl.col("run").is_not_null())
    there = runs.filter(pl.col("last_beyond"))
    together = transitions.filter(here, pl.col("run").is_null() if len(runs) > 1 else pl.col("run").is_not_null())
    of_runs = f" in {len(there)} of {len(runs)} runs" if len(runs) > 1 else _of_run(runs.row(0, named=True), several)
    sizes = [tuple(size) for size in there["last_sizes"]]
    words = f"{_place(place, of_runs)}: "
    if len(set(sizes)) == 1:
        words += f"{len(sizes[0])} groups of {listed([str(size) for size in sizes[0]])} heads"
    else:
        words += f"{' or '.join(str(k) for k in own['group_k'].unique().sort())} groups"
    since = there["beyond_from"].unique().sort().drop_nulls().to_list()
    if since:
        words += f" since step {since[0]:,}" + (f" to {since[-1]:,}" if len(since) > 1 else "")
    row = together.row(0, named=True)
    if row["change"] == "abrupt":
        return f"{words}, which arose abruptly between steps {row['change_from']:,.0f} and {row['change_to']:,.0f}"
    return words + _CHANGES.get(row["change"], "")


def _undecided(transitions: pl.DataFrame, lines: pl.DataFrame, several: bool) -> Iterable[str]:
    rows = transitions.filter("undecided")
    if len(rows):
        draws = max(lines["group_draws"].drop_nulls().to_list())
        needed = max(rows["needed_draws"].to_list())
        named = [_place(row, _of_run(row, several)) for row in rows.iter_rows(named=True)]
        yield (
            f"Undecidable with {draws:,} draws: {_few(named)}. None of the draws parts as well as the heads do, but p of "
            f"{1 / (draws + 1):.2g} does not survive correction for {count(len(transitions), 'layer and kind', 'layers and kinds')}; "
            f"--most-draws {needed} can decide."
        )


def _outliers(outliers: pl.DataFrame, several: bool) -> Iterable[str]:
    """Single heads that left the others, the largest ratio first."""
    left = outliers.filter("left").sort("norm_ratio", descending=True)
    for row in left.head(_MOST_NAMED).iter_rows(named=True):
        since = f"at step {row['onset']:,}" if row["onset_after"] is not None else "from the first step on"
        yield (
            f"Head {row['head']} of {_place(row, _of_run(row, several))} left the others {since}: its norm is now "
            f"{row['norm_ratio']:.2g} times their median."
        )
    if len(left) > _MOST_NAMED:
        yield f"{count(len(left) - _MOST_NAMED, 'other head')} left the others of their layer, with a smaller norm."


def _copies(table: pl.DataFrame, several: bool) -> Iterable[str]:
    """Heads that are equal, at the last step."""
    last = table.filter(pl.col("k") == 1, pl.col("step") == pl.col("step").max().over("run"))
    n_heads = pl.col("norms").list.len()
    copies = last.filter(pl.col("n_distinct") < n_heads).with_columns(n=n_heads)
    equal = copies.filter("all_equal")
    if len(equal):
        named = [_place(row, _of_run(row, several)) for row in equal.iter_rows(named=True)]
        yield f"All heads are equal in {_few(named)}."
    for row in copies.filter(~pl.col("all_equal")).head(_MOST_NAMED).iter_rows(named=True):
        yield f"{_place(row, _of_run(row, several))} has {row['n_distinct']} kinds of identical heads, of {row['n']} heads."


def _uneven_norms(table: pl.DataFrame, result: Result, several: bool) -> Iterable[str]:
    """Where heads differ in norm and in nothing else; heads that left the others apart."""
    raw, series = pl.col("feature") == "raw", ["run", "layer", "kind"]
    transitions, left = result.tables["transitions"], result.tables["outliers"].filter("left")
    last = table.filter(raw, pl.col("k") == 1, pl.col("step") == pl.col("step").max().over("run"))
    heads = last.select(*series, "norms", head=pl.int_ranges(pl.col("norms").list.len()).cast(pl.List(pl.Int32)))
    heads = heads.explode("norms", "head").join(left, on=[*series, "head"], how="anti")
    norms = heads.group_by(series, maintain_order=True).agg(times=pl.col("norms").max() / pl.col("norms").min())
    apart = transitions.filter(raw, ~pl.col("last_beyond"), ~pl.col("undecided"), pl.col("run").is_not_null())
    uneven = norms.join(apart, on=series, how="semi").filter(pl.col("times") >= _UNEVEN)
    if len(uneven):
        most = uneven.sort("times", descending=True).row(0, named=True)
        yield (
            f"In {len(uneven)} of {count(len(norms), 'layer and kind', 'layers and kinds')} of raw weights heads form no groups "
            f"but differ in norm; in {_place(most, _of_run(most, several))} by a factor of {most['times']:.2g}."
        )


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
        f"By the published rule (silhouette above {STRONG}), {table['published_clusters'].sum()} of "
        f"{count(n, 'layer and kind', 'layers and kinds')} of raw weights are clustered at the last step; groups are found in "
        f"{table['corrected_clusters'].sum()}."
    ]
    if lone:
        said.append(f"In {lone} of the published clusterings, a head is alone in its cluster: an outlier.")
    said.append(
        f"The published rule calls {table['published_sudden'].sum()} of {count(n, 'transition')} sudden; by the test of change, "
        f"groups arose abruptly in {table['corrected_sudden'].sum()}."
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


def _notes(result: Result, table: pl.DataFrame) -> None:
    lines, notes = result.tables["timeline"], result.notes
    if len(lines) and not lines["p"].count():
        notes.append("No nulls were drawn: nothing here says whether clusters are more than noise gives.")
    notes.append(
        "Tests named published take every weight as an independent sample, which it is not; clusters were found in the "
        "same weights that all tests between clusters compare."
    )
    notes.extend(_stale_changes(lines))
    gaps = _gaps(table)
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
