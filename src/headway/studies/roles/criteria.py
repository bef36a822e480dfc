"""Which roles are looked for, and the level that a head's score must pass for each."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import get_close_matches

import polars as pl

from headway.errors import UsageError
from headway.known_scores import ROLES, SCORES, Role

MULTIPLE = 2.0  # of the distance from the median untrained head to the largest one
_ASKED = re.compile(r"\s*([^=>]+?)\s*=\s*([^=>]+?)\s*(?:>\s*(\S+)\s*)?")
LEVELS_SCHEMA = {
    "role": pl.String(),
    "score": pl.String(),
    "level": pl.Float64(),
    "given": pl.Boolean(),
    "n_untrained": pl.Int64(),
    "untrained_median": pl.Float64(),
    "untrained_largest": pl.Float64(),
    "untrained_share": pl.Float64(),
}


def asked_roles(asked: Sequence[str]) -> tuple[Role, ...]:
    """The known roles, with those of the user added or in the place of a known one.

    Args:
        asked: such as "induction=induction>0.4" or "sink=first": a name, a score and, if it is fixed, a level.

    Raises:
        UsageError: one of them is not of this form, or its score is unknown.
    """
    roles = dict(ROLES)
    for text in asked:
        found = _ASKED.fullmatch(text)
        if not found:
            raise UsageError(
                f"{text!r} is no role: write NAME=SCORE or NAME=SCORE>LEVEL, such as induction=induction>0.4"
            )
        name, score, level = found.groups()
        if score not in SCORES:
            near = get_close_matches(score, SCORES, 1)
            raise UsageError(
                f"the role {name!r} asks for the score {score!r}, which is not one of {', '.join(SCORES)}"
                + (f"; did you mean {near[0]!r}?" if near else "")
            )
        try:
            roles[name] = Role(name, score, None if level is None else float(level))
        except ValueError as error:
            raise UsageError(f"the level of the role {name!r} is {level!r}: give a number") from error
    return tuple(roles.values())


def levels(heads: pl.DataFrame, roles: Sequence[Role], multiple: float = MULTIPLE) -> pl.DataFrame:
    """One row per role whose score is in `heads`: the level, and what untrained heads have.

    Untrained heads are those of all runs at step 0. With m their median and M the largest of them, the level is
    m + `multiple` (M - m): at 2, twice as far from a usual untrained head as any of them lies. A level that a score cannot pass is
    null, and so is one without step 0. `untrained_share` is the share of untrained heads that pass.
    """
    rows = []
    for role in roles:
        if role.score not in heads.columns or heads[role.score].null_count() == heads.height:
            continue
        untrained = heads.filter(pl.col("step") == 0)[role.score].drop_nulls()
        row: dict[str, object] = {"role": role.name, "score": role.score, "given": role.level is not None}
        row |= {"level": role.level, "n_untrained": len(untrained)}
        if len(untrained):
            middle, largest = float(untrained.median()), float(untrained.max())  # type: ignore[arg-type]
            row |= {"untrained_median": middle, "untrained_largest": largest}
            if role.level is None:
                row["level"] = _below(role.score, middle + multiple * (largest - middle))
            if row["level"] is not None:
                row["untrained_share"] = float((untrained > row["level"]).mean())  # type: ignore[arg-type]
        rows.append(row)
    return pl.DataFrame(rows, schema=LEVELS_SCHEMA)


def _below(score: str, level: float) -> float | None:
    high = SCORES[score].high
    return level if high is None or level < high else None


def held(heads: pl.DataFrame, criteria: pl.DataFrame) -> pl.DataFrame:
    """One row per run, step, layer, head and role with a level, where its score was measured: `holds`, and `excess`.

    `excess` is how far the score has come from the level to the largest value that it can have, or, without an end, to the
    largest that was measured. It compares roles. `attends` says whether the score is one of attention.
    """
    parts = []
    place = ("run", "size", "seed", "step", "layer", "head")
    for role, score, level in criteria.drop_nulls("level").select("role", "score", "level").iter_rows():
        end = SCORES[score].high or heads[score].max()
        parts.append(
            heads.filter(pl.col(score).is_finite()).select(
                *place,
                role=pl.lit(role),
                value=pl.col(score),
                holds=pl.col(score) > level,
                excess=(pl.col(score) - level) / (end - level),
                attends=pl.lit(SCORES[score].kind == "attention"),
            )
        )
    return pl.concat(parts) if parts else heads.select(*place).head(0)
