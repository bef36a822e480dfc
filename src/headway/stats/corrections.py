"""Correct p values for multiple tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

Floats = NDArray[np.float64]

LEVEL = 0.05


def benjamini_hochberg(p: Floats) -> Floats:
    """Smallest false discovery rate at which each test would be a discovery (Benjamini & Hochberg 1995)."""
    order = np.argsort(p)[::-1]
    stepped = np.minimum.accumulate(p[order] * len(p) / np.arange(len(p), 0, -1)).clip(max=1)
    corrected = np.empty_like(stepped)
    corrected[order] = stepped
    return corrected


def holm(p: Floats) -> Floats:
    """Smallest family-wise error rate at which each test would be rejected (Holm 1979)."""
    order = np.argsort(p)
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)).clip(max=1)
    corrected = np.empty_like(stepped)
    corrected[order] = stepped
    return corrected


def simes(p: Floats) -> float:
    """p of the hypothesis that all null hypotheses hold: min over i of n p_(i) / i (Simes 1986)."""
    return float(np.min(np.sort(p) * len(p) / np.arange(1, len(p) + 1)))


def over(values: pl.Series, correct: Callable[[Floats], Floats]) -> pl.Series:
    """Apply `correction` to the values that are not null."""
    p = values.to_numpy().astype(float)
    corrected = np.full(len(p), np.nan)
    there = np.isfinite(p)
    if there.any():
        corrected[there] = correct(p[there])
    return pl.Series(corrected, dtype=pl.Float64).fill_nan(None)


class ByFamily(NamedTuple):
    """For every test the corrected p of its family (`of_family`) and its own (`of_test`)."""

    of_family: Floats
    of_test: Floats


def by_family(p: Floats, family: NDArray[np.integer]) -> ByFamily:
    """Correct tests that come in families, such as the steps of one layer's weights.

    First, each family gets the p of Simes for the hypothesis that none of its tests has an effect. These are corrected by
    Benjamini & Hochberg, which selects R of the m families. Then the tests of each family are corrected by Benjamini &
    Hochberg at R / m of the level (Benjamini & Bogomolov 2014, J. R. Stat. Soc. B 76, 297-318). The false discovery rate
    holds for families, and on average within the selected ones. This loses far less power than one correction over all
    tests, because an effect at one step is usually there at the next.
    """
    names, at = np.unique(family, return_inverse=True)
    together = benjamini_hochberg(np.array([simes(p[at == name]) for name in range(len(names))]))
    share = max(1, int((together <= LEVEL).sum())) / len(names)
    own = np.empty_like(p)
    for name in range(len(names)):
        own[at == name] = benjamini_hochberg(p[at == name]) / share
    return ByFamily(together[at], np.minimum(1.0, np.maximum(together[at], own)))
