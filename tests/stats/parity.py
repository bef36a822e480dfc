"""Runs R live beside headway on random data: `make parity`, or `python tests/stats/parity.py [N [SEED]]`.

Prints the largest difference found in each quantity, and ends with 1 where one is larger than the tests allow. R, lme4,
lmerTest, mgcv and jsonlite are needed for it, and for nothing else.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import support_stats  # noqa: E402
from headway import stats  # noqa: E402

# R takes derivatives numerically and stops where its trust region is 1e-9: see test_lmm.py. Random data reach harder
# corners than the fixtures, such as variances close to 0, where an optimum is flat.
ALLOWED = {"criterion": 1e-6, "log_lik": 1e-6, "aic, bic": 1e-6}
ELSEWHERE = 5e-5

FIXED = ("x", "x + z", "x * f", "log10(n) * x + f", "f + b", "x + I(x^2)")
RANDOM = ("(1 | g)", "(1 | g) + (1 | h)", "(x | g)", "(x || g) + (1 | h)", "(1 | h/f)", "(x | g) + (z | h)")


def random_data(rng: np.random.Generator) -> dict[str, list[Any]]:
    """An unbalanced design with two crossed groups, and variances that may be 0."""
    n, n_g, n_h = int(rng.integers(60, 400)), int(rng.integers(4, 25)), int(rng.integers(4, 10))
    g, h = (np.concatenate([np.arange(k), rng.integers(0, k, n - k)]) for k in (n_g, n_h))
    x, z, f, b = rng.normal(size=n), rng.normal(size=n), rng.integers(0, 3, n), rng.integers(0, 2, n)
    size = 10 ** rng.uniform(6, 9, n)
    sd = rng.choice([0, 0.3, 1, 3], size=4)
    y = 1 + 0.5 * x - 0.3 * (f == 1) + 0.2 * np.log10(size) + sd[0] * rng.normal(size=n_g)[g]
    y += sd[1] * rng.normal(size=n_h)[h] + sd[2] * rng.normal(size=n_g)[g] * x + sd[3] * rng.normal(size=n_h)[h] * z
    y += rng.normal(size=n)
    numbers = {"y": y, "x": x, "z": z, "n": size}
    words = {"g": [f"g{i}" for i in g], "h": [f"h{i}" for i in h], "f": ["uvw"[i] for i in f]}
    return {k: np.round(v, 6).tolist() for k, v in numbers.items()} | words | {"b": [bool(i) for i in b]}


def jobs(n: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    """n random fits of both kinds."""
    out = []
    for _ in range(n):
        data, fixed, random = random_data(rng), rng.choice(FIXED), rng.choice(RANDOM)
        method = str(rng.choice(["REML", "ML"]))
        out.append({"formula": f"y ~ {fixed} + {random}", "method": method, "data": data})
        out.append({"formula": f"y ~ {fixed}", "method": "OLS", "data": data})
    return out


SMOOTHS = (
    "s(x)", "s(x, k=4)", "s(x, k=20)", "s(x, bs='cr')", "s(x) + z", "s(x) + s(z, k=6)", "f + s(x, by=f)",
)  # fmt: skip
# Fits whose scores agree to 1e-7 of it are compared. Near a minimum that leaves all else good to the root of that, 3e-4.
# The sign that decides F is R's to choose: either value is taken.
GAM_ALLOWED = {"score": 1e-7}
GAM_ELSEWHERE = 3e-4


def random_curve(rng: np.random.Generator, n: int) -> dict[str, list[Any]]:
    """A curve, a line or nothing over x that is even, uneven or tied."""
    x = [rng.uniform(size=n), rng.exponential(size=n) / 3, np.round(rng.uniform(size=n), 2)][rng.integers(3)]
    z, f = rng.uniform(size=n), rng.integers(0, 2, n)
    y = [np.sin(6 * x), 2 * x, 0 * x][rng.integers(3)] + rng.choice([0, 0.5]) * f * x + 0.3 * z
    y = y + rng.choice([0.1, 0.5]) * rng.normal(size=n)
    numbers = {name: np.round(values, 6).tolist() for name, values in {"y": y, "x": x, "z": z}.items()}
    return numbers | {"f": ["uv"[i] for i in f]}


def gam_jobs(n: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    """n random fits, and one on more unique x than mgcv takes as knots."""
    sizes = [*rng.integers(60, 300, n), 2600]
    formulas = [*(f"y ~ {rng.choice(SMOOTHS)}" for _ in range(n)), "y ~ s(z)"]
    return [
        {"formula": formula, "method": str(rng.choice(["GCV.Cp", "REML"])), "data": random_curve(rng, int(size))}
        for formula, size in zip(formulas, sizes, strict=True)
    ]


def gam_differences(fit: Any, r: dict[str, Any]) -> dict[str, float]:
    """Relative to R's value; p as it is, fitted values in standard deviations of the noise."""
    pairs = {
        "edf": (fit.smooths["edf"], r["edf"]),
        "ref_df": (fit.smooths["ref_df"], r["ref_df"]),
        "score": (fit.score, r["score"]),
        "scale": (fit.scale, r["scale"]),
    }
    relative = {
        name: np.max(np.abs(np.asarray(ours) / np.asarray(theirs) - 1)) for name, (ours, theirs) in pairs.items()
    }
    p = np.max(np.abs(np.asarray(fit.smooths["p"]) - np.asarray(r["p"])))
    f = max(
        min(abs(ours / theirs - 1) for ours in (test.f, test.f_alternative))
        for test, theirs in zip(fit.smooth_tests, np.atleast_1d(r["f"]), strict=True)
    )
    fitted = np.max(np.abs(np.asarray(fit.fitted) - np.asarray(r["fitted"]))) / r["scale"] ** 0.5
    return {name: float(value) for name, value in {**relative, "f": f, "p": p, "fitted": fitted}.items()}


def compare_gams(tasks: list[dict[str, Any]]) -> bool:
    """Fits every GAM in both; one whose score R has not brought as low is counted, not compared."""
    found: dict[str, tuple[float, str]] = {}
    stopped_short = 0
    for task, r in zip(tasks, ask_r("parity.R", tasks), strict=True):
        fit = stats.gam(task["formula"], support_stats.frame(task["data"]), method=task["method"])
        if r["score"] - fit.score > GAM_ALLOWED["score"] * abs(r["score"]):
            stopped_short += 1
            continue
        for quantity, difference in gam_differences(fit, r).items():
            where = f"{task['formula']} {task['method']}"
            found[quantity] = max(found.get(quantity, (0.0, "")), (difference, where))
    print(f"\n{len(tasks)} GAMs; R stopped above headway's score in {stopped_short}")
    return report("additive models", found, lambda quantity: GAM_ALLOWED.get(quantity, GAM_ELSEWHERE))


# mag ~ s(depth) + s(stations) on R's data `quakes`, by GCV: what gam(…, control = gam.control(mgcv.tol = 1e-12)) of mgcv 1.8-41
# says of mag * 1e4. In other units it stops elsewhere: see docs/statistics.md.
QUAKES_EDF = (8.275472860, 2.678381577)


def compare_quakes() -> bool:
    """Fits R's earthquakes in several units of the response; whether all have the edf of the minimum."""
    write = "write.csv(quakes[, c('mag', 'depth', 'stations')], row.names = FALSE)"
    table = subprocess.run(["Rscript", "-e", write], check=True, capture_output=True).stdout
    data = pl.read_csv(table)
    found: dict[str, tuple[float, str]] = {}
    for unit in (1e-8, 1e-4, 1.0, 1e4, 1e8):
        fit = stats.gam("mag ~ s(depth) + s(stations)", data.with_columns(pl.col("mag") * unit))
        difference = float(np.max(np.abs(fit.smooths["edf"].to_numpy() / QUAKES_EDF - 1)))
        found["edf"] = max(found.get("edf", (0.0, "")), (difference, f"quakes, mag * {unit:g}"))
    return report("earthquakes in any unit", found, lambda _: 1e-7)


def ask_r(script: str, tasks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What an R script beside this one answers to each task."""
    with tempfile.TemporaryDirectory() as folder:
        question, answer = Path(folder, "jobs.json"), Path(folder, "answers.json")
        question.write_text(json.dumps(tasks))
        subprocess.run(["Rscript", str(HERE / "r" / script), str(question), str(answer)], check=True)
        return json.loads(answer.read_text())


def report(title: str, found: dict[str, tuple[float, str]], allowed: Callable[[str], float]) -> bool:
    """Prints the largest differences; whether all are allowed."""
    print(f"\n{title}")
    for quantity, (difference, where) in found.items():
        mark = "" if difference <= allowed(quantity) else "   <- too large"
        print(f"  {quantity:20s} {difference:8.1e}  {where}{mark}")
    return all(difference <= allowed(quantity) for quantity, (difference, _) in found.items())


def compare(tasks: list[dict[str, Any]]) -> bool:
    """Fits every task in both, prints the differences; whether all are allowed."""
    mixed: dict[str, tuple[float, str]] = {}
    linear: dict[str, tuple[float, str]] = {}
    sound, stopped_short = True, 0
    for task, r in zip(tasks, ask_r("parity.R", tasks), strict=True):
        table = support_stats.frame(task["data"])
        where = f"{task['formula']} {task['method']}"
        try:
            if task["method"] == "OLS":
                differences = support_stats.ols_differences(stats.ols(task["formula"], table), r, table)
            else:
                fit = stats.lmm(task["formula"], table, method=task["method"])
                if fit.criterion < r["criterion"] - ALLOWED["criterion"]:
                    stopped_short += 1  # R's optimum is not one: nothing else is comparable
                    continue
                differences = support_stats.lmm_differences(fit, r, table)
        except AssertionError as error:
            print(f"{where}: {error}")
            sound = False
            continue
        worst = linear if task["method"] == "OLS" else mixed
        for quantity, difference in differences.items():
            worst[quantity] = max(worst.get(quantity, (0.0, "")), (difference, where))
    print(f"{len(tasks)} fits; R stopped above headway's criterion in {stopped_short}")
    mixed_sound = report("mixed models", mixed, lambda quantity: ALLOWED.get(quantity, ELSEWHERE))
    return report("least squares", linear, lambda _: 1e-8) and mixed_sound and sound


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("n", nargs="?", type=int, default=40, help="random data sets of each kind")
    parser.add_argument("seed", nargs="?", type=int, default=1)
    asked = parser.parse_args()
    if shutil.which("Rscript") is None:
        print("R is not here: on Debian, apt install r-cran-lmertest r-cran-mgcv r-cran-jsonlite")
        return 1
    sound = compare(jobs(asked.n, np.random.default_rng(asked.seed)))
    sound = compare_gams(gam_jobs(asked.n, np.random.default_rng(asked.seed))) and sound
    sound = compare_quakes() and sound
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(main())
