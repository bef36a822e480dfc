"""Run directories of several suites, with planted onsets."""

from __future__ import annotations

import numpy as np
import polars as pl

from headway.store.directory import RunDirectory, fingerprint
from headway.store.manifest import TableRecord
from headway.store.suite_folders import of_suite
from support_roles import table

STEPS = (0, 2, 4, 8, 16, 32, 64, 128)


def onsets(middle: float, scatter: float = 0.3):
    """The induction heads of a run arise about `middle`, those of previous tokens at half of it."""

    def onset(size, run, score):
        at = middle * np.exp(scatter * np.random.default_rng([run, 7]).normal())
        return at if score == "induction" else at / 2

    return onset


def put(home: RunDirectory, name: str, frame: pl.DataFrame, **identity: object) -> RunDirectory:
    """Store a heads table as that of one suite, with the settings that a sweep would state."""
    place = of_suite(home, name, ["heads"])
    own = {"suite": name, "corpus": {"name": "texts", "sha256": "c0ffee"}, **identity}
    with place.changing_manifest() as manifest:
        manifest.tables["heads"] = TableRecord(
            own, [], sources={run: f"/{name}/{run}" for run in frame["run"].unique()}
        )
    parts = {(str(run), int(step)): part for (run, step), part in frame.group_by("run", "step", maintain_order=True)}
    place.write_partitions("heads", parts, {"job": fingerprint(own)})
    return place


def heads(
    middle: float, tokens: int | None, *, runs: int = 6, seed: int = 0, sizes: tuple[str, ...] = ("1m",)
) -> pl.DataFrame:
    frame = table(onsets(middle), runs=runs, steps=STEPS, seed=seed, sizes=sizes)
    return frame.with_columns(tokens_seen=pl.col("step") * tokens if tokens else pl.lit(None, pl.Int64))
