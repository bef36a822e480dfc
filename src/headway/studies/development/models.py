"""The study's six mixed models and two GAMs, and the curves that its figures draw of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from headway.errors import StatisticsError
from headway.studies.development.builder import ResultBuilder
from headway.studies.development.final import layer_maxima
from headway.studies.development.fits import gam_values
from headway.studies.development.mixed import MixedModel, fit_mixed, fixed_line
from headway.studies.development.robust import line_at
from headway.studies.development.seeds import outcomes

_SIZE = {"log10(n_params)": "n_params"}
_BY_SIZE = {
    "onset": MixedModel("log10(m_step)", "m_step", _SIZE, ("seed_name",)),
    "peak": MixedModel("max_attn", "max_attn", _SIZE, ("seed_name",)),
    "slope": MixedModel("estimate", "estimate", _SIZE, ("seed_name",)),
}


def final_models(draft: ResultBuilder) -> None:
    """Adds `lmm.final_layer_by_size`, `lmm.final_depth` and `gam.final_depth` with its curve."""
    score = draft.heads.score.name
    by_layer = MixedModel("max_attention", "max_attention", _SIZE | {"Layer": "Layer"}, ("seed_name",), crossed=True)
    fit_mixed(draft, "lmm.final_layer_by_size", by_layer, layer_maxima(draft.heads).rename({"max_z": "max_attention"}))
    final = draft.heads.final.rename({"value": score})
    depth = MixedModel(score, score, {"prop_layer": "prop_layer"}, ("Head", "model"))
    fit_mixed(draft, "lmm.final_depth", depth, final)
    fit = fit_gam(draft, "gam.final_depth", score, "prop_layer", final, "final_depth_gam")
    if fit is not None:
        draft.tables["final_depth_gam"] = curve(fit, "prop_layer", final["prop_layer"].to_numpy())


def growth_models(draft: ResultBuilder) -> None:
    """Adds `lmm.growth` with its line, and `gam.growth` with its curve."""
    score = draft.heads.score.name
    trajectories = draft.heads.trajectories.rename({"value": score})
    growth = MixedModel(score, score, {"log10(step_modded)": "step_modded"}, ("seed_name", "model"), method="ML")
    log_step = trajectories["log_step"].to_numpy()
    line_fit = fit_mixed(draft, "lmm.growth", growth, trajectories, over_time=True)
    if line_fit is not None:
        x = np.linspace(log_step.min(), log_step.max(), 100)
        line = fixed_line(line_fit, _smallest_df(draft, "growth"), x)
        draft.tables["growth_line"] = line.select(
            pl.Series("log_step", x), pl.Series("step_modded", 10.0**x), "fit", "lower", "upper"
        )
    fit = fit_gam(draft, "gam.growth", score, "log_step", trajectories, "growth_gam")
    if fit is not None:
        drawn = curve(fit, "log_step", log_step)
        draft.tables["growth_gam"] = drawn.insert_column(1, (10.0 ** drawn["log_step"]).alias("step_modded"))


def size_models(draft: ResultBuilder) -> None:
    """Adds `lmm.onset`, `lmm.peak` and `lmm.slope`, and over the sizes the robust lines and those of these models."""
    lines = []
    for outcome, frame in outcomes(draft.tables).items():
        fit = fit_mixed(draft, f"lmm.{outcome}", _BY_SIZE[outcome], frame)
        known = frame.filter(pl.col("n_params") > 0)
        if not known.height:
            continue
        size = np.log10(known["n_params"].to_numpy().astype(float))
        x = np.linspace(size.min(), size.max(), 50)
        drawn = {"robust": line_at(known, x)}
        if fit is not None:
            drawn["published"] = fixed_line(fit, _smallest_df(draft, outcome), x)
        for kind, line in drawn.items():
            if line is not None:
                if outcome == "onset":
                    line = line.select((pl.all() * np.log(10)).exp())  # from log10 of the step to the step
                names = (pl.lit(outcome).alias("outcome"), pl.lit(kind).alias("kind"), pl.Series("n_params", 10**x))
                lines.append(line.select(*names, pl.all()))
    if lines:
        draft.tables["size_lines"] = pl.concat(lines)


def _smallest_df(draft: ResultBuilder, name: str) -> float:
    """The smaller of the coefficients' degrees of freedom: the line's interval is then no narrower than theirs."""
    return min(row["df"] for row in draft.values["lmm"][name]["fixed"].values())


def fit_gam(draft: ResultBuilder, path: str, y: str, x: str, frame: pl.DataFrame, table: str) -> Any | None:
    """Fits `y ~ s(x)` and stores its numbers; x with few values takes fewer basis functions than mgcv's 10.

    There can be no more of them than values of x, and must be fewer than rows. `table` is what holds its curve.
    """
    n_unique = frame[x].n_unique()
    k = min(n_unique, frame.height - 1)

    def fit() -> Any:
        from headway import stats

        if n_unique < 4:
            raise StatisticsError(f"a curve over {x} needs at least 4 different values, and there are {n_unique}")
        return stats.gam(formula, frame)

    formula = f"{y} ~ s({x})" if k >= 10 else f"{y} ~ s({x}, k={k})"
    found = draft.attempt(path, fit, [table])
    if found is not None:
        draft.put(path, gam_values(found, formula) | {"n_distinct": n_unique, "k": min(k, 10)})
        draft.diagnose(path, found)
    return found


def curve(fit: Any, x: str, values: np.ndarray, n: int = 200) -> pl.DataFrame:
    """The fitted curve at `n` places over the range of `values`: x, fit, se, and fit ± 1.96 se."""
    places = pl.DataFrame({x: np.linspace(values.min(), values.max(), n)})
    half = 1.96 * pl.col("se")
    drawn = pl.concat([places, fit.predict(places, se=True)], how="horizontal")
    return drawn.with_columns(lower=pl.col("fit") - half, upper=pl.col("fit") + half)
