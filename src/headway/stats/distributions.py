"""Tail probabilities and quantiles. They use scipy.special, because importing scipy.stats takes a second."""

from __future__ import annotations

import numpy as np


def t_p(t: np.ndarray | float, df: np.ndarray | float) -> np.ndarray:
    """Two-sided p-value of Student's t."""
    from scipy.special import stdtr

    return 2 * stdtr(df, -np.abs(t))


def t_quantile(probability: float, df: np.ndarray | float) -> np.ndarray:
    from scipy.special import stdtrit

    return stdtrit(df, probability)


def f_p(f: np.ndarray | float, df_1: np.ndarray | float, df_2: np.ndarray | float) -> np.ndarray:
    """Upper tail of the F distribution."""
    from scipy.special import fdtrc

    return fdtrc(df_1, df_2, f)


def chi2_p(chi2: float, df: float) -> float:
    """Upper tail of the chi-square distribution."""
    from scipy.special import chdtrc

    return float(chdtrc(df, chi2))


def normal_quantile(probability: float) -> float:
    from scipy.special import ndtri

    return float(ndtri(probability))


def normal_p(z: np.ndarray | float) -> np.ndarray:
    """Two-sided p-value of a standard normal."""
    from scipy.special import ndtr

    return 2 * ndtr(-np.abs(z))
