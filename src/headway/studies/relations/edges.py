"""Edges: pairs of heads whose composition exceeds that of random heads, after correction over all pairs of a checkpoint."""

from __future__ import annotations

import polars as pl

from headway.studies.prose import LEVEL
from headway.studies.roles.heads import NONE, main_roles
from headway.studies.roles.onsets import RUN

_MOST_ROWS = 20_000  # of the table of drawn edges, so that the page stays small
_MOST, _LEAST = 60, 5  # drawn edges of a checkpoint
PAIR = ("from_layer", "from_head", "layer", "head")


def counts(table: pl.DataFrame) -> pl.DataFrame:
    """Edges of each run, step and kind: run…, step, kind, n (pairs), n_edges, share, chance, mean (composition of all pairs)."""
    return (
        table.group_by(*RUN, "step", "kind", maintain_order=True)
        .agg(
            n=pl.len().cast(pl.Int64),
            n_edges=(pl.col("p_holm") <= LEVEL).sum().cast(pl.Int64),
            chance=pl.first("chance"),
            mean=pl.mean("composition"),
        )
        .with_columns(share=pl.col("n_edges") / pl.col("n"), step_modded=pl.col("step") + 1)
    )


def count_means(counted: pl.DataFrame) -> pl.DataFrame:
    """The means of `counts` over the runs of a size: size, step, kind, share, mean, n_runs."""
    return (
        counted.group_by("size", "step", "kind", maintain_order=True)
        .agg(pl.col("share", "mean").mean(), n_runs=pl.len().cast(pl.Int64))
        .with_columns(step_modded=pl.col("step") + 1)
        .sort("size", "kind", "step", maintain_order=True)
    )


def strongest(table: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """The edges of each run and step with the largest excess, and how many of a checkpoint at most.

    Columns: run…, step, kind, from_layer, from_head, layer, head, composition, chance, excess, z, p_holm.
    """
    n_checkpoints = table.select("run", "step").unique().height
    most = max(_LEAST, min(_MOST, _MOST_ROWS // max(1, n_checkpoints)))
    found = table.filter(pl.col("p_holm") <= LEVEL).filter(
        pl.col("excess").rank("ordinal", descending=True).over("run", "step") <= most
    )
    columns = (*RUN, "step", "kind", *PAIR, "composition", "chance", "excess", "z", "p_holm")
    return found.select(columns), most


def nodes(table: pl.DataFrame, edges: pl.DataFrame, roles: pl.DataFrame | None) -> pl.DataFrame:
    """Every head of every run, with its role at the run's last step: run…, layer, head, role, last.

    `last` is that step.
    """
    ends = [
        table.select("run", layer=layer, head=head) for layer, head in (("from_layer", "from_head"), ("layer", "head"))
    ]
    every = pl.concat(ends).unique(maintain_order=True)
    named = table.select(*RUN).unique(maintain_order=True)
    found = named.join(every, on="run", maintain_order="left").sort("run", "layer", "head", maintain_order=True)
    if roles is None:
        return found.with_columns(role=pl.lit(NONE), last=pl.lit(None, pl.Int64))
    main = main_roles(roles)
    last = roles.group_by("run").agg(last=pl.max("step"))
    at_last = main.join(last, left_on=["run", "step"], right_on=["run", "last"], how="semi")
    own = at_last.select("run", pl.col("layer", "head").cast(pl.Int32), "role")
    joined = found.join(last, on="run", how="left", maintain_order="left").join(
        own, on=["run", "layer", "head"], how="left", maintain_order="left"
    )
    return joined.with_columns(pl.col("role").fill_null(NONE)).select(*RUN, "layer", "head", "role", "last")
