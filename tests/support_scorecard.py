"""Suites with planted claims: tables in which two roles lie in the same places, in random ones, or have nothing in common."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from types import SimpleNamespace

import numpy as np
import polars as pl

from headway.store.directory import RunDirectory
from headway.studies import Result
from headway.tables import (
    ABLATIONS_COLUMNS,
    COMPOSITIONS_COLUMNS,
    HEADS_COLUMNS,
    PATHS_COLUMNS,
    schema,
    with_stack,
    with_tokens,
)

STEPS = (0, 1, 10, 50, 100, 200, 400, 700, 1000)
LAYERS, HEADS = 6, 4
SIZES = {"1m": (10**6, 6), "4m": (4 * 10**6, 8), "16m": (16 * 10**6, 12)}  # n_params, layers
SAME, ANYWHERE, NOTHING = "same places", "random places", "nothing in common"


@dataclass(frozen=True)
class Run:
    """A run with two roles: where each has its head, and from which step on (None: never)."""

    size: str
    seed: int
    places: dict[str, tuple[int, int]]
    onset: dict[str, int | None]

    @property
    def name(self) -> str:
        return f"toy-{self.size}-seed{self.seed}"

    @property
    def layers(self) -> int:
        return SIZES[self.size][1]

    def keys(self, step: int) -> dict[str, object]:
        n_params, n_layers = SIZES[self.size]
        return {
            "suite": "planted", "run": self.name, "model": f"toy-{self.size}", "size": self.size, "seed": str(self.seed), "step": step,
            "tokens_seen": None, "n_params": n_params, "n_layers": n_layers, "n_heads": HEADS,
        }  # fmt: skip


def suite(kind: str, random: np.random.Generator, *, seeds: int = 8, sizes: tuple[str, ...] = ("1m",)) -> list[Run]:
    """The runs of a suite of one of the three kinds."""
    return [_run(kind, random, size, seed) for size, seed in product(sizes, range(seeds))]


def _run(kind: str, random: np.random.Generator, size: str, seed: int) -> Run:
    n_layers = SIZES[size][1]
    first, second = sorted(random.choice(n_layers, 2, replace=False).tolist())
    places = {"prev": (first, int(random.integers(HEADS))), "induction": (second, int(random.integers(HEADS)))}
    onset: dict[str, int | None] = {"prev": 100, "induction": 400}
    if kind == SAME:
        places = {"prev": (n_layers // 3, 1), "induction": (2 * n_layers // 3, 2)}
    if kind == NOTHING:
        onset = {score: int(random.choice(STEPS[1:])) if random.random() < 0.6 else None for score in places}
    return Run(size, seed, places, onset)


def heads(runs: list[Run], random: np.random.Generator, *, spread: float = 0.01) -> pl.DataFrame:
    """The table of heads: 0.1 with some spread, and 0.8 where a role is."""
    parts = []
    for run, step in product(runs, STEPS):
        layer, head = (axis.ravel() for axis in np.indices((run.layers, HEADS)))
        part = {"layer": layer, "head": head}
        for score, (at, number) in run.places.items():
            value = 0.1 + random.normal(0, spread, len(layer))
            onset = run.onset[score]
            if onset is not None and step >= onset:
                value[(layer == at) & (head == number)] = 0.8
            part[score] = value
        parts.append(pl.DataFrame(part).with_columns(**{name: pl.lit(value) for name, value in run.keys(step).items()}))
    types = schema(HEADS_COLUMNS)
    whole = with_stack(with_tokens(pl.concat(parts)))
    return whole.select(*(pl.col(name).cast(dtype) for name, dtype in types.items()), "prev", "induction")


def compositions(runs: list[Run], random: np.random.Generator, *, planted: bool = True) -> pl.DataFrame:
    """K-composition of the two roles' heads; without it, as many edges between any heads."""
    rows = []
    for run in runs:
        pairs = [
            (kind, *writes, *reads)
            for kind in "qkv"
            for writes in product(range(run.layers), range(HEADS))
            for reads in product(range(run.layers), range(HEADS))
            if writes[0] < reads[0]
        ]
        (edges,) = ([("k", *run.places["prev"], *run.places["induction"])],)
        if not planted:
            edges = [pairs[int(random.integers(len(pairs)))]]
        for pair in pairs:
            z = 20.0 if pair in edges else float(random.normal())
            row = dict(zip(("kind", "from_layer", "from_head", "layer", "head"), pair, strict=True))
            rows.append(run.keys(STEPS[-1]) | row | {"composition": 0.1 + z / 100, "chance": 0.1, "excess": z / 100, "z": z,
                                                    "p": 0.0 if z > 10 else 0.5, "p_holm": 0.0 if z > 10 else 1.0})  # fmt: skip
    return pl.DataFrame(rows, schema=schema(COMPOSITIONS_COLUMNS))


def ablations(
    runs: list[Run], random: np.random.Generator, *, planted: bool = True, controls: int = 20
) -> pl.DataFrame:
    """The accuracy on repeats without the induction heads, which cost more than all random heads if `planted`."""
    rows = []
    for run in runs:
        rank = controls if planted else int(random.integers(controls + 1))
        rows.append(run.keys(STEPS[-1]) | {
            "group": "role=induction at last", "dose": 1, "heads": "L4H2", "operation": "mean", "effect": "repeat_accuracy",
            "higher_is_better": True, "before": 0.9, "after": 0.2, "change": -0.7, "control": "same layers", "n_controls": controls,
            "control_low": -0.1, "control_median": 0.0, "control_high": 0.1, "percentile": 100 * rank / controls,
            "p": (controls - rank + 1) / (controls + 1),
        })  # fmt: skip
    return pl.DataFrame(rows, schema=schema(ABLATIONS_COLUMNS))


def paths(runs: list[Run], random: np.random.Generator, *, planted: bool = True, controls: int = 3) -> pl.DataFrame:
    """What the induction score loses without the previous-token head in its keys."""
    rows = []
    for run in runs:
        rank = controls if planted else int(random.integers(controls + 1))
        ends = dict(
            zip(("from_layer", "from_head", "layer", "head"), run.places["prev"] + run.places["induction"], strict=True)
        )
        rows.append(run.keys(STEPS[-1]) | ends | {
            "senders": "role=previous-token", "receivers": "role=induction", "input": "k", "replaced_by": "mean", "effect": "induction",
            "before": 0.8, "after": 0.1, "change": -0.7, "n_texts": 8, "n_controls": controls, "control_low": 0.0, "control_median": 0.0,
            "control_high": 0.0, "p": (controls - rank + 1) / (controls + 1),
        })  # fmt: skip
    return pl.DataFrame(rows, schema=schema(PATHS_COLUMNS))


def configuration(runs: list[Run], random: np.random.Generator, *, planted: bool = True) -> Result:
    """As the study of configuration saves it: accuracies near 1, or near chance."""
    accuracy = random.normal(0.95 if planted else 0.5, 0.03, len(runs)).clip(0, 1)
    rows = [
        {"role": "induction", "size": run.size, "run": run.name, "balanced_accuracy": float(value), "chance": 0.5}
        for run, value in zip(runs, accuracy, strict=True)
    ]
    return Result("configuration", "heads", tables={"configuration_runs": pl.DataFrame(rows)})


def tables(kind: str, seed: int = 0, **given) -> tuple[dict[str, pl.DataFrame], Result]:
    """All tables of a suite, and the result of the study of configuration."""
    random = np.random.default_rng(seed)
    runs, planted = suite(kind, random, **given), kind != NOTHING
    made = {
        "heads": heads(runs, random),
        "compositions": compositions(runs, random, planted=planted),
        "ablations": ablations(runs, random, planted=planted),
        "paths": paths(runs, random, planted=planted),
    }
    return made, configuration(runs, random, planted=planted)


def in_memory(path, kind: str, seed: int = 0, **given):
    """A run directory whose tables need not lie in files."""
    made, configured = tables(kind, seed, **given)
    held = SimpleNamespace(
        path=path,
        analysis=path / "analysis",
        read=made.__getitem__,
        tables=lambda: list(made),
        columns=lambda name: made[name].columns,
    )
    configured.save(held)
    return held


def run_directory(path, kind: str, seed: int = 0, **given) -> RunDirectory:
    """A run directory with all tables of a suite, in files."""
    rundir = RunDirectory(path)
    made, configured = tables(kind, seed, **given)
    for name, table in made.items():
        for (run, step), part in table.group_by("run", "step", maintain_order=True):
            rundir.write_partition(name, str(run), int(step), part, {})
    with rundir.changing_manifest():
        pass
    configured.save(rundir)
    return rundir
