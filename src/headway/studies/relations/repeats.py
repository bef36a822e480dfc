"""Do the strongest pairs of heads repeat over runs, beyond what their layers explain?

Composition is a fraction of norms, so that norms explain nothing of it. Layers may: early heads may feed late ones in all runs.
Under the null, heads are exchanged within their layers: each run and layer has one random order, for writing and reading alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from headway.stats.corrections import holm, over
from headway.studies.relations.edges import PAIR
from headway.studies.relations.trajectories import ordered_pairs

_TESTS = 25  # for which the asked number of exchanges is enough
TOP = 20  # the strongest pairs of a run, by excess
_SCHEMA = {
    **dict.fromkeys(("what", "kind", "size", "first", "second"), pl.String()),
    **dict.fromkeys(("n_runs", "n_pairs", "n", "draws"), pl.Int64()),
    **dict.fromkeys(("expected", "lower", "upper", "p"), pl.Float64()),
}
Ints = NDArray[np.int64]


class _Strongest(NamedTuple):
    """The strongest pairs of a run at its last step: (pairs, 4), as `PAIR`, and the shape of its heads."""

    run: str
    pairs: Ints
    n_layers: int
    n_heads: int


def _strongest(table: pl.DataFrame) -> Iterator[tuple[str, str, list[_Strongest]]]:
    """For each kind and size, the strongest pairs of its runs."""
    last = table.filter(pl.col("step") == pl.col("step").max().over("run"))
    for (kind, size), of in last.group_by("kind", "size", maintain_order=True):
        runs = []
        for (run,), own in of.group_by("run", maintain_order=True):
            top = own.sort("excess", descending=True, maintain_order=True).head(TOP)
            n_layers, n_heads = own.select("n_layers", "n_heads").row(0)
            runs.append(_Strongest(str(run), top.select(PAIR).to_numpy().astype(np.int64), n_layers, n_heads))
        yield str(kind), str(size), runs


def _orders(random: np.random.Generator, draws: int, run: _Strongest) -> Ints:
    """The given order of heads in each layer, then `draws` random ones: (1 + draws, layers, heads)."""
    given = np.broadcast_to(np.arange(run.n_heads), (1, run.n_layers, run.n_heads))
    return np.concatenate([given, random.random((draws, run.n_layers, run.n_heads)).argsort(-1)])


def _exchanged(run: _Strongest, orders: Ints) -> tuple[Ints, Ints]:
    """The heads that write and those that read, in each of the orders: (orders, pairs) each."""
    from_layer, from_head, layer, head = run.pairs.T
    return orders[:, from_layer, from_head], orders[:, layer, head]


def enough(table: pl.DataFrame, final: pl.DataFrame | None, draws: int) -> int:
    """How many exchanges it takes so that the smallest p is half of 0.05 after correction: `draws` for 25 tests."""
    n_pairs = 0 if final is None else len(ordered_pairs(final))
    n_tests = table.select("kind", "size").unique().height * (1 + n_pairs)
    return draws * -(-n_tests // _TESTS)


def same_heads(table: pl.DataFrame, draws: int, seed: int) -> pl.DataFrame:
    """Pairs with the same layers and heads in two runs, counted over all pairs of runs of a size.

    The number of a head has no meaning across seeds, unless runs share their initialisation.
    """
    rows = []
    for kind, size, runs in _strongest(table):
        if len(runs) < 2:
            continue
        random, codes = np.random.default_rng([seed, 1]), []
        for run in runs:
            writes, reads = _exchanged(run, _orders(random, draws, run))
            codes.append(
                ((run.pairs[:, 0] * run.n_heads + writes) * run.n_layers + run.pairs[:, 2]) * run.n_heads + reads
            )
        rows.append(
            {"what": "same heads", "kind": kind, "size": size, "n_runs": len(runs), "n_pairs": TOP}
            | _against(_shared(np.concatenate(codes, 1), len(runs)))
        )
    return pl.DataFrame(rows, schema=_SCHEMA)


def _shared(codes: Ints, n_runs: int) -> Ints:
    """Of how many pairs of runs each code comes, in sum: c (c - 1) / 2 for a code of c runs, in each row (draws,).

    Among the sorted codes, c equal ones are c - 1 neighbours, c - 2 pairs two apart, and so on.
    """
    ordered = np.sort(codes, 1)
    found: Ints = np.sum([(ordered[:, lag:] == ordered[:, :-lag]).sum(1) for lag in range(1, n_runs)], axis=0)
    return found


def same_roles(table: pl.DataFrame, final: pl.DataFrame, draws: int, seed: int) -> pl.DataFrame:
    """Strongest pairs that lead from a final holder of one role to one of another role, summed over the runs of a size."""
    rows = []
    by_run = {str(run): own for (run,), own in final.group_by("run")}
    for kind, size, runs in _strongest(table):
        random = np.random.default_rng([seed, 2])
        counted: dict[tuple[str, str], Ints] = {
            pair: np.zeros(1 + draws, dtype=np.int64) for pair in ordered_pairs(final)
        }
        for run in runs:
            writes, reads = _exchanged(run, _orders(random, draws, run))
            holders = {
                role: _mask(run, by_run[run.run].filter(pl.col("role") == role) if run.run in by_run else final.head(0))
                for pair in counted
                for role in pair
            }
            for (first, second), total in counted.items():
                total += (
                    holders[first][run.pairs[:, 0], writes] & holders[second][run.pairs[:, 2], reads]
                ).sum(1)  # fmt: skip
        rows += [
            {"what": "same roles", "kind": kind, "size": size, "first": first, "second": second, "n_runs": len(runs)}
            | {"n_pairs": TOP}
            | _against(total)
            for (first, second), total in counted.items()
        ]
    return pl.DataFrame(rows, schema=_SCHEMA)


def _mask(run: _Strongest, heads: pl.DataFrame) -> NDArray[np.bool_]:
    mask = np.zeros((run.n_layers, run.n_heads), dtype=bool)
    mask[heads["layer"].to_numpy(), heads["head"].to_numpy()] = True
    return mask


def _against(counts: Ints) -> dict[str, Any]:
    """The first count beside the others. p is the share of all with at least as many; null if all are equal."""
    own, chance = int(counts[0]), counts[1:]
    if not len(chance):
        return {"n": own, "draws": 0}
    low, high = np.quantile(chance, [0.025, 0.975])
    p = float((counts >= own).mean()) if counts.min() < counts.max() else None
    return {"n": own, "draws": len(chance), "expected": chance.mean(), "lower": low, "upper": high, "p": p}


def corrected(table: pl.DataFrame) -> pl.DataFrame:
    """The table with `p_holm`, corrected over all its rows."""
    return table.with_columns(p_holm=over(table["p"], holm))
