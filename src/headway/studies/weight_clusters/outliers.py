"""Find single heads whose norm departs from that of the other heads, and the step at which it does.

Take the log of each head's norm divided by the median norm of its layer. For every step c, each head has one number: the mean
of this log over the steps from c on, minus its mean over the steps before c (for the first step nothing is subtracted). The
head farthest from the others is compared with them by Student's t, without that head (Grubbs 1950, Ann. Math. Stat. 21,
27-58). So a norm that was always large, or that varies from step to step, is no departure.

p accounts for three choices: the farthest of H heads (Bonferroni), the better of one outlier and two, because two outliers
hide each other, and the step c (Simes 1986, Biometrika 73, 751-754).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from headway.stats.corrections import benjamini_hochberg, simes
from headway.stats.distributions import t_p

Floats = NDArray[np.float64]

LEVEL = 0.02  # less than that of groups, so that both together make few false claims
_LEAST_RATIO = 1.5  # of norms: a smaller one may be certain, and matters little
_FEWEST_HEADS = 5
_SERIES = ("run", "size", "seed", "layer", "kind")
_SCHEMA: dict[str, pl.DataType] = {
    "run": pl.String(),
    "size": pl.String(),
    "seed": pl.String(),
    "layer": pl.Int32(),
    "kind": pl.String(),
    "head": pl.Int32(),
    "norm_ratio": pl.Float64(),
    "ratio_before": pl.Float64(),
    "onset": pl.Int64(),
    "onset_after": pl.Int64(),
    "p": pl.Float64(),
    "q": pl.Float64(),
    "left": pl.Boolean(),
}


class Departure(NamedTuple):
    """The farthest head, or two, with the index of the step at which each departs, and p."""

    since: dict[int, int]
    p: float


def outliers(table: pl.DataFrame) -> pl.DataFrame:
    """One row per run, layer, kind of raw weights and head that lies farthest from the others by its norm.

    `norm_ratio` is its norm by the median of its layer at the last step, `ratio_before` at the step before `onset`,
    the first step at which it is away; `onset_after` is the step before that in the grid. `q` is p corrected over all
    runs, layers and kinds for the false discovery rate. `left` says whether it counts as having departed:
    q <= 0.02, and a ratio of 1.5 or more, or its inverse.
    """
    rows: list[dict[str, Any]] = []
    p: list[float] = []
    own = table.filter(pl.col("k") == 1, pl.col("feature") == "raw").sort(*_SERIES, "step")
    for series in own.partition_by(_SERIES, maintain_order=True):
        norms = np.array(series["norms"].to_list())
        if norms.shape[1] < _FEWEST_HEADS or not (norms > 0).all():
            continue
        ratios = norms / np.median(norms, axis=1, keepdims=True)
        found = departure(np.log(ratios))
        p.append(found.p)
        steps = series["step"].to_list()
        for head, at in found.since.items():
            rows.append(
                {name: series[name][0] for name in _SERIES}
                | {
                    "head": head,
                    "norm_ratio": float(ratios[-1, head]),
                    "ratio_before": float(ratios[at - 1, head]) if at else None,
                    "onset": steps[at],
                    "onset_after": steps[at - 1] if at else None,
                    "p": found.p,
                    "q": len(p) - 1,  # of which series: replaced below
                }
            )
    corrected = benjamini_hochberg(np.array(p)) if p else np.array([])
    for row in rows:
        row["q"] = float(corrected[row["q"]])
        large = max(row["norm_ratio"], 1 / row["norm_ratio"]) >= _LEAST_RATIO
        row["left"] = bool(row["q"] <= LEVEL and large)
    return pl.DataFrame(rows, schema=_SCHEMA)


def departure(log_ratios: Floats) -> Departure:
    """Find the head that departs most from the others, given logs of norms (steps, H)."""
    n_steps = len(log_ratios)
    contrasts = [log_ratios.mean(axis=0)]
    contrasts += [log_ratios[c:].mean(axis=0) - log_ratios[:c].mean(axis=0) for c in range(1, n_steps)]
    found = [_farthest(values) for values in contrasts]
    heads, _ = min(found, key=lambda one: one[1])
    # p is tiny at several steps about that of a jump; the contrast is largest at the jump itself.
    since = np.abs(contrasts).argmax(axis=0)
    return Departure({head: int(since[head]) for head in heads}, simes(np.array([p for _, p in found])))


def _farthest(values: Floats) -> tuple[tuple[int, ...], float]:
    """Return the one or two heads farthest from the others, and p."""
    order = np.argsort(-np.abs(values - np.median(values)), kind="stable")
    one, two = _grubbs(values, order[:1]), _grubbs(values, order[:2])
    taken = order[:2] if two < one else order[:1]
    return tuple(sorted(taken.tolist())), min(1.0, 2 * min(one, two))


def _grubbs(values: Floats, taken: NDArray[np.intp]) -> float:
    """p of the least extreme of the removed heads, compared with the others."""
    others = np.delete(values, taken)
    n = len(others)
    nearest = values[taken[-1]]
    spread = others.std(ddof=1) * np.sqrt(1 + 1 / n)
    if spread == 0:
        return 1.0 if nearest == others[0] else 0.0
    return min(1.0, (n + 1) * float(t_p(abs(nearest - others.mean()) / spread, n - 1)))
