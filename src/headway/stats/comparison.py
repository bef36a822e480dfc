"""Likelihood-ratio test of two nested mixed models."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from headway.errors import StatisticsError
from headway.stats.distributions import chi2_p
from headway.stats.lmm import MixedModel, fit_frame
from headway.stats.model_frame import COLLINEAR
from headway.stats.random_effects import RandomTerm


class LikelihoodRatio(NamedTuple):
    """Test of a model against a larger one. `small` and `big` are the compared ML fits."""

    chi2: float
    df: int
    p: float
    small: MixedModel
    big: MixedModel


def lrt(small: MixedModel, big: MixedModel) -> LikelihoodRatio:
    """Likelihood-ratio test of two nested mixed models. REML fits are refitted by ML, as in R's anova.

    The models are nested if the fixed effects of the second span those of the first, and each random term of the first has
    a term in the second with the same groups whose effects span that term's.

    Raises:
        StatisticsError: one is no fit of `lmm`, they are fitted to different rows, or they are not nested.
    """
    _refuse_others(small, big)
    if small.n_obs != big.n_obs or not _same_data(small, big):
        raise StatisticsError(
            f"the two models are fitted to different rows ({small.n_obs} and {big.n_obs}), responses, offsets or weights: "
            "leave out rows with missing values first, and fit both to the same table"
        )
    df = big.n_parameters - small.n_parameters
    if df <= 0:
        raise StatisticsError(
            f"the first model has {small.n_parameters} parameters and the second {big.n_parameters}: "
            "give the smaller model first, nested in the other"
        )
    alone = [*_fixed_alone(small, big), *_random_alone(small, big)]
    if alone:
        raise StatisticsError(
            f"the models are not nested: the second does not contain {', '.join(alone)} of the first. "
            "Add it to the second model, or compare the two by AIC, fitted by ML"
        )
    small, big = (fit if fit.method == "ML" else fit_frame(fit.frame, "ML") for fit in (small, big))
    chi2 = max(small.criterion - big.criterion, 0.0)
    return LikelihoodRatio(chi2, df, chi2_p(chi2, df), small, big)


def _same_data(small: MixedModel, big: MixedModel) -> bool:
    ones = np.ones(small.n_obs)
    return np.array_equal(small.frame.target, big.frame.target) and np.array_equal(
        small.frame.weighted(ones), big.frame.weighted(ones)
    )


def _refuse_others(*fits: Any) -> None:
    for place, fit in zip(("first", "second"), fits, strict=True):
        if not isinstance(fit, MixedModel):
            kind = {"LinearModel": "a fit of ols", "AdditiveModel": "a fit of gam"}.get(type(fit).__name__)
            raise StatisticsError(
                f"lrt compares two fits of lmm, and the {place} is {kind or f'a {type(fit).__name__}'}. "
                "Compare fits of ols by aic or bic; a term of a gam is tested in its `smooths` and `parametric`"
            )


def _fixed_alone(small: MixedModel, big: MixedModel) -> list[str]:
    """Fixed effects of `small` that are not spanned by those of `big`."""
    outside = _outside(small.x.matrix, big.x.matrix)
    return [name for name, out in zip(small.x.names, outside, strict=True) if out]


def _random_alone(small: MixedModel, big: MixedModel) -> list[str]:
    """Random terms of `small` without a counterpart in `big`."""
    return [term.text for term in small.terms if not any(_holds(other, term) for other in big.terms)]


def _holds(big: RandomTerm, small: RandomTerm) -> bool:
    """Whether both terms group the rows alike, and the effects of `big` span those of `small`."""
    pairs = len(np.unique(big.group.codes * small.n_levels + small.group.codes))
    return pairs == big.n_levels == small.n_levels and not _outside(small.columns, big.columns).any()


def _outside(columns: np.ndarray, spanning: np.ndarray) -> np.ndarray:
    """Which of `columns` (n, p) are not linear combinations of `spanning` (n, q), up to the limit of R's `lm`."""
    u, s, _ = np.linalg.svd(spanning / np.linalg.norm(spanning, axis=0), full_matrices=False)
    basis = u[:, s > COLLINEAR * s.max(initial=0)]
    rest = columns - basis @ (basis.T @ columns)
    return np.linalg.norm(rest, axis=0) > COLLINEAR * np.linalg.norm(columns, axis=0)
