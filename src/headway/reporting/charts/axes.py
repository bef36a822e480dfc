"""Axes of figures. Steps have a logarithmic axis of step + 1, so that step 0 can be drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt

STEP_TITLE = "Training step + 1 (log scale)"
PARAMETERS_TITLE = "Parameters (log scale)"
LAYER_TITLE = "Layer (counted from 0)"
_IS_POWER_OF_TEN = "abs(log(datum.value) / LN10 - round(log(datum.value) / LN10)) < 1e-6"
_SHORT = "datum.value < 1 ? format(datum.value, '~g') : replace(format(datum.value, '~s'), 'G', 'B')"
_POWERS_OF_TEN = f"{_IS_POWER_OF_TEN} ? ({_SHORT}) : ''"
_THINNED = f"datum.label ? ({_SHORT}) : ''"  # Vega itself empties labels that would overlap


def log_x(field: str, title: str, *, labels: str = _POWERS_OF_TEN, **scale: Any) -> alt.X:
    return alt.X(
        f"{field}:Q",
        title=title,
        scale=alt.Scale(type="log", nice=False, padding=6, **scale),
        axis=alt.Axis(labelExpr=labels),
    )


def log_y(field: str, title: str, **scale: Any) -> alt.Y:
    lines = alt.when(_IS_POWER_OF_TEN).then(alt.value(1)).otherwise(alt.value(0))
    axis = alt.Axis(labelExpr=_THINNED, gridOpacity=lines)
    return alt.Y(
        f"{field}:Q", title=title, scale=alt.Scale(type="log", **({"nice": False, "padding": 8} | scale)), axis=axis
    )


def step_x(field: str = "step_modded", **scale: Any) -> alt.X:
    return log_x(field, STEP_TITLE, **scale)


def measured_x(steps: Sequence[int], field: str = "step_modded") -> alt.X:
    """The axis of steps, logarithmic unless most were measured late: then side by side, since late ones would coincide."""
    last = max(steps, default=0)
    if sum(step > last / 10 for step in steps) <= len(steps) / 2:
        return step_x(field, domain=[min(steps, default=0) + 1, last + 1])
    label = "datum.value == 0.5 ? '' : format(datum.value - 1, ',d')"
    return alt.X(
        f"{field}:O",
        title="Training step (measured steps side by side)",
        scale=alt.Scale(type="point", padding=0.5, domain=[step + 1 for step in sorted(steps)]),
        axis=alt.Axis(labelAngle=-45, labelExpr=label, labelOverlap="greedy"),
    )


def step_tiles_x() -> alt.X:
    """Measured steps side by side, for heat maps."""
    return alt.X("step:O", title="Training step", axis=alt.Axis(labelAngle=-45))


def parameters_x(field: str = "n_params") -> alt.X:
    return log_x(field, PARAMETERS_TITLE, labels=_THINNED)


def seeds_x(title: str) -> alt.X:
    """Number of seeds."""
    axis = alt.Axis(tickMinStep=1, format="d")
    return alt.X("n_seeds:Q", title=title, axis=axis, scale=alt.Scale(nice=False, padding=8))


def layer_x(field: str = "layer", title: str = LAYER_TITLE) -> alt.X:
    return alt.X(f"{field}:O", title=title, axis=alt.Axis(labelAngle=0))


def layer_y(field: str = "layer", title: str = "Layer") -> alt.Y:
    """Layers from bottom to top."""
    return alt.Y(f"{field}:O", title=title, sort="descending")


def seed_y(seeds: Sequence[str]) -> alt.Y:
    return alt.Y("seed:N", title="Seed", sort=list(seeds))


def rows_y(field: str, order: Sequence[str], title: str | None = None) -> alt.Y:
    """One row for each name."""
    return alt.Y(f"{field}:N", sort=list(order), title=title)


def value_y(field: str, title: str, *, zero: bool = False, **scale: Any) -> alt.Y:
    return alt.Y(f"{field}:Q", title=title, scale=alt.Scale(zero=zero, **scale))


def share_y(field: str, title: str) -> alt.Y:
    """Shares from 0% to 100%."""
    return alt.Y(f"{field}:Q", title=title, axis=alt.Axis(format="%"), scale=alt.Scale(domain=[0, 1]))


def share_x(field: str, title: str) -> alt.X:
    """Shares from 0% to 100%."""
    scale = alt.Scale(domain=[0, 1], padding=8)  # a mark at 0 would lie on the row's name
    return alt.X(f"{field}:Q", title=title, axis=alt.Axis(format="%"), scale=scale)
