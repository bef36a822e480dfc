"""Whole commands on the published rows, and on many partitions: `python benchmarks/published.py`.

Seconds of the command line, each in a process of its own: import, analyze with default bootstraps, report; then status, analyze
without bootstraps and report of 10,000 partitions, and the memory of analysing 2 million rows.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl

from headway import sweep
from headway.store import RunDirectory
from headway.tables import HEADS_COLUMNS, schema, with_stack, with_tokens
from table import ABSENT, Row, main, reference


def headway(*words: object) -> tuple[float, float]:
    """Seconds of a command, and the most memory that it held, in GiB."""
    code = (
        "import resource, sys; from headway import cli\n"
        "try: cli.main()\n"
        "finally: print('PEAK', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)"
    )
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code, *map(str, words)], check=True, capture_output=True, text=True)
    took = time.perf_counter() - start
    peak = int(done.stderr.rpartition("PEAK")[2].split()[0])
    return took, peak / 2**20


def made_up(n_runs: int, n_steps: int, n_layers: int, n_heads: int) -> pl.DataFrame:
    """A heads table: runs of three sizes in which the score of one head rises."""
    rng, steps = np.random.default_rng(0), np.unique(np.geomspace(1, 143_000, n_steps).astype(int))
    heads = pl.DataFrame({"layer": np.arange(n_layers)}).join(pl.DataFrame({"head": np.arange(n_heads)}), how="cross")
    runs = pl.DataFrame(
        {
            "run": [f"toy-{size}-seed{seed}" for size in ("1m", "10m", "100m") for seed in range(n_runs // 3)],
            "model": [f"toy-{size}" for size in ("1m", "10m", "100m") for _ in range(n_runs // 3)],
            "size": [size for size in ("1m", "10m", "100m") for _ in range(n_runs // 3)],
            "seed": [str(seed) for _ in range(3) for seed in range(n_runs // 3)],
            "n_params": [n for n in (10**6, 10**7, 10**8) for _ in range(n_runs // 3)],
        }
    )
    frame = runs.join(pl.DataFrame({"step": steps}), how="cross").join(heads, how="cross")
    rise = (1 / (1 + (1000 / pl.col("step")) ** 2)) * ((pl.col("layer") == 1) & (pl.col("head") == 0))
    noise = pl.Series(rng.normal(0, 0.02, frame.height))
    frame = frame.with_columns(
        suite=pl.lit("toy"), n_layers=pl.lit(n_layers), n_heads=pl.lit(n_heads), prev_self_ratio=0.8 + 3 * rise + noise
    )
    types = {**schema(HEADS_COLUMNS), "prev_self_ratio": pl.Float64()}
    return with_stack(with_tokens(frame)).select(pl.col(name).cast(dtype) for name, dtype in types.items())


def rows(quick: bool = False) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as place:
        if not quick:
            yield from of_published(Path(place) / "published")
        shape = (3, 4, 2, 2) if quick else (99, 105, 2, 4)
        yield from of_partitions(Path(place) / "partitions", made_up(*shape))
        if not quick:
            yield from of_rows(Path(place) / "rows", made_up(36, 154, 24, 16))


def of_published(out: Path) -> Iterator[Row]:
    heads = reference("pythia_1back/pythia_heads.csv.gz")
    if heads is None:
        yield Row("published rows: import, analyze, report", "", "", "", ABSENT)
        return
    for words, aim in (
        (("import-heads", heads, "--out", out), "2 s"),
        (("analyze", out), "5 s"),
        (("report", out, "--figures", "no"), "5 s"),
        (("report", out), ""),
    ):
        name = " ".join(str(word) for word in words if word not in (heads, out, "--out"))
        yield Row(f"published rows, 86,400: {name}", f"{headway(*words)[0]:.1f} s", "", aim)


def of_partitions(out: Path, frame: pl.DataFrame) -> Iterator[Row]:
    sweep.store(frame, "heads", RunDirectory(out), identity={"suite": "toy"})
    n = frame.select("run", "step").n_unique()
    for words, aim in (
        (("status", out), "1 s"),
        (("analyze", out, "--bootstraps", 0, "--study", "development"), "10 s"),
        (("report", out, "--figures", "no"), "10 s"),
    ):
        yield Row(f"{n:,} partitions: {words[0]}", f"{headway(*words)[0]:.1f} s", "", aim)


def of_rows(out: Path, frame: pl.DataFrame) -> Iterator[Row]:
    sweep.store(frame, "heads", RunDirectory(out), identity={"suite": "toy"})
    took, peak = headway("analyze", out, "--bootstraps", 0, "--study", "development")
    yield Row(f"{frame.height:,} rows: memory of analyze", f"{peak:.2f} GiB", "", "1 GiB", f"{took:.1f} s")


if __name__ == "__main__":
    main(rows, __doc__)
