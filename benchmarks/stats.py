"""Fit and summary, beside R: `python benchmarks/stats.py`.

The rows are medians. Rounds of headway and of R take turns, so that both see the same busy machine. Where
R is absent its columns stay empty.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # one core for both: R's reference BLAS uses no more
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import polars as pl

from headway import stats
from table import Row, main

ROUNDS = 3


@dataclass(frozen=True)
class Case:
    """One fit; `kind` is "lmm" or "gam". R is left out where it would take minutes."""

    name: str
    kind: str
    formula: str
    data: pl.DataFrame
    reml: bool = True
    repeats: int = 10
    in_r: bool = True


def _effects(rng: np.random.Generator, groups: np.ndarray, sd: float) -> np.ndarray:
    return sd * rng.normal(size=groups.max() + 1)[groups]


def _runs(n_steps: int, rng: np.random.Generator) -> pl.DataFrame:
    """4 sizes × 9 seeds × steps."""
    model, seed, step = (
        a.ravel() for a in np.meshgrid(np.arange(4), np.arange(9), np.arange(1, n_steps + 1), indexing="ij")
    )
    size = 10 ** np.array([7.1, 7.8, 8.2, 8.6])[model]
    y = np.log10(step) + 0.3 * np.log10(size) + _effects(rng, model, 0.4) + _effects(rng, seed, 0.1)
    return pl.DataFrame({"y": y + rng.normal(size=len(y)), "size": size, "step": step, "model": model, "seed": seed})


def _crossed(n: int, n_a: int, n_b: int, rng: np.random.Generator) -> pl.DataFrame:
    a, b, x = rng.integers(0, n_a, n), rng.integers(0, n_b, n), rng.normal(size=n)
    y = 1 + 0.5 * x + _effects(rng, a, 0.7) + _effects(rng, a, 0.3) * x + _effects(rng, b, 0.5) + rng.normal(size=n)
    return pl.DataFrame({"y": y, "x": x, "a": [f"a{i}" for i in a], "b": [f"b{i}" for i in b]})


def _curve(n: int, rng: np.random.Generator) -> pl.DataFrame:
    x = rng.uniform(size=n)
    return pl.DataFrame({"x": x, "y": np.sin(6 * x) + 0.3 * rng.normal(size=n)})


def cases() -> list[Case]:
    """What is timed."""
    rng = np.random.default_rng(7)
    onset, growth = _runs(1, rng), _runs(16, rng)
    depth, slopes = _crossed(5400, 16, 4, rng), _crossed(2000, 300, 20, rng)
    huge = _crossed(100_000, 1000, 1000, rng)
    run, grid, many = _curve(16, rng), growth.with_columns(x=pl.col("step").log10()), _curve(5400, rng)
    return [
        Case("GAM, 16 rows, k = 10, GCV", "gam", "y ~ s(x, k=10)", run, reml=False),
        Case("GAM, 576 rows of 16 steps, GCV", "gam", "y ~ s(x)", grid, reml=False),
        Case("GAM, 5,400 rows, REML", "gam", "y ~ s(x)", many, repeats=5),
        Case("36 rows, 1 group", "lmm", "y ~ log10(size) + (1 | seed)", onset),
        Case("576 rows, 2 crossed groups, ML", "lmm", "y ~ log10(step) + (1 | seed) + (1 | model)", growth, reml=False),
        Case("5,400 rows, 2 crossed groups", "lmm", "y ~ x + (1 | a) + (1 | b)", depth),
        Case("2,000 rows, slopes in 300 groups, 20 crossed", "lmm", "y ~ x + (x | a) + (1 | b)", slopes, repeats=5),
        Case("100,000 rows, 1,000 × 1,000 crossed", "lmm", "y ~ x + (1 | a) + (1 | b)", huge, repeats=1, in_r=False),
    ]


FIT: dict[str, Callable[[Case], Any]] = {
    "gam": lambda case: stats.gam(case.formula, case.data, method="REML" if case.reml else "GCV.Cp").summary(),
    "lmm": lambda case: stats.lmm(case.formula, case.data, method="REML" if case.reml else "ML").summary(),
}


def ours(case: Case) -> list[float]:
    """Seconds of each repetition of fit and summary."""
    seconds = []
    for _ in range(case.repeats):
        start = time.perf_counter()
        FIT[case.kind](case)
        seconds.append(time.perf_counter() - start)
    return seconds


def theirs(all_cases: list[Case]) -> list[list[float]]:
    """The same of R, all cases in one process whose start is not counted; empty where there is no R."""
    if shutil.which("Rscript") is None:
        return [[] for _ in all_cases]
    asked = [case for case in all_cases if case.in_r]
    with tempfile.TemporaryDirectory() as folder:
        tasks = []
        for number, case in enumerate(asked):
            file = Path(folder, f"{number}.csv")
            case.data.write_csv(file)
            task = {"kind": case.kind, "formula": case.formula, "reml": case.reml, "repeats": case.repeats}
            tasks.append(task | {"file": str(file)})
        question, answer = Path(folder, "cases.json"), Path(folder, "times.json")
        question.write_text(json.dumps(tasks))
        subprocess.run(["Rscript", str(Path(__file__).with_suffix(".R")), str(question), str(answer)], check=True)
        times = iter(json.loads(answer.read_text()))
    return [next(times) if case.in_r else [] for case in all_cases]


def import_seconds() -> float:
    """A fresh interpreter's `import headway.stats`, less its start; the best of five."""
    code = "import time; t = time.perf_counter(); import headway.stats; print(time.perf_counter() - t)"
    runs = (subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(5))
    return min(float(run.stdout) for run in runs)


def rows(quick: bool = False) -> Iterator[Row]:
    all_cases, n_rounds = (cases()[:1], 1) if quick else (cases(), ROUNDS)
    for case in all_cases:
        FIT[case.kind](Case(case.name, case.kind, case.formula, case.data.head(2000), case.reml))  # imports
    mine: list[list[float]] = [[] for _ in all_cases]
    rs: list[list[float]] = [[] for _ in all_cases]
    for _ in range(n_rounds):
        for times, case in zip(mine, all_cases, strict=True):
            times += ours(case)
        for times, more in zip(rs, theirs(all_cases), strict=True):
            times += more
    for case, a, b in zip(all_cases, mine, rs, strict=True):
        median = 1000 * float(np.median(a))
        r = 1000 * float(np.median(b)) if b else None
        work = f"fit and summary, {case.name}"
        yield (
            Row(work, f"{r / median:.1f}", "R: times faster", "", f"{median:.1f} ms against {r:.0f} ms")
            if r
            else Row(work, f"{median:.1f} ms", "R is absent, or would take minutes")
        )
    if not quick:
        yield Row("import headway.stats", f"{import_seconds():.2f} s", "", "at most 0.5 s")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    yield Row("peak memory of all of headway's fits", f"{peak:.2f} GiB")


if __name__ == "__main__":
    main(rows, __doc__)
