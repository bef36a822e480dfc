"""The step that the published study marks, on every axis of steps, and what too few steps do to a smooth curve."""

from __future__ import annotations

from typing import Any

from headway.reporting.charts import forms
from headway.reporting.context import Context
from headway.reporting.numbers import ends

MARKED = 1000  # where the published study draws its line
CURVE_TIPS = (("fit:Q", "fitted", ".4~g"), ("lower:Q", "95%: from", ".4~g"), ("upper:Q", "to", ".4~g"))
_FEWEST_PER_FUNCTION = 2  # with fewer distinct places per basis function, bends lie where nothing was measured


def mark(context: Context, table: str, panel: str = "", axis: str = "x") -> list[Any]:
    """The dotted line on an axis of step + 1, once in each `panel`; nothing where runs end before it."""
    return [forms.guide(table, panel, **{axis: MARKED + 1})] if _reached(context) else []


def said(context: Context) -> str:
    """A sentence on the line, to follow a caption."""
    return f" The dotted line marks step {MARKED:,}." if _reached(context) else ""


def _reached(context: Context) -> bool:
    return ends(context.tables["runs"]["last_step"])[1] > MARKED


def too_few_of(context: Context, model: str, what: str) -> str:
    """`too_few` of the study's additive model."""
    fit = context.value("gam", model)
    if not fit:
        return ""
    (smooth,) = fit["smooth"].values()
    return too_few(fit["n_distinct"], fit["k"], smooth["edf"], what)


def too_few_of_runs(context: Context) -> str:
    """`too_few` of the median run's smooth curve."""
    of = context.value("beyond", "emergence")
    return too_few(of["n_steps"], of["k"], of["edf"], "steps", "the median curve") if of else ""


def too_few(n: float, k: float, edf: float, what: str, curve: str = "the curve") -> str:
    """A sentence where `n` distinct places cannot bear a smooth curve of `k` basis functions; otherwise nothing."""
    if n >= _FEWEST_PER_FUNCTION * k:
        return ""
    return (
        f" The {n:g} distinct {what} cannot bear k = {k:g}: {curve} takes {edf:.1f} degrees of freedom. "
        f"Do not trust its bends between {what}."
    )
