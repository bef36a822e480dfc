"""Tables of the study prepared for charts. Only names and positions on an axis are added."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from headway.reporting.context import View
from headway.tables import HEAD_FEATURES

Tables = Mapping[str, pl.DataFrame]
ALL_SIZES = "all sizes"
_SIZE = pl.col("size").fill_null(ALL_SIZES)
_ROW = pl.concat_str("role", pl.lit(", "), _SIZE)
_CHANCE = {"chance_lower": "lower", "chance_upper": "upper"}
BY = {"attention": "attention", "outputs": "outputs", "both": "attention and outputs"}
MEANINGS = {column.name: column.meaning for column in HEAD_FEATURES}


def _classified(tables: Tables) -> pl.DataFrame:
    return tables["classification"].with_columns(
        row=_ROW, size=_SIZE, **{name: pl.col(of) for name, of in _CHANCE.items()}
    )


def _steps(tables: Tables) -> pl.DataFrame:
    return tables["classification_steps"].with_columns(size=_SIZE)


def _alike(tables: Tables) -> pl.DataFrame:
    return tables["alike"].with_columns(
        row=_ROW, chance="expected", **{name: pl.col(of) for name, of in _CHANCE.items()}
    )


def _matched(tables: Tables) -> pl.DataFrame:
    return tables["matched_roles"].with_columns(
        pl.col("by").replace_strict(BY),
        row=_ROW,
        chance="expected",
        **{name: pl.col(of) for name, of in _CHANCE.items()},
    )


def _similarity(tables: Tables) -> pl.DataFrame:
    return tables["matching_steps"].with_columns(pl.col("by").replace_strict(BY))


def _differences(tables: Tables) -> pl.DataFrame:
    return tables["differences"].with_columns(meaning=pl.col("feature").replace_strict(MEANINGS))


VIEWS: dict[str, View] = {
    "classified": View(("classification",), _classified),
    "classified_steps": View(("classification_steps",), _steps),
    "alike_rows": View(("alike",), _alike),
    "matched_rows": View(("matched_roles",), _matched),
    "similarity": View(("matching_steps",), _similarity),
    "feature_tiles": View(("differences",), _differences),
}
