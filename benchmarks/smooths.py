"""Coverage of bands, and planted autocorrelation: `python benchmarks/smooths.py`.

The first rows are the share of sets in which a band at 95% holds the whole planted curve, or its whole derivative. The
others are the mean and the standard deviation of the autocorrelation that additive models find.
"""

from collections.abc import Iterator

import numpy as np
import polars as pl

from headway import stats
from table import Row, main

CURVES = {
    "one wave": (lambda x: np.sin(2 * np.pi * x), lambda x: 2 * np.pi * np.cos(2 * np.pi * x)),
    "a rise": (lambda x: 1 / (1 + np.exp(-12 * (x - 0.5))), lambda x: 12 / (2 + 2 * np.cosh(12 * (x - 0.5)))),
    "a line": (lambda x: x, np.ones_like),
}
GRID = np.linspace(0.01, 0.99, 99)


def holds(band: pl.DataFrame, truth: np.ndarray) -> bool:
    """Whether a band holds the truth everywhere."""
    return bool(np.all((band["lower"].to_numpy() <= truth) & (truth <= band["upper"].to_numpy())))


def covered(curve: str, n: int, seed: int) -> Iterator[bool]:
    """Whether the simultaneous band, the pointwise one and the simultaneous one of the derivative hold their truths."""
    rng = np.random.default_rng(seed)
    value, slope = CURVES[curve]
    x, grid = rng.uniform(size=n), pl.DataFrame({"x": GRID})
    data = pl.DataFrame({"x": x, "y": value(x) + rng.normal(0, 0.4, n)})
    fit = stats.gam("y ~ s(x)", data, method="REML")
    yield holds(fit.interval(grid, n_draws=4000), value(GRID))
    yield holds(fit.interval(grid, simultaneous=False), value(GRID))
    yield holds(fit.derivative(grid, "s(x)", simultaneous=True, n_draws=4000), slope(GRID))


def runs_with(rho: float, n_runs: int, seed: int, n_steps: int = 40) -> pl.DataFrame:
    """Runs around a sine, with errors of autocorrelation `rho`."""
    rng, parts, steps = np.random.default_rng(seed), [], np.arange(n_steps)
    for run in range(n_runs):
        errors = rng.normal(size=n_steps)
        for t in steps[1:]:
            errors[t] = rho * errors[t - 1] + np.sqrt(1 - rho**2) * errors[t]
        y = np.sin(steps / 8) + rng.normal(0, 0.5) + 0.4 * errors
        parts.append(pl.DataFrame({"run": f"r{run}", "step": steps, "start": steps == 0, "y": y}))
    return pl.concat(parts)


def found_rho(data: pl.DataFrame, way: str) -> float:
    """The autocorrelation that a model of `data` finds in one `way`."""
    formula = "y ~ s(step)" + (" + s(run, bs='re')" if data["run"].n_unique() > 1 else "")
    return stats.gam(formula, data, method="REML", rho=way, ar_start="start").rho


def rows(quick: bool = False) -> Iterator[Row]:
    n_sets = 2 if quick else 500
    for curve in CURVES:
        for n in (40,) if quick else (40, 100, 400):
            shares = np.mean([list(covered(curve, n, seed)) for seed in range(n_sets)], axis=0)
            for share, band in zip(
                shares, ("simultaneous band", "pointwise band", "band of the derivative"), strict=True
            ):
                aim = "" if band == "pointwise band" else "95%"
                yield Row(f"{band} at 95%, {curve}, {n} rows", f"{share:.1%} hold all", f"{n_sets} sets", aim)
    n_sets = 1 if quick else n_sets // 10
    for n_runs in (1, 6):
        for rho in (0.5,) if quick else (0.0, 0.5, 0.8):
            sets = [runs_with(rho, n_runs, seed) for seed in range(n_sets)]
            for way in ("estimate", "REML"):
                cell = [found_rho(data, way) for data in sets]
                work = f"autocorrelation by {way!r}, {n_runs} runs of 40 steps"
                yield Row(work, f"{np.mean(cell):.2f} (sd {np.std(cell):.2f})", f"{n_sets} sets", f"{rho}")


if __name__ == "__main__":
    main(rows, __doc__)
