"""Every model of the published study of previous-token attention, beside R: `python benchmarks/published_fits.py`.

It reads the study's table of heads, pythia_1back/pythia_heads.csv.gz in the folder HEADWAY_REFERENCE. A row per analysis: the median
time of fit and summary of R over that of headway, in turns, and the largest relative difference between their estimates
(the coefficients, and the effective degrees of freedom of curves).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # one core for both: R's reference BLAS uses no more
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import polars as pl

import headway
import published
from headway import stats, sweep
from headway.store import RunDirectory
from headway.studies.result import Result
from table import ABSENT, Row, main, reference

ROUNDS = 5


@dataclass(frozen=True)
class Analysis:
    """One model, or one for each value of `by`; `method` is REML, ML, GCV or OLS."""

    name: str
    method: str
    formula: str
    data: pl.DataFrame
    by: str | None = None


def analyses(heads: Path | None) -> list[Analysis]:
    """The study's models with the rows that they take; those of a made-up table if there is none."""
    with tempfile.TemporaryDirectory() as folder:
        if heads is None:
            made = published.made_up(9, 6, 2, 2)
            sweep.store(made, "heads", RunDirectory(folder), identity={"suite": "toy"})
        else:
            headway.import_heads([heads], out=folder)
        result = headway.analyze(folder, studies=["development"], bootstraps=0)["development/prev_self_ratio"]
    tables = _with_seeds(result)
    run = "log10(n_params) + (1 | seed_name)"
    layers = tables["final_layer_seed"].rename({"max_z": "max_attention"})
    pairs = tables["correlations"].filter(~pl.col("same_run"))
    return [
        Analysis("final layers by size", "REML", "max_attention ~ log10(n_params) * Layer + (1 | seed_name)", layers),
        Analysis(
            "final heads by depth", "REML", "value ~ prop_layer + (1 | Head) + (1 | model)", tables["final_heads"]
        ),
        Analysis("final heads by depth, curve", "GCV", "value ~ s(prop_layer, k=10)", tables["final_heads"]),
        Analysis("growth", "ML", "value ~ log_step + (1 | seed_name) + (1 | model)", tables["trajectories"]),
        Analysis("growth, curve", "GCV", "value ~ s(log_step, k=10)", tables["trajectories"]),
        Analysis("onset by size", "REML", f"log10(m_step) ~ {run}", tables["onset"].drop_nulls("m_step")),
        Analysis("peak by size", "REML", f"max_attn ~ {run}", tables["peaks"].drop_nulls("max_attn")),
        Analysis("slope by size", "REML", f"estimate ~ {run}", tables["slopes"].drop_nulls("estimate")),
        Analysis("emergence, a curve a run", "GCV", "value ~ s(log_step, k=10)", tables["trajectories"], by="run"),
        Analysis("correlations", "OLS", "cor ~ same_model + log10(n_params1) + log10(n_params2)", pairs),
    ]


def _with_seeds(result: Result) -> dict[str, pl.DataFrame]:
    return {
        name: table.with_columns(seed_name="seed" + pl.col("seed")) if "seed" in table.columns else table
        for name, table in result.tables.items()
    }


def ours(one: Analysis) -> tuple[float, np.ndarray]:
    """Seconds of fit and summary, and the estimates."""
    parts = [one.data] if one.by is None else [part for _, part in one.data.group_by(one.by, maintain_order=True)]
    start = time.perf_counter()
    fits = [_fit(one, part) for part in parts]
    seconds = time.perf_counter() - start
    return seconds, np.concatenate([_estimates(fit) for fit in fits])


def _fit(one: Analysis, data: pl.DataFrame) -> Any:
    if one.method == "GCV":
        fit: Any = stats.gam(one.formula, data)
    elif one.method == "OLS":
        fit = stats.ols(one.formula, data)
    else:
        fit = stats.lmm(one.formula, data, method=one.method)
    fit.summary()
    return fit


def _estimates(fit: Any) -> np.ndarray:
    if hasattr(fit, "smooths"):
        return np.concatenate([fit.parametric["estimate"].to_numpy(), fit.smooths["edf"].to_numpy()])
    table = fit.fixed if hasattr(fit, "fixed") else fit.coefficients
    return np.asarray(table["estimate"].to_numpy())


def theirs(models: list[Analysis]) -> list[dict[str, Any]]:
    """R's seconds and estimates, in one process whose start is not counted; empty without R."""
    if shutil.which("Rscript") is None:
        return []
    with tempfile.TemporaryDirectory() as folder:
        cases = []
        for number, one in enumerate(models):
            file = Path(folder, f"{number}.csv")
            one.data.write_csv(file)
            cases.append({"method": one.method, "formula": one.formula, "by": one.by, "file": str(file)})
        question, answer = Path(folder, "cases.json"), Path(folder, "answers.json")
        question.write_text(json.dumps(cases))
        subprocess.run(["Rscript", str(Path(__file__).with_suffix(".R")), str(question), str(answer)], check=True)
        return list(json.loads(answer.read_text()))


def rows(quick: bool = False) -> Iterator[Row]:
    heads, n_rounds = reference("pythia_1back/pythia_heads.csv.gz"), ROUNDS
    if quick:
        heads, n_rounds = None, 1
    elif heads is None:
        yield Row("every model of the published study", "", "R: times faster", "", ABSENT)
        return
    models = analyses(heads)[: 1 if quick else None]
    for one in models:
        ours(one)  # imports
    turns = [([ours(one) for one in models], theirs(models)) for _ in range(n_rounds)]
    totals = np.zeros(2)
    for place, one in enumerate(models):
        mine = 1000 * float(np.median([of[place][0] for of, _ in turns]))
        fits = f"{one.data[one.by].n_unique()} fits" if one.by else "1 fit"
        work = f"published study: {one.name}, {one.data.height:,} rows, {fits}"
        if not turns[0][1]:
            yield Row(work, f"{mine:.1f} ms", "R is absent")
            continue
        r = 1000 * float(np.median([of[place]["seconds"] for _, of in turns]))
        estimates, theirs_ = turns[0][0][place][1], np.array(turns[0][1][place]["estimates"])
        difference = np.max(np.abs(estimates - theirs_) / np.abs(theirs_))
        totals += mine, r
        note = f"{mine:.1f} ms against {r:.0f} ms; estimates differ by {difference:.0e} at most"
        yield Row(work, f"{r / mine:.1f}", "R: times faster", "", note)
    if totals[0]:
        note = f"{totals[0]:.0f} ms against {totals[1]:.0f} ms"
        yield Row("published study: all models", f"{totals[1] / totals[0]:.1f}", "R: times faster", "", note)


if __name__ == "__main__":
    main(rows, __doc__)
