"""Are the heads of a role more alike in weight features than other heads of the same layers?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from headway.studies.configuration.described import Described, Floats, by_size

WITHIN, ACROSS = "within runs", "across runs"
SCHEMA = {
    **dict.fromkeys(("role", "size", "pairs"), pl.String()),
    **dict.fromkeys(("n_runs", "n_pairs", "draws"), pl.Int64()),
    **dict.fromkeys(("distance", "expected", "lower", "upper", "p"), pl.Float64()),
}


def alike(checkpoints: Sequence[Described], roles: Sequence[str], draws: int, seed: int) -> pl.DataFrame:
    """Mean distance of two heads of a role at the last step, within runs and across runs, beside exchanged heads.

    A distance is the root mean square over standardised features. Under the null, heads exchange their roles within their layers.
    p is the share of exchanges, the given one included, with at most this distance.
    """
    rows = []
    for size, runs in by_size(checkpoints).items():
        for role in roles:
            usable = [one for one in runs if one.mixed(role).any()]
            if not usable:
                continue
            distances = _distances(np.concatenate([one.features for one in usable]))
            labels = np.concatenate([one.exchanged(role, draws, seed) for one in usable], axis=1).astype(float)
            of_run = np.repeat(np.arange(len(usable)), [len(one.layers) for one in usable])
            same = of_run[:, None] == of_run
            for pairs, counted in ((WITHIN, same), (ACROSS, ~same)):
                place = {"role": role, "size": size, "pairs": pairs, "n_runs": len(usable)}
                found = _mean_distance(distances * counted, counted, labels)
                if found is not None:
                    rows.append(place | found)
    return pl.DataFrame(rows, schema=SCHEMA)


def _distances(features: Floats) -> Floats:
    """(n, n) root mean square differences of rows (n, p)."""
    squares = (features**2).sum(1)
    found: Floats = np.sqrt(np.maximum(squares[:, None] + squares - 2 * features @ features.T, 0) / features.shape[1])
    return found


def _mean_distance(distances: Floats, counted: Floats, labels: Floats) -> dict[str, Any] | None:
    """The mean over counted pairs of holders, for each row of labels (1 + draws, n). Their number is the same in all rows."""
    n_pairs = labels[0] @ counted @ labels[0] - labels[0] @ np.diag(counted)
    if n_pairs == 0:
        return None
    means = ((labels @ distances) * labels).sum(1) / n_pairs
    low, high = np.quantile(means[1:], [0.025, 0.975])
    return {
        "n_pairs": int(n_pairs) // 2,
        "distance": means[0],
        "expected": means[1:].mean(),
        "lower": low,
        "upper": high,
        "p": float((means <= means[0] + 1e-12).mean()),
        "draws": len(means) - 1,
    }
