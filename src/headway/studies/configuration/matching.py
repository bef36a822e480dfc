"""Match the heads of two runs by what they do with the same tokens: their attention, their outputs, or both.

Each head of a run gets one head of the other run, so that the sum of similarities is largest (the assignment problem).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from headway.studies.configuration.described import BY, Described, Floats, Ints, by_size

BOTH = "both"
EVERY = (*BY, BOTH)
STEPS_SCHEMA = {
    **dict.fromkeys(("size", "by"), pl.String()),
    **dict.fromkeys(("step", "n_runs", "n_pairs"), pl.Int64()),
    **dict.fromkeys(("similarity", "same_layer", "same_layer_chance", "agree"), pl.Float64()),
}
MATCHES_SCHEMA = {
    **dict.fromkeys(("size", "by", "run", "other_run"), pl.String()),
    **dict.fromkeys(("step", "layer", "head", "other_layer", "other_head"), pl.Int64()),
    "similarity": pl.Float64(),
}
ROLES_SCHEMA = {
    **dict.fromkeys(("role", "size", "by"), pl.String()),
    **dict.fromkeys(("n_runs", "n_possible", "n", "draws"), pl.Int64()),
    **dict.fromkeys(("share", "expected", "lower", "upper", "p"), pl.Float64()),
}


class Match(NamedTuple):
    """The heads of one run, in their order, with those of another one: `partner` (h,), and how alike they are: (h,)."""

    one: Described
    other: Described
    partner: Ints
    similarity: Floats


def matched(runs: Sequence[Described], by: str) -> list[Match]:
    """Match the heads of every two runs of a size at a step."""
    return [_match(one, other, by) for one, other in combinations(runs, 2)]


def _match(one: Described, other: Described, by: str) -> Match:
    from scipy.optimize import linear_sum_assignment

    alike = similarities(one, other, by)
    rows, columns = linear_sum_assignment(alike, maximize=True)
    return Match(one, other, columns.astype(np.int64), alike[rows, columns])


def similarities(one: Described, other: Described, by: str) -> Floats:
    """(h, h) products of the heads' vectors; of both kinds, their mean."""
    names = BY if by == BOTH else (by,)
    found: Floats = np.mean([one.vectors[name] @ other.vectors[name].T for name in names], axis=0, dtype=np.float64)
    return found


class Matching(NamedTuple):
    """The tables of all matches: by step, head by head at the last step, and for each role."""

    steps: pl.DataFrame
    matches: pl.DataFrame
    roles: pl.DataFrame


def matching(checkpoints: Sequence[Described], roles: Sequence[str], draws: int, seed: int) -> Matching:
    """Match heads over the runs of each size. At the last step, count heads of a role that are matched with heads of the same role."""
    steps, heads, of_roles = [], [], []
    for step in sorted({one.step for one in checkpoints}):
        for size, runs in by_size(checkpoints, step).items():
            found = {by: matched(runs, by) for by in EVERY}
            steps += [{"size": size, "by": by, "step": step} | _summary(found, by) for by in EVERY if found[by]]
    for size, runs in by_size(checkpoints).items():
        for by in EVERY:
            matches = matched(runs, by)
            heads += [{"size": size, "by": by} | row for match in matches for row in _rows(match)]
            for role in roles:
                of_roles += [
                    {"role": role, "size": size, "by": by} | row for row in _of_role(matches, role, draws, seed)
                ]
    return Matching(
        pl.DataFrame(steps, schema=STEPS_SCHEMA),
        pl.DataFrame(heads, schema=MATCHES_SCHEMA),
        pl.DataFrame(of_roles, schema=ROLES_SCHEMA),
    )


def _summary(found: dict[str, list[Match]], by: str) -> dict[str, Any]:
    """The mean similarity of matched heads, how many lie in the same layer, and how many have the same partner by both kinds."""
    matches = found[by]
    first = matches[0].one
    shares = np.bincount(first.layers) / len(first.layers)
    partners = [np.array([match.partner for match in found[name]]) for name in BY]
    return {
        "n_runs": len({one.run for match in matches for one in match[:2]}),
        "n_pairs": len(matches),
        "similarity": float(np.mean([match.similarity for match in matches])),
        "same_layer": float(np.mean([match.other.layers[match.partner] == match.one.layers for match in matches])),
        "same_layer_chance": float((shares**2).sum()),
        "agree": float((partners[0] == partners[1]).mean()),
    }


def _rows(match: Match) -> Iterator[dict[str, Any]]:
    one, other, partner, similarity = match
    for at, to in enumerate(partner):
        yield {
            "run": one.run,
            "other_run": other.run,
            "step": one.step,
            "layer": one.layers[at],
            "head": one.heads[at],
            "other_layer": other.layers[to],
            "other_head": other.heads[to],
            "similarity": similarity[at],
        }


def _of_role(matches: Sequence[Match], role: str, draws: int, seed: int) -> list[dict[str, Any]]:
    """How many heads of a role are matched with heads of the same role, beside heads exchanged within their layers."""
    usable = [match for match in matches if match.one.holds[role].any() and match.other.holds[role].any()]
    runs = {one.run: one for match in usable for one in match[:2]}
    if not usable:
        return []
    labels = {name: one.exchanged(role, draws, seed) for name, one in runs.items()}
    counts = sum((labels[one.run] & labels[other.run][:, partner]).sum(1) for one, other, partner, _ in usable)
    counts = np.asarray(counts)
    possible = sum(int(min(one.holds[role].sum(), other.holds[role].sum())) for one, other, *_ in usable)
    low, high = np.quantile(counts[1:], [0.025, 0.975])
    return [
        {
            "n_runs": len(runs),
            "n_possible": possible,
            "n": int(counts[0]),
            "share": counts[0] / possible,
            "expected": counts[1:].mean() / possible,
            "lower": low / possible,
            "upper": high / possible,
            "p": float((counts >= counts[0]).mean()) if np.ptp(counts) else None,
            "draws": draws,
        }
    ]
