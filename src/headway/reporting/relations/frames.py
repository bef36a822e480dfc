"""Tables of the study prepared for charts. Only positions on an axis and names are added."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from headway.reporting.context import View

Tables = Mapping[str, pl.DataFrame]
KINDS = {"k": "K: keys", "q": "Q: queries", "v": "V: values"}
_PAIR = pl.concat_str("first", pl.lit(" → "), "second")
_KIND = pl.col("kind").replace_strict(KINDS)


def _curves(tables: Tables) -> pl.DataFrame:
    """Runs, their mean, and what random heads and heads of the same layers have, as lines of a name (`what`)."""
    place = ("size", "step_modded", "step")
    of_runs = tables["trajectories"].select(
        *place, "run", "seed", kind=_KIND, pair=_PAIR, what=pl.lit("runs"), value="mean", n_pairs="n_pairs"
    )
    means = [
        tables["trajectory_means"].select(
            *place,
            run=pl.lit(None, pl.String),
            seed=pl.lit(None, pl.String),
            kind=_KIND,
            pair=_PAIR,
            what=pl.lit(what),
            value=column,
            n_pairs="n_pairs",
        )
        for what, column in LINES.items()
    ]
    # The pair of roles that is told of comes first, so that the menu starts with it.
    first = pl.col("pair") == "previous-token → induction"
    return pl.concat([of_runs, *means]).sort(~first, "kind", maintain_order=True)


LINES = {"largest pair": "largest", "mean of pairs": "mean", "same layers": "others", "random heads": "chance"}


def _spans(tables: Tables) -> pl.DataFrame:
    """Onsets of the roles and the relation whose order is told, on the axis of step + 1."""
    names = pl.concat([tables["order"]["first"], tables["order"]["second"]]).unique()
    return (
        tables["firsts"]
        .filter(pl.col("role").is_in(names.implode()))
        .with_columns(
            start=pl.col("lower").fill_null(0) + 1,
            end=pl.coalesce("upper", "last") + 1,
            open=pl.col("upper").is_null(),
        )
    )


def _edges(tables: Tables) -> pl.DataFrame:
    """Edges with the ends of their lines: those of several kinds between two heads stand side by side."""
    aside = pl.col("kind").replace_strict({"k": 0.0, "q": -0.05, "v": 0.05})
    return tables["edges"].with_columns(start=pl.col("from_head") + aside, end=pl.col("head") + aside, kind=_KIND)


def _named_kinds(name: str) -> View:
    return View((name,), lambda tables: tables[name].with_columns(kind=_KIND))


def _inputs(name: str) -> View:
    return View((name,), lambda tables: tables[name].with_columns(input=pl.col("input").replace_strict(KINDS)))


VIEWS: dict[str, View] = {
    "curves": View(("trajectories", "trajectory_means"), _curves),
    "spans": View(("firsts", "order"), _spans),
    "drawn_edges": View(("edges",), _edges),
    "counted_edges": _named_kinds("edge_counts"),
    "drawn_paths": _inputs("path_means"),
    "drawn_changes": _inputs("path_changes"),
}
