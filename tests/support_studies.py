"""Heads tables with a known answer, for the tests of the studies."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl

from headway.store.directory import RunDirectory
from headway.studies import Finding
from headway.tables import HEADS_COLUMNS, schema, with_stack, with_tokens

SIZES = {"3m": (3_000_000, 3, 5), "11m": (11_000_000, 5, 7), "37m": (37_000_000, 7, 2)}  # n_params, layers, heads
STEPS = (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000)

Value = Callable[[str, int, int, np.ndarray, np.ndarray], np.ndarray]


def rise(size: str, seed: int, step: int, layer: np.ndarray, head: np.ndarray) -> np.ndarray:
    """Head 1 of layer 1 rises from 1 to 4 around a step that larger sizes reach sooner; the others stay near 1."""
    middle = {"3m": 2.2, "11m": 1.7, "37m": 1.2}[size] + 0.05 * (seed - 2)
    noise = np.random.default_rng([seed, step, len(layer)]).normal(0, 0.02, len(layer))
    risen = 3 / (1 + np.exp(-6 * (np.log10(step + 1) - middle)))
    return 1 + noise + np.where((layer == 1) & (head == 1), risen, 0)


def heads_table(
    value: Value = rise,
    *,
    sizes: tuple[str, ...] = tuple(SIZES),
    seeds: tuple[int, ...] = (1, 2, 3),
    steps: tuple[int, ...] = STEPS,
    score: str = "prev_self_ratio",
) -> pl.DataFrame:
    """A full grid of `value(size, seed, step, layers, heads)` in the columns of a heads table."""
    parts = [_checkpoint(size, seed, step, value, score) for size in sizes for seed in seeds for step in steps]
    types = schema(HEADS_COLUMNS)
    return with_stack(with_tokens(pl.concat(parts))).select(
        *(pl.col(name).cast(dtype) for name, dtype in types.items()), score
    )


def _checkpoint(size: str, seed: int, step: int, value: Value, score: str) -> pl.DataFrame:
    n_params, n_layers, n_heads = SIZES[size]
    layer, head = (axis.ravel() for axis in np.indices((n_layers, n_heads)))
    return pl.DataFrame({"layer": layer, "head": head, score: value(size, seed, step, layer, head)}).with_columns(
        suite=pl.lit("planted"),
        run=pl.lit(f"toy-{size}-seed{seed}"),
        model=pl.lit(f"toy-{size}"),
        size=pl.lit(size),
        seed=pl.lit(str(seed)),
        step=step,
        n_params=n_params,
        n_layers=n_layers,
        n_heads=n_heads,
    )


def write_heads(rundir: RunDirectory, table: pl.DataFrame) -> RunDirectory:
    """`table` as the parts of a run directory."""
    for (run, step), part in table.group_by("run", "step", maintain_order=True):
        rundir.write_partition("heads", str(run), int(step), part, {})
    return rundir


def too_long(findings: list[Finding], most: int = 25) -> list[str]:
    """Sentences of more than `most` words, and answers of more than one sentence."""
    several = [finding.answer for finding in findings if finding.key and len(split(finding.answer)) > 1]
    return several + [text for finding in findings for text in split(finding.text) if len(text.split()) > most]


def split(text: str) -> list[str]:
    """The sentences of a text; a number with a point is none, since no space follows the point."""
    return re.split(r"(?<=[.?!])\s+(?=[A-Z0-9])", text)


def undocumented(tables: dict[str, pl.DataFrame], page: str) -> dict[str, list[str]]:
    """The tables, and the columns of each, that a page of docs does not name in its lines of tables."""
    words = Path(__file__).parents[1].joinpath("docs", page).read_text(encoding="utf-8")
    named = {
        row[1]: set(re.findall(r"\w+", " ".join(re.findall(r"`([^`]+)`", row[2]))))
        for row in re.finditer(r"^\| `(\w+)` \| [^|]+ \| (.+) \|$", words, flags=re.MULTILINE)
    }
    missing = {name: sorted(set(table.columns) - named.get(name, set())) for name, table in tables.items()}
    return {name: columns for name, columns in missing.items() if columns}
