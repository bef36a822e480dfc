"""Can a head's role be told from its weight features alone, in runs whose seed the classifier has not seen?

The classifier is Fisher's linear discriminant with a shrunk covariance (Ledoit and Wolf 2004, "A well-conditioned estimator for
large-dimensional covariance matrices"). Its covariance is that of all heads, whatever they hold: by the formula of Sherman
and Morrison the direction is the same as with the one within classes. So it is inverted once for all exchanges of labels.

Only layers in which some heads hold the role and others do not count, and features are relative to their layer: which layer
a head is in tells nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import polars as pl

from headway.stats.distributions import t_p, t_quantile
from headway.studies.configuration.described import FEATURES, Bools, Described, Floats, by_size

RUNS_SCHEMA = {
    **dict.fromkeys(("role", "size", "run", "seed"), pl.String()),
    "step": pl.Int64(),
    **dict.fromkeys(("n_holders", "n_others"), pl.Int64()),
    **dict.fromkeys(("balanced_accuracy", "chance"), pl.Float64()),
}
SCHEMA = {
    **dict.fromkeys(("role", "size"), pl.String()),
    **dict.fromkeys(("step", "n_runs", "n_holders", "n_others", "draws"), pl.Int64()),
    **dict.fromkeys(("balanced_accuracy", "chance", "lower", "upper", "p"), pl.Float64()),
}
DIFFERENCES_SCHEMA = {
    **dict.fromkeys(("role", "size", "feature"), pl.String()),
    "n_runs": pl.Int64(),
    **dict.fromkeys(("difference", "lower", "upper", "p"), pl.Float64()),
}


def classified(
    checkpoints: Sequence[Described], roles: Sequence[str], draws: int, seed: int
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Each role against the other heads of its layers: a row per held-out run at its last step, and one per role, size and step.

    The size is null where the classifier learns from the heads of all sizes.
    """
    of_runs: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    for step, size, runs in _groups(checkpoints):
        for role in roles:
            held_out = list(_held_out(runs, role, draws, seed))
            if not held_out:
                continue
            means = np.mean([accuracy for _, accuracy in held_out], axis=0)
            if step is None and size is not None:
                of_runs += [_of_run(one, role, accuracy) for one, accuracy in held_out]
            own = [one for one, _ in held_out]
            place = {"role": role, "size": size, "step": own[0].step if step is None else step}
            rows.append(place | _counts(own, role) | {"n_runs": len(own)} | _against(means))
    frame = pl.DataFrame(rows, schema=SCHEMA).unique(["role", "size", "step"], keep="first", maintain_order=True)
    return pl.DataFrame(of_runs, schema=RUNS_SCHEMA), frame


def _groups(checkpoints: Sequence[Described]) -> Iterator[tuple[int | None, str | None, list[Described]]]:
    """The runs that are compared: those of each size, then of all sizes; at their last step (None), then at each step."""
    for step in (None, *sorted({one.step for one in checkpoints})):
        groups = by_size(checkpoints, step)
        yield from ((step, size, runs) for size, runs in groups.items())
        if len(groups) > 1:
            yield step, None, [one for runs in groups.values() for one in runs]


def _held_out(runs: Sequence[Described], role: str, draws: int, seed: int) -> Iterator[tuple[Described, Floats]]:
    """Each run and the balanced accuracy in it, of the given labels and of exchanged ones: (1 + draws,)."""
    usable = [one for one in runs if one.mixed(role).any()]
    parts = {
        one.run: (one.features[one.mixed(role)], one.exchanged(role, draws, seed)[:, one.mixed(role)]) for one in usable
    }
    for one in usable:
        seen = [parts[other.run] for other in usable if other.seed != one.seed]
        if seen:
            features = np.concatenate([part[0] for part in seen])
            labels = np.concatenate([part[1] for part in seen], axis=1)
            yield one, balanced_accuracy(features, labels, *parts[one.run])


def balanced_accuracy(seen: Floats, seen_labels: Bools, features: Floats, labels: Bools) -> Floats:
    """The mean of the shares of holders and of others that are told rightly, for each row of labels: (draws,).

    Args:
        seen: (n, p) features from which the discriminant is learned, with labels (draws, n).
        features: (m, p) of a run that it has not seen, with labels (draws, m).
    """
    n_held = seen_labels.sum(1, keepdims=True)
    total = seen_labels @ seen
    held, others = total / n_held, (seen.sum(0) - total) / (len(seen) - n_held)
    directions = np.linalg.solve(shrunk_covariance(seen), (held - others).T).T
    middle = ((held + others) / 2 * directions).sum(1, keepdims=True)
    told = directions @ features.T > middle
    right = (told & labels).sum(1) / labels.sum(1), (~told & ~labels).sum(1) / (~labels).sum(1)
    found: Floats = (right[0] + right[1]) / 2
    return found


def shrunk_covariance(x: Floats) -> Floats:
    """The covariance (p, p) of rows (n, p), shrunk towards equal variances as far as the rows are too few to tell."""
    n, p = x.shape
    centred = x - x.mean(0)
    sample = centred.T @ centred / n
    level = np.trace(sample) / p
    away = ((sample - level * np.eye(p)) ** 2).sum()
    scatter = ((centred**2).sum(1) ** 2).mean() - (sample**2).sum()  # mean ‖x x' - S‖² over the rows
    share = min(1.0, scatter / n / away) if away > 0 else 1.0
    found: Floats = share * level * np.eye(p) + (1 - share) * sample
    return found + 1e-9 * np.eye(p)


def _of_run(one: Described, role: str, accuracy: Floats) -> dict[str, Any]:
    return {
        "role": role,
        "size": one.size,
        "run": one.run,
        "seed": one.seed,
        "step": one.step,
        **_counts([one], role),
        "balanced_accuracy": accuracy[0],
        "chance": accuracy[1:].mean(),
    }


def _counts(runs: Sequence[Described], role: str) -> dict[str, int]:
    held = [one.holds[role][one.mixed(role)] for one in runs]
    return {"n_holders": int(sum(own.sum() for own in held)), "n_others": int(sum((~own).sum() for own in held))}


def _against(accuracy: Floats) -> dict[str, Any]:
    """The first of the numbers beside the others: their mean, their 95% interval, and the share of all that is as large."""
    low, high = np.quantile(accuracy[1:], [0.025, 0.975])
    return {
        "balanced_accuracy": accuracy[0],
        "chance": accuracy[1:].mean(),
        "lower": low,
        "upper": high,
        "p": float((accuracy >= accuracy[0] - 1e-12).mean()),
        "draws": len(accuracy) - 1,
    }


def differences(checkpoints: Sequence[Described], roles: Sequence[str]) -> pl.DataFrame:
    """By how many standard deviations holders differ from the other heads of their layers, at the last step: a row per feature.

    Runs are the units of a t interval and test. Both are null for one run.
    """
    rows = []
    for size, runs in by_size(checkpoints).items():
        for role in roles:
            usable = [one for one in runs if one.mixed(role).any()]
            if usable:
                found = np.stack([_difference(one, role) for one in usable])
                rows += [
                    {"role": role, "size": size, "feature": feature, "n_runs": len(usable)} | _t(found[:, at])
                    for at, feature in enumerate(FEATURES)
                ]
    return pl.DataFrame(rows, schema=DIFFERENCES_SCHEMA)


def _difference(one: Described, role: str) -> Floats:
    counted, held = one.mixed(role), one.holds[role]
    found: Floats = one.features[counted & held].mean(0) - one.features[counted & ~held].mean(0)
    return found


def _t(values: Floats) -> dict[str, Any]:
    n, mean = len(values), float(values.mean())
    row: dict[str, Any] = {"difference": mean}
    if n > 1 and (error := float(values.std(ddof=1)) / n**0.5) > 0:
        half = t_quantile(0.975, n - 1) * error
        row |= {"lower": mean - half, "upper": mean + half, "p": t_p(mean / error, n - 1)}
    return row
