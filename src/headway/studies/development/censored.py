"""Times known only to lie in an interval: their distribution (Turnbull 1976) and a normal regression (Burridge 1981).

An interval is (lower, upper]; lower = -inf says "at or before upper", upper = inf "not up to lower".
Every function takes weights of shape (B, n): the n observations under B bootstrap weightings at once.
"""

from __future__ import annotations

import numpy as np


def resampled_weights(labels: np.ndarray, n_resamples: int, rng: np.random.Generator) -> np.ndarray:
    """How often each observation is drawn when its clusters (`labels`) are resampled: (n_resamples, n)."""
    clusters, index = np.unique(labels, return_inverse=True)
    counts = rng.multinomial(len(clusters), np.full(len(clusters), 1 / len(clusters)), size=n_resamples)
    return counts[:, index].astype(float)


def shares_until(
    places: np.ndarray, lower: np.ndarray, upper: np.ndarray, weights: np.ndarray, tolerance: float = 1e-6
) -> np.ndarray:
    """The share of onsets at or before each of the ascending `places`: (B, places).

    Turnbull's self-consistent estimate, with mass on the cells between neighbouring ends, of which each observation
    covers some; what a cell leaves open counts at its end. Weightings without an observation give NaN.
    """
    ends = np.unique(np.concatenate([places, lower, upper]))
    edges = np.concatenate([[-np.inf], ends[np.isfinite(ends)], [np.inf]])
    covers = (edges[:-1] >= lower[:, None]) & (edges[1:] <= upper[:, None])  # (n, cells)
    with np.errstate(invalid="ignore", divide="ignore"):
        weights = weights / weights.sum(axis=1, keepdims=True)
        mass = np.full((len(weights), covers.shape[1]), 1 / covers.shape[1])
        for _ in range(500):
            inside = mass @ covers.T
            new = mass * (np.where(weights > 0, weights / inside, 0) @ covers)
            done = np.nanmax(np.abs(new - mass), initial=0) < tolerance
            mass = new
            if done:
                break
    mass[~np.isfinite(weights).all(axis=1)] = np.nan
    return np.cumsum(mass, axis=1)[:, np.searchsorted(edges[1:], places)]


def normal_regression(
    x: np.ndarray, lower: np.ndarray, upper: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Maximum likelihood of y = x beta + sigma e, e normal, y in (lower, upper]: beta (B, p) and sigma (B,).

    In gamma = beta / sigma and h = 1 / sigma the log-likelihood is concave (Burridge 1981), so Newton's steps, halved
    where they do not climb, find its maximum. Where a line goes through all intervals there is none (the likelihood
    tends to 1 as sigma falls to 0): both are then NaN.

    Args:
        x: (n, p), with a column of ones.
        lower, upper: (n,), with infinities where an end is open.
        weights: (B, n).
    """
    ends = np.stack([lower, upper])
    start = np.nanmean(np.where(np.isfinite(ends), ends, np.nan), axis=0)
    beta, *_ = np.linalg.lstsq(x, start, rcond=None)
    spread = max(float(np.std(start - x @ beta)), 0.1)
    theta = np.tile(np.append(beta / spread, 1 / spread), (len(weights), 1))
    value, gradient, hessian = _log_likelihood(theta, x, lower, upper, weights)
    for _ in range(60):
        ridge = 1e-9 * (1 + np.abs(np.trace(hessian, axis1=1, axis2=2)))[:, None, None] * np.eye(theta.shape[1])
        step = np.linalg.solve(ridge - hessian, gradient[..., None])[..., 0]
        scale = np.ones(len(theta))
        for _ in range(30):
            trial = theta + scale[:, None] * step
            trial[:, -1] = np.clip(trial[:, -1], 1e-3, 1e3)
            found = _log_likelihood(trial, x, lower, upper, weights)
            worse = ~(found[0] >= value - 1e-12)
            if not worse.any():
                break
            scale[worse] /= 2
        moved = np.abs(found[0] - value)
        theta = np.where(worse[:, None], theta, trial)
        value, gradient, hessian = _log_likelihood(theta, x, lower, upper, weights)
        if moved.max() < 1e-9:
            break
    sigma = np.where(value < -1e-3, 1 / theta[:, -1], np.nan)
    return theta[:, :-1] * sigma[:, None], sigma


def _log_likelihood(
    theta: np.ndarray, x: np.ndarray, lower: np.ndarray, upper: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Value (B,), gradient (B, p + 1) and Hessian (B, p + 1, p + 1) in (gamma, h)."""
    from scipy.special import ndtr

    eta, h = theta[:, :-1] @ x.T, theta[:, -1:]
    z_upper, z_lower = h * upper - eta, h * lower - eta
    # P = Φ(z_upper) - Φ(z_lower), from the tail in which no digits cancel
    probability = np.where(z_lower > 0, ndtr(-z_lower) - ndtr(-z_upper), ndtr(z_upper) - ndtr(z_lower))
    probability = np.maximum(probability, 1e-300)
    first = np.zeros((*eta.shape, 2))  # derivatives of P in (eta, h)
    second = np.zeros((*eta.shape, 2, 2))
    for bound, z, sign in ((upper, z_upper, 1.0), (lower, z_lower, -1.0)):
        y, z = np.where(np.isfinite(bound), bound, 0.0), np.where(np.isfinite(bound), z, np.inf)
        density = sign * np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)
        curve = -np.where(np.isfinite(z), z, 0.0) * density  # φ'
        first += np.stack([-density, density * y], axis=-1)
        second[..., 0, 0] += curve
        second[..., 0, 1] -= curve * y
        second[..., 1, 1] += curve * y**2
    second[..., 1, 0] = second[..., 0, 1]
    score = first / probability[..., None]
    bend = second / probability[..., None, None] - score[..., :, None] * score[..., None, :]
    design = np.concatenate([x, np.ones((len(x), 1))], axis=1)  # eta's columns are x, h's is its own
    kind = np.append(np.zeros(x.shape[1], dtype=int), 1)
    value = (weights * np.log(probability)).sum(axis=1)
    gradient = np.einsum("bn,bnk,nk->bk", weights, score[..., kind], design)
    hessian = np.einsum("bn,bnkl,nk,nl->bkl", weights, bend[..., kind[:, None], kind], design, design)
    return value, gradient, hessian
