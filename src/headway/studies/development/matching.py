"""Matching heads across seeds: do whole trajectories repeat, in the same layers, and beyond what layers explain?

Heads of two runs are paired so that the summed squared distance of their trajectories is least (optimal assignment).
The best pairing of anything looks good, so what it reaches is compared with the best pairing of heads dealt out anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import combinations

import numpy as np
import polars as pl

from headway.stats.sequential import ROUNDING, sequential_p
from headway.studies.development.builder import ResultBuilder
from headway.studies.development.heads import SIZE_COLUMNS, Heads
from headway.studies.development.position import against
from headway.studies.prose import LEVEL, capital, from_to, percent, share_of

MOST_PAIRS = 40  # of runs, per size: more are drawn from, so that a suite of many seeds stays quick
MOST_SHUFFLES = 199
SHUFFLES_SHOWN = 50  # of which the mean and the range are shown: they need every assignment, p needs few

Pairs = list[tuple[int, int]]
Blocks = Callable[[np.ndarray], Iterator[np.ndarray]]


def matching(draft: ResultBuilder) -> None:
    """Adds the paired heads of the runs of each size, and the tests against shuffled heads."""
    rng = np.random.default_rng([draft.seed, 3])
    matched, tests = [], []
    needed = ("run", "seed", *SIZE_COLUMNS, "n_layers", "n_heads", "step", "layer", "head", "value")
    for (model,), of in draft.heads.frame.select(needed).group_by("model", maintain_order=True):
        block = trajectory_block(draft.heads, of)
        if block is None:
            reason = f"{model}: matching needs two runs with the same heads at two steps, and trajectories that differ"
            draft.say_left_out("beyond.matching", reason, ["matched_heads", "matching"])
            continue
        runs, x = block
        pairs = _some_pairs(len(runs), rng)
        size = of.select(SIZE_COLUMNS).head(1)
        seeds = dict(of.select("run", "seed").unique().iter_rows())
        found = [match(x[a], x[b]) for a, b in pairs]
        matched += [
            size.join(_as_frame(pair, x.shape[2]), how="cross").with_columns(
                run1=pl.lit(runs[a]), run2=pl.lit(runs[b]), seed1=pl.lit(seeds[runs[a]]), seed2=pl.lit(seeds[runs[b]])
            )
            for (a, b), pair in zip(pairs, found, strict=True)
        ]
        tests += [size.row(0, named=True) | test for test in _tests(x, pairs, found, draft.bootstraps, rng)]
    if not tests:
        draft.leave_out(
            "beyond.matching", "no size has two runs whose heads can be paired", ["matched_heads", "matching"]
        )
        return
    columns = ["run1", "run2", "seed1", "seed2", "layer1", "head1", "layer2", "head2", "distance", "same_layer"]
    draft.tables["matched_heads"] = pl.concat(matched).select(*SIZE_COLUMNS, *columns)
    floats = ("observed", "chance", "chance_lower", "chance_upper", "p")
    frame = pl.DataFrame(tests, schema_overrides=dict.fromkeys(floats, pl.Float64), infer_schema_length=None)
    draft.tables["matching"] = frame.select(*SIZE_COLUMNS, "test", *floats, "n_pairs")
    _say(draft)


def trajectory_block(heads: Heads, of: pl.DataFrame) -> tuple[list[str], np.ndarray] | None:
    """The runs of a size and their trajectories (runs, layers, heads, steps), over the steps that all runs have.

    Repeated checkpoints and runs that lack heads are left out; None where fewer than two runs or steps remain, or all
    trajectories are the same, so that any pairing is as good as another.
    """
    repeated = heads.duplicates.select("run", "step", _repeated=True)
    if repeated.height:
        of = of.join(repeated, on=["run", "step"], how="anti", maintain_order="left")
    n_layers, n_heads = of.select("n_layers", "n_heads").row(0) if of.height else (0, 0)
    of = of.select("run", "step", "layer", "head", "value")
    cells = of.group_by("run", "step").len().filter(pl.col("len") == n_layers * n_heads)
    whole_runs = set(cells["run"])
    runs = [run for run in heads.runs["run"] if run in whole_runs]
    common = cells.group_by("step").agg(n=pl.col("run").n_unique()).filter(pl.col("n") == len(runs))
    if len(runs) < 2 or common.height < 2:
        return None
    whole = of.filter(pl.col("run").is_in(runs)).join(common.select("step"), on="step", how="semi")
    order = pl.DataFrame({"run": runs}).with_row_index("_run")
    values = whole.join(order, on="run").sort("_run", "layer", "head", "step")["value"].to_numpy()
    block = values.reshape(len(runs), n_layers, n_heads, common.height)
    return (runs, block) if np.ptp(block, axis=(0, 1, 2)).any() else None


def _some_pairs(n_runs: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    pairs = list(combinations(range(n_runs), 2))
    if len(pairs) > MOST_PAIRS:
        pairs = [pairs[i] for i in sorted(rng.choice(len(pairs), MOST_PAIRS, replace=False))]
    return pairs


def match(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs all heads of two runs (layers, heads, steps): for each head of `a` its partner's number in `b`, and the
    root mean square over steps of their difference."""
    from scipy.optimize import linear_sum_assignment

    squared = _squared_distances(a.reshape(-1, a.shape[-1]), b.reshape(-1, b.shape[-1]))
    # of equally good partners the first is taken: in a fixed disorder, lest that be the one in the same place
    order = np.random.default_rng(0).permutation(len(squared))
    # what a row's or a column's entries have in common changes no assignment, and without it fewer are tried
    costs = squared[:, order] - squared.min(axis=1, keepdims=True)
    partner = order[linear_sum_assignment(costs - costs.min(axis=0))[1]]
    return partner, np.sqrt(squared[np.arange(len(partner)), partner])


def _squared_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Mean over steps of (a_i - b_j)², for (..., heads, steps)."""
    squares = (a**2).sum(-1)[..., :, None] + (b**2).sum(-1)[..., None, :] - 2 * a @ np.swapaxes(b, -1, -2)
    return np.maximum(squares, 0) / a.shape[-1]


def _as_frame(pair: tuple[np.ndarray, np.ndarray], n_heads: int) -> pl.DataFrame:
    partner, distance = pair
    (layer1, head1), (layer2, head2) = (np.divmod(place, n_heads) for place in (np.arange(len(partner)), partner))
    columns = {"layer1": layer1, "head1": head1, "layer2": layer2, "head2": head2, "distance": distance}
    return pl.DataFrame(columns).with_columns(same_layer=pl.col("layer1") == pl.col("layer2"))


def _tests(
    x: np.ndarray,
    pairs: list[tuple[int, int]],
    found: list[tuple[np.ndarray, np.ndarray]],
    shuffles: int,
    rng: np.random.Generator,
) -> list[dict[str, object]]:
    """Three questions to the pairing of a size's runs.

    `same layer`: the share of freely paired heads whose layers agree; chance deals the layers out anew in each run.
    `layers`: root mean square distance of heads paired within layers; chance deals each run's trajectories out to its
    layers.
    `beyond layers`: the same distance; chance pools each layer's heads over the runs and deals them out to the runs
    anew, so that whatever sets layers apart, their spread included, stays as it is. The test is exact where the heads
    of a layer are alike in law in all runs, however they are distributed; runs that differ as a whole make it cautious.
    """
    runs, layers, heads, _ = x.shape
    labels = np.repeat(np.arange(layers), heads)
    partners = np.array([partner for partner, _ in found])
    a, b = np.array(pairs).T
    share = float((labels == labels[partners]).mean())
    rows = [_row("same layer", share, len(pairs), chance=1 / layers)]
    if shuffles:
        rows[0] |= against(share, _dealt_shares(labels, partners, a, b, runs, shuffles, rng))
    for name, blocks, shape in (
        ("layers", _dealt_to_layers, (runs, layers * heads)),
        ("beyond layers", _dealt_to_runs, (layers, runs * heads)),
    ):
        if (layers if name == "layers" else heads) == 1:
            continue  # every deal is the same
        rows.append(
            _distance_test(name, partial(blocks, x, pairs), shape, len(pairs), min(shuffles, MOST_SHUFFLES), rng)
        )
    return rows


def _distance_test(
    name: str, blocks: Blocks, shape: tuple[int, int], n_pairs: int, most: int, rng: np.random.Generator
) -> dict[str, object]:
    """Compare the distance of paired heads with that of dealt ones; a small distance is what speaks for repetition.

    Solving assignments takes the time. The draws that are shown are all solved. Of the others, only those are whose lower
    bound is not above the observed distance, which they might reach. Draws stop once p cannot be small.

    Args:
        blocks: from the order of the things in each group (draws, groups, things) to squared distances
            (draws, problems, heads, heads), a block at a time.
        shape: (groups, things).
    """
    things = np.broadcast_to(np.arange(shape[1]), shape)
    observed = float(_least_distance(blocks, things[None])[0])
    row = _row(name, observed, n_pairs)
    if not most:
        return row
    shown: list[float] = []

    def draw(n: int) -> dict[str, np.ndarray]:
        order = rng.permuted(np.broadcast_to(things, (n, *shape)), axis=-1)
        n_shown = min(n, SHUFFLES_SHOWN - len(shown))
        distance, to_solve = np.zeros(n), np.ones(n, dtype=bool)
        if n_shown < n:
            distance[n_shown:] = _lower_bound(blocks, order[n_shown:])
            to_solve[n_shown:] = distance[n_shown:] <= observed + ROUNDING
        distance[to_solve] = _least_distance(blocks, order[to_solve])
        shown.extend(distance[:n_shown])
        return {name: -distance}

    p = sequential_p(-observed, draw, SHUFFLES_SHOWN, most).p[name]
    low, high = np.quantile(shown, [0.025, 0.975])
    return row | {"chance": float(np.mean(shown)), "chance_lower": low, "chance_upper": high, "p": p}


def _row(test: str, observed: float, n_pairs: int, chance: float | None = None) -> dict[str, object]:
    empty = dict.fromkeys(("chance_lower", "chance_upper", "p"))
    return {"test": test, "observed": observed, "chance": chance, "n_pairs": n_pairs, **empty}


def _dealt_shares(
    labels: np.ndarray,
    partners: np.ndarray,
    a: np.ndarray,
    b: np.ndarray,
    runs: int,
    shuffles: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """The share of pairs with equal labels, when every run's labels are shuffled: (shuffles,)."""
    shares, of_partners = np.empty(shuffles), b[:, None] * len(labels) + partners
    for i in range(shuffles):
        dealt = rng.permuted(np.broadcast_to(labels, (runs, len(labels))), axis=1)
        shares[i] = (dealt[a] == dealt.take(of_partners)).mean()
    return shares


def _dealt_to_layers(x: np.ndarray, pairs: Pairs, order: np.ndarray) -> Iterator[np.ndarray]:
    """Squared distances when each run's heads are dealt out to its layers: (draws, layers, heads, heads) for each pair of runs.

    Args:
        x: (runs, layers, heads, steps).
        order: (draws, runs, layers * heads); which head lies in each place.
    """
    runs, layers, heads, steps = x.shape
    whole = x.reshape(runs, layers * heads, steps)
    dealt = order.reshape(-1, runs, layers, heads)
    for a, b in pairs:
        yield _between(_squared_distances(whole[a], whole[b]), dealt[:, a], dealt[:, b])


def _dealt_to_runs(x: np.ndarray, pairs: Pairs, order: np.ndarray) -> Iterator[np.ndarray]:
    """Squared distances when each layer's heads are dealt out to the runs: (draws, pairs, heads, heads) for each layer.

    Args:
        x: (runs, layers, heads, steps).
        order: (draws, layers, runs * heads); which head lies in each place.
    """
    runs, layers, heads, steps = x.shape
    a, b = np.array(pairs).T
    dealt = order.reshape(-1, layers, runs, heads)
    for layer in range(layers):
        pooled = x[:, layer].reshape(runs * heads, steps)
        of_layer = dealt[:, layer]
        yield _between(_squared_distances(pooled, pooled), of_layer[:, a], of_layer[:, b])


def _between(squared: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """The entries of a matrix between `rows` (..., n) and `columns` (..., m): (..., n, m). Flat places are quicker than pairs."""
    entries: np.ndarray = squared.take(rows[..., :, None] * squared.shape[1] + columns[..., None, :])
    return entries


def _least_distance(blocks: Blocks, order: np.ndarray) -> np.ndarray:
    """Root mean square distance of heads paired at their best within each layer: (draws,)."""
    return _root_mean(_assigned, blocks(order))


def _lower_bound(blocks: Blocks, order: np.ndarray) -> np.ndarray:
    """A bound that `_least_distance` never falls below, and that needs no assignment: (draws,)."""
    return _root_mean(_reduced, blocks(order))


def _root_mean(per_head: Callable[[np.ndarray], np.ndarray], blocks: Iterator[np.ndarray]) -> np.ndarray:
    means = [per_head(block).mean(axis=(1, 2)) for block in blocks]  # blocks of one test hold equally many problems
    root: np.ndarray = np.sqrt(np.mean(means, axis=0))
    return root


def _assigned(squared: np.ndarray) -> np.ndarray:
    """What each row pays in the optimal assignment of (draws, problems, heads, heads): (draws, problems, heads)."""
    from scipy.optimize import linear_sum_assignment

    partner = [linear_sum_assignment(matrix)[1] for matrix in squared.reshape(-1, *squared.shape[2:])]
    partners = np.array(partner, dtype=np.intp).reshape(*squared.shape[:3], 1)
    paid: np.ndarray = np.take_along_axis(squared, partners, axis=-1)[..., 0]
    return paid


def _reduced(squared: np.ndarray) -> np.ndarray:
    """What the optimal assignment costs at least: each row's least cost, and each column's least of what then remains.

    These are a feasible solution of the dual problem (Kuhn 1955, Nav. Res. Logist. Q. 2, 83-97).
    """
    rows = squared.min(axis=-1)
    bound: np.ndarray = rows + (squared - rows[..., None]).min(axis=-2)
    return bound


def _say(draft: ResultBuilder) -> None:
    tests = draft.tables["matching"]
    draft.put("beyond.matching", {"tests": tests.to_dicts()})
    shared = tests.filter(pl.col("test") == "same layer", pl.col("chance").is_not_null())
    if shared.height:
        draft.find(
            "matching",
            "layer",
            _more_often(shared, "heads paired by their trajectories share their layer more often than by chance"),
            f"They do in {_range(shared, 'observed')} of the pairs; {_range(shared, 'chance')} is expected by chance.",
            sizes=shared.to_dicts(),
        )
    beyond = tests.filter(pl.col("test") == "beyond layers", pl.col("p").is_not_null(), pl.col("chance") > 0)
    if beyond.height:
        ratios = [(row["size"], row["observed"] / row["chance"]) for row in beyond.to_dicts()]
        draft.find(
            "matching",
            "beyond_layers",
            _more_often(beyond, "a layer's mix of heads repeats from seed to seed, beyond what layers explain,"),
            f"Paired heads lie {from_to(ratios)} times as far apart as heads dealt out to the seeds at random.",
            "Below 1, the mix repeats; above 1, seeds differ as wholes.",
            ratios=dict(ratios),
            sizes=beyond.to_dicts(),
        )
    draft.find(
        "matching",
        "caveat",
        "Paired heads need not compute the same: one score of theirs develops alike.",
        "Distances are squared, so a few heads that rise far count more than many that stay low.",
        "A seed that differs as a whole, in how early its heads rise, hides a mix that repeats.",
    )


def _more_often(tests: pl.DataFrame, what: str) -> str | None:
    """In how many of the sizes that were tested `what` is so."""
    tested = tests.drop_nulls("p")
    if not tested.height:
        return None
    n = tested.filter(pl.col("p") <= LEVEL).height
    return capital(f"{what} in {share_of(n, tested.height, 'size')} (5% level).")


def _range(tests: pl.DataFrame, column: str) -> str:
    return from_to(tests.select("size", column).rows(), percent)
