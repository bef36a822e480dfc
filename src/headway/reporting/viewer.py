"""The attention viewer: the patterns that a run directory keeps, packed for the page."""

from __future__ import annotations

import base64
import gzip
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from headway.reporting import embed
from headway.store.suite_folders import suites_of
from headway.text import count

if TYPE_CHECKING:
    from headway.store.directory import RunDirectory

MOST_VALUES = 8_000_000  # a byte each before compression: some 4 MB of the page
_COLUMNS = ("run", "step", "text", "layer", "head")


@dataclass(frozen=True)
class Viewer:
    """What the page's viewer needs.

    Attributes:
        index: JSON: the tokens and the title of each text, and for each pattern its run, step, text, layer and head.
        values: the patterns one after another, each the lower triangle row by row, as base64 of gzipped bytes; 255 is 1.
        sentence: what is shown, and what was left out of the page.
    """

    index: str
    values: str
    sentence: str


def viewer(directory: RunDirectory, most: int = MOST_VALUES) -> Viewer | None:
    """The viewer of the table `patterns`; None if the directory keeps none."""
    kept = _kept(directory)
    if kept is None:
        return None
    frame = kept.filter(kept["attention"].list.len().cum_sum() <= most)
    texts = frame.select("title", "tokens").unique(maintain_order=True).with_row_index("place")
    frame = frame.join(texts, on=["title", "tokens"], how="left", maintain_order="left")
    numbers = {name: frame[name].to_list() for name in (*_COLUMNS[1:], "place")}
    index = {
        "texts": texts.select("title", "tokens").to_dicts(),
        "patterns": {"run": embed.encoded(frame["run"]), **numbers},
    }
    bytes_ = np.rint(frame["attention"].explode().to_numpy() * 255).clip(0, 255).astype(np.uint8)
    return Viewer(
        embed.script_json(index),
        base64.b64encode(gzip.compress(bytes_.tobytes(), compresslevel=6, mtime=0)).decode(),
        _sentence(frame, kept.height),
    )


def _kept(directory: RunDirectory) -> pl.DataFrame | None:
    """The patterns of all suites; beside other suites, a run is named with its own. None if there are none."""
    every = suites_of(directory)
    parts = [
        one.read("patterns").with_columns(run=pl.concat_str(pl.lit(f"{suite}: " if len(every) > 1 else ""), "run"))
        for suite, one in every.items()
        if one.partitions("patterns")
    ]
    return pl.concat(parts, how="diagonal_relaxed").sort(_COLUMNS) if parts else None


def _sentence(frame: pl.DataFrame, n_all: int) -> str:
    checkpoints = frame.select("run", "step").n_unique()
    shown = f"{count(frame.height, 'pattern')} of {count(checkpoints, 'checkpoint')}."
    if frame.height == n_all:
        return shown
    return (
        f"{shown} {count(n_all - frame.height, 'further pattern')} would make the page too large: keep fewer heads, "
        "steps or texts, and report again."
    )
