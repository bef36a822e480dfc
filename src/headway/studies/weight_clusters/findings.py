"""The findings on groups of heads, on single heads, and on what the published rules say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import polars as pl

from headway.stats.corrections import LEVEL
from headway.studies.prose import sentences
from headway.studies.result import Result
from headway.studies.weight_clusters.published import STRONG
from headway.studies.weight_clusters.timeline import main_series
from headway.text import count, listed

_MOST_NAMED = 3  # in sentences of their own
_FEW = 2  # in one sentence
_UNEVEN = 1.5  # largest norm by smallest
_FEATURES = {"spectrum": " circuit's spectrum", "subspace": " circuit's subspaces"}
_CHANGES = {
    "gradual": "They grew gradually.",
    "undecided": "Whether they arose abruptly or gradually cannot be told.",
    "none": "They did not change in training.",
}
_PUBLISHED = ("published_clusters", "corrected_clusters", "published_differ", "corrected_differ", "published_sudden",
              "corrected_sudden")  # fmt: skip
_PLACE = ("size", "layer", "kind", "feature")


def findings(result: Result, table: pl.DataFrame) -> None:
    """Add findings, numbers and caveats: on groups, then on single heads, then on the published rules."""
    lines = main_series(result.tables["timeline"])
    transitions = result.tables["transitions"].filter(pl.col("run").is_not_null())
    several = table["run"].n_unique() > 1
    _groups(result, lines, several)
    _undecided(result, transitions, lines, several)
    _outliers(result, several)
    _copies(result, table, several)
    _uneven_norms(result, table, several)
    published = result.tables["published"]
    if len(published):
        _published(result, published)
        result.values["published"] = {name: int(published[name].sum()) for name in _PUBLISHED} | {"n": len(published)}
    result.values["groups"] = {
        "n": int(transitions["q_series"].count()),
        "n_last": int(transitions["last_beyond"].sum()),
        "n_undecided": int(transitions["undecided"].sum()),
    }
    result.values["most_eventful"] = most_eventful(lines)
    _beyond(result, lines)
    _notes(result, table)


def most_eventful(lines: pl.DataFrame) -> dict[str, str] | None:
    """The run and feature with groups in most layers, kinds and steps, where figures open.

    The largest excess over the nulls decides between equals, and raw weights, which the published study looked at, come first.
    """
    rows = lines.group_by("run", "feature", maintain_order=True).agg(pl.col("groups").sum(), pl.col("excess").max())
    if rows.is_empty():
        return None
    raw_last = pl.col("feature") != "raw"
    by = [pl.col("groups"), raw_last, pl.col("excess")]
    first = rows.sort(*by, descending=[True, False, True], nulls_last=True, maintain_order=True).row(0, named=True)
    return {"run": first["run"], "feature": first["feature"]}


def _place(row: Mapping[str, Any], runs: str = "") -> str:
    """Name a layer's weights, such as `Q in layer 3 of toy-seed1`."""
    return f"{row['kind'].upper()}{_FEATURES.get(row.get('feature', 'raw'), '')} in layer {row['layer']}{runs}"


def _of_run(row: Mapping[str, Any], several: bool) -> str:
    return f" of {row['run']}" if several else ""


def _few(named: Sequence[str]) -> str:
    """List the first ones and say how many others there are."""
    more = len(named) - _FEW
    return listed(named) if more <= 0 else f"{', '.join(named[:_FEW])} and {count(more, 'other')}"


def _series(n: int) -> str:
    return count(n, "layer and kind", "layers and kinds")


def _groups(result: Result, lines: pl.DataFrame, several: bool) -> None:
    """Findings on groups: in which layers, from which step on, and how they arose."""
    transitions = result.tables["transitions"]
    tested = transitions.filter(pl.col("run").is_not_null(), pl.col("q_series").is_not_null())
    if not len(tested):
        return
    circuits = "Circuits count as kinds of weights." if (tested["feature"] != "raw").any() else None
    looked_at = f"{_series(len(tested))} of weights"
    there = tested.filter("last_beyond")
    n_decided = len(tested) - int(tested["undecided"].sum())
    if len(there):
        last = lines.filter(pl.col("groups"), pl.col("step") == pl.col("step").max().over("run"))
        places = last.group_by(_PLACE, maintain_order=True).agg(pl.len(), pl.col("group_silhouette").mean())
        places = places.sort("len", "group_silhouette", descending=True, maintain_order=True)
        named = [
            _group_words(place, transitions, last, several) for place in places.head(_MOST_NAMED).iter_rows(named=True)
        ]
        more = len(places) - _MOST_NAMED
        result.find(
            "groups",
            "groups",
            _first_words(places.row(0, named=True), transitions, last),
            f"Heads form groups in {len(there)} of {looked_at} at the last step.",
            *named,
            f"{count(more, 'other place holds', 'other places hold')} groups, too." if more > 0 else None,
            circuits,
            n=len(there),
            n_tested=len(tested),
        )
    elif n_decided:
        of = "any" if n_decided == len(tested) else str(n_decided)
        result.find(
            "groups",
            "groups",
            f"Heads form no groups in {of} of {looked_at} at the last step.",
            "Their two clusters are no further apart than those of random heads, corrected for all tests.",
            circuits,
            n=0,
            n_tested=len(tested),
            n_decided=n_decided,
        )
    earlier = int(lines.filter("groups").select(pl.struct("run", *_PLACE).n_unique()).item()) - len(there)
    if earlier:
        result.find("groups", "earlier", f"In {earlier} others they formed groups at an earlier step only.", n=earlier)


def _first_words(place: Mapping[str, Any], transitions: pl.DataFrame, last: pl.DataFrame) -> str:
    """Sum up one place, such as `Layer 1, Q: heads 0, 2 and 5 form a group, from step 80,000, abrupt, in 3 of 3 runs.`

    The heads are those of the smallest group. They are named if it has the same heads in all runs.
    """
    here = pl.all_horizontal(pl.col(name) == place[name] for name in _PLACE)
    own, runs = last.filter(here), transitions.filter(here, pl.col("run").is_not_null())
    together = transitions.filter(here, pl.col("run").is_null() if len(runs) > 1 else pl.col("run").is_not_null())
    smallest = {_smallest_group(labels) for labels in own["group_labels"].to_list()}
    weights = f"{place['kind'].upper()}{_FEATURES.get(place['feature'], '')}"
    if len(smallest) == 1:
        words = (
            f"Layer {place['layer']}, {weights}: heads {listed([str(head) for head in smallest.pop()])} form a group"
        )
    else:
        words = f"Layer {place['layer']}, {weights}: heads form groups"
    since = runs.filter("last_beyond")["beyond_from"].drop_nulls().unique().sort().to_list()
    if since:
        words += f", from step {since[0]:,}" + (f" to {since[-1]:,} on" if len(since) > 1 else "")
    how = together.row(0, named=True)["change"]
    words += f", {how}" if how in ("abrupt", "gradual") else ""
    return f"{words}, in {runs['last_beyond'].sum()} of {count(len(runs), 'run')}."


def _smallest_group(labels: Sequence[int | None]) -> tuple[int, ...]:
    groups = [tuple(head for head, label in enumerate(labels) if label == name) for name in {*labels} - {None, -1}]
    return min(groups, key=lambda heads: (len(heads), heads))


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
        arose = f"They arose abruptly between steps {row['change_from']:,.0f} and {row['change_to']:,.0f}."
    else:
        arose = _CHANGES.get(row["change"], "")
    return sentences(f"{words}.", arose)


def _undecided(result: Result, transitions: pl.DataFrame, lines: pl.DataFrame, several: bool) -> None:
    rows = transitions.filter("undecided")
    if not len(rows):
        return
    draws = max(lines["group_draws"].drop_nulls().to_list())
    needed = max(rows["needed_draws"].to_list())
    named = [_place(row, _of_run(row, several)) for row in rows.iter_rows(named=True)]
    result.find(
        "groups",
        "undecided",
        f"{draws:,} random draws are too few to tell whether heads form groups in {_few(named)}.",
        "No draw has clusters as far apart as those of these heads.",
        f"But p = {1 / (draws + 1):.2g} does not survive correction for {_series(len(transitions))}.",
        f"`headway cluster --most-draws {needed}` can decide.",
        n=len(rows),
        draws=draws,
        needed_draws=needed,
    )


def _outliers(result: Result, several: bool) -> None:
    """Findings on single heads whose norm departed from the others, the largest ratio first."""
    left = result.tables["outliers"].filter("left").sort("norm_ratio", descending=True)
    said = []
    for row in left.head(_MOST_NAMED).iter_rows(named=True):
        since = f"at step {row['onset']:,}" if row["onset_after"] is not None else "from the first step on"
        said.append(f"Head {row['head']} of {_place(row, _of_run(row, several))} departed from the others {since}.")
        said.append(f"Its norm is now {row['norm_ratio']:.2g} times their median.")
    if len(left) > _MOST_NAMED:
        said.append(f"{count(len(left) - _MOST_NAMED, 'other head')} departed from the others of their layer by less.")
    if said:
        result.find("outliers", "left", *said, heads=left.to_dicts())


def _copies(result: Result, table: pl.DataFrame, several: bool) -> None:
    """Findings on heads with equal weights at the last step."""
    last = table.filter(pl.col("k") == 1, pl.col("step") == pl.col("step").max().over("run"))
    n_heads = pl.col("norms").list.len()
    copies = last.filter(pl.col("n_distinct") < n_heads).with_columns(n=n_heads)
    equal = copies.filter("all_equal")
    if len(equal):
        named = [_place(row, _of_run(row, several)) for row in equal.iter_rows(named=True)]
        result.find("outliers", "equal", f"All heads are equal in {_few(named)}.", n=len(equal))
    some = copies.filter(~pl.col("all_equal")).head(_MOST_NAMED).iter_rows(named=True)
    said = [
        f"{_place(row, _of_run(row, several))} has {row['n_distinct']} kinds of identical heads, of {row['n']} heads."
        for row in some
    ]
    if said:
        result.find("outliers", "copies", *said)


def _uneven_norms(result: Result, table: pl.DataFrame, several: bool) -> None:
    """Findings on layers whose heads differ only in norm, without heads that departed from the others."""
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
        result.find(
            "outliers",
            "norms",
            f"In {len(uneven)} of {_series(len(norms))} of raw weights heads form no groups but differ in norm.",
            f"They differ most in {_place(most, _of_run(most, several))}, by a factor of {most['times']:.2g}.",
            n=len(uneven),
            n_series=len(norms),
            most=most,
        )


def too_few_heads(table: pl.DataFrame) -> list[str]:
    """A note on kinds of weights of which no layer could be clustered, although its heads differ."""
    kinds = table.group_by("size", "kind", maintain_order=True).agg(
        clustered=(pl.col("k") > 1).any() | pl.col("all_equal").any(), n=pl.col("norms").list.len().max()
    )
    return [
        f"Of size {size}, {', '.join(own['kind'].str.to_uppercase())} {'has' if len(own) == 1 else 'have'} {n} "
        f"{'head' if n == 1 else 'heads'} a layer, too few to be clustered: norms and changes are all there is."
        for (size, n), own in kinds.filter(~pl.col("clustered")).group_by("size", "n", maintain_order=True)
    ]


def _published(result: Result, table: pl.DataFrame) -> None:
    n = len(table)
    clusters, groups = (int(table[name].sum()) for name in ("published_clusters", "corrected_clusters"))
    lone = int((table["published_clusters"] & (table["lone_heads"].list.len() > 0)).sum())
    result.find(
        "published",
        "clusters",
        f"The published rule finds clusters in {clusters or 'none'} of {_series(n)} of raw weights; "
        f"the corrected rule in {groups or 'none'}.",
        f"The rule is a silhouette above {STRONG} at the last step.",
        f"In {lone} of its clusterings a head is alone in its cluster: an outlier." if lone else None,
        n=n,
        n_published=clusters,
        n_corrected=groups,
        n_lone=lone,
    )
    sudden, abrupt = (int(table[name].sum()) for name in ("published_sudden", "corrected_sudden"))
    result.find(
        "published",
        "sudden",
        f"The published rule calls {sudden} of {count(n, 'transition')} sudden.",
        f"By the test of change, groups arose abruptly in {abrupt}.",
        key=False,
        n=n,
        n_published=sudden,
        n_corrected=abrupt,
    )


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
        notes.append("No nulls were drawn, so nothing here says whether clusters are more than noise.")
    notes.append(
        "Tests called published treat every weight as an independent sample, which it is not. "
        "All tests between clusters use the weights in which the clusters were found."
    )
    notes.extend(_stale_changes(lines))
    gaps = _gaps(table)
    if gaps:
        notes.append(
            f"The widest gap between checkpoints is from step {gaps[0]:,} to {gaps[1]:,}. What happens there is not seen."
        )


def _stale_changes(lines: pl.DataFrame) -> list[str]:
    """A note on changes that were measured before a step in between was added to the grid."""
    main = main_series(lines).filter(pl.col("feature") == "raw").sort("step")
    before = pl.col("step").shift(1).over("run", "layer", "kind")
    stale = main.filter((pl.col("previous_step") < before).fill_null(False))
    if stale.is_empty():
        return []
    steps = ", ".join(f"{step:,}" for step in stale["step"].unique().sort())
    return [
        f"Changes at step {steps} do not start at the step before, which was added later. The column previous_step "
        f"names their start. `headway cluster --force` measures them again."
    ]


def _gaps(lines: pl.DataFrame) -> tuple[int, int] | None:
    """Describe the neighbouring steps with the largest ratio."""
    steps = lines["step"].unique().sort().to_list()
    pairs = list(pairwise(steps))
    return max(pairs, key=lambda pair: (pair[1] + 1) / (pair[0] + 1)) if pairs else None
