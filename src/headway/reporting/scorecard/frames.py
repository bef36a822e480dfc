"""Tables of the study prepared for charts: the names of lines, and where they lead."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from headway.reporting.context import View
from headway.studies.prose import capital
from headway.studies.scorecard import SUBJECT
from headway.studies.scorecard.measures import MEASURES, Measure

Tables = Mapping[str, pl.DataFrame]
DIFFERENCE = "difference (0: none)"

# The figure behind a line: the study and the figure's name. The study of development has one result a score.
_BEHIND = {
    "criterion": ("roles", "holders"),
    "ablation": ("ablations", "over-training"),
    "single heads": ("development", "trajectories"),
    "trajectories": ("development", "correlations"),
    "onsets": ("roles", "onsets"),
    "layers": ("roles", "layers"),
    "depths": ("roles", "layers"),
    "composition": ("relations", "circuit"),
    "paths": ("relations", "paths"),
    "weights": ("configuration", "classified"),
}


def titled(measure: Measure) -> str:
    over = "" if measure.over == "runs" else f", {measure.over}"
    return f"{capital(measure.axis)}: {measure.name}{over}"


LINES = [titled(measure) for measure in MEASURES]


def _title() -> pl.Expr:
    """`titled` of the columns axis, measure and over."""
    over = pl.when(pl.col("over") == "runs").then(pl.lit("")).otherwise(pl.format(", {}", "over"))
    first = pl.col("axis").str.slice(0, 1).str.to_uppercase()
    return pl.concat_str(first, pl.col("axis").str.slice(1), pl.lit(": "), "measure", over)


def _lines(tables: Tables) -> pl.DataFrame:
    """The lines of one directory or of two, with what the figure says of them."""
    axes = tables["axes"]
    if "directory" not in axes.columns:
        return axes.with_columns(directory=pl.lit(""), line=_title())
    shared = axes.select("subject").unique()
    other = tables["against"].join(shared, on="subject", how="semi", maintain_order="left")
    keys = ["subject", "axis", "measure", "over"]
    marks = axes.select(*keys, "headline", answered=pl.lit(True), directory=pl.lit(DIFFERENCE))
    gap = tables["differences"].select(*keys, "lower", "upper", value="difference")
    parts = [axes, other, gap.join(marks, on=keys, maintain_order="left")]
    return pl.concat(parts, how="diagonal").with_columns(line=_title())


def behind(row: Mapping[str, object], ending: str = "") -> str:
    """The address that the figure behind a line has if it is on the page; "" for a line without an answer.

    Args:
        ending: what the names of results end in that are of one stack, or of one suite of several.
    """
    study, figure = _BEHIND[str(row["measure"])]
    subject = row["score"] if study == "development" else SUBJECT
    return f"#{study}-{subject}{ending}-{figure}" if row["answered"] else ""


VIEWS: dict[str, View] = {"lines": View(("axes",), _lines)}
