"""The cost of one partition as a sweep grows: `python benchmarks/partitions.py`.

Writes the tables of 100, 1,000 and 10,000 checkpoints into run directories whose manifests name them all, with a commit
each. The time to write a partition, to record a failure, and to read a partition's metadata must not grow with their number.
The floor of writing is one `fsync`, which is measured beside it.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl

from headway.store.directory import RunDirectory
from headway.sweep.run import claim
from table import Row, main

SIZES = (100, 1_000, 10_000)
FAILURES = 200
HEADS = pl.DataFrame({"head": range(72), "prev": [0.5] * 72})


def milliseconds(work: Callable[[int], object], n: int) -> float:
    """Of each of `n` calls."""
    start = time.perf_counter()
    for number in range(n):
        work(number)
    return 1e3 * (time.perf_counter() - start) / n


def costs(folder: Path, n: int) -> list[float]:
    directory, keys = RunDirectory(folder), [f"run@{step}" for step in range(n)]
    claim(
        "heads",
        {"corpus": "texts"},
        keys,
        directory,
        {"commits": dict.fromkeys(keys, "0" * 40)},
        force=False,
        computes=True,
    )
    job = directory.claimed("heads")

    def sync(number: int) -> None:
        with (folder / f"sync{number}").open("wb") as file:
            file.write(bytes(4096))
            file.flush()
            os.fsync(file.fileno())

    failure = {"table": "heads", "job": job, "checkpoint": "other@0", "error": "there is no such revision"}
    return [
        milliseconds(sync, min(n, 1_000)),
        milliseconds(lambda step: directory.write_partition("heads", "run", step, HEADS, {"job": job}), n),
        milliseconds(lambda _: directory.add_failure(failure), FAILURES),
        milliseconds(lambda _: directory.jobs("heads"), 1) / n,
    ]


def rows(quick: bool = False) -> Iterator[Row]:
    for n in (20,) if quick else SIZES:
        with tempfile.TemporaryDirectory() as folder:
            sync, *found = costs(Path(folder), n)
        for what, cost in zip(
            ("write a partition", "record a failure", "read a partition's metadata"), found, strict=True
        ):
            yield Row(
                f"{what}, {n:,} partitions", f"{cost:.2f} ms", "", "the same for any number", f"fsync {sync:.2f} ms"
            )


if __name__ == "__main__":
    main(rows, __doc__)
