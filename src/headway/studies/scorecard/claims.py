"""What is asked about: the roles and scores whose claims are put on the scale, with the heads that hold them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property

import numpy as np
import polars as pl

from headway.errors import UsageError
from headway.known_scores import ROLES, SCORES, Role
from headway.studies.development.heads import Heads, read_heads
from headway.studies.roles import onsets
from headway.studies.roles.criteria import asked_roles, held, levels
from headway.studies.scorecard.agreements import Ints, numbered
from headway.tables import score_columns


def asked_for(roles: Sequence[str], scores: Sequence[str]) -> tuple[Role, ...]:
    """The roles that are asked about; a score is a role of its own name.

    Args:
        roles: names of known roles, or roles of the user such as "induction=induction>0.4". A name alone leaves out the others.
        scores: names of scores. They leave out the known roles, too.

    Raises:
        UsageError: a role or a score is unknown, or a role is not of one of these forms.
    """
    own, names = [text for text in roles if "=" in text], [text.strip() for text in roles if "=" not in text]
    for score in scores:
        if score not in SCORES:
            raise UsageError(f"{score!r} is not a score; the scores are {', '.join(SCORES)}")
    known = {role.name: role for role in asked_roles(own)}
    for name in names:
        if name not in known:
            near = get_close_matches(name, known, 1)
            raise UsageError(
                f"the role {name!r} is unknown: name one of {', '.join(known)}, or write NAME=SCORE"
                + (f"; did you mean {near[0]!r}?" if near else "")
            )
    if not names and not scores:
        return tuple(known.values())
    added = [role for name, role in known.items() if ROLES.get(name) != role]
    chosen = {role.name: role for role in (*(known[name] for name in names), *added)}
    return tuple(chosen.values()) + tuple(Role(score, score) for score in scores if score not in chosen)


@dataclass(frozen=True)
class Claim:
    """One role or score, in the heads of a table.

    Attributes:
        role: its name, score, and level if the user gave one.
        heads: the heads with their score.
        criterion: one row of `levels`; no row if the score is not there.
        held: as `criteria.held`; no rows without a level.
        scores: all scores of the table.
        causal_scores: run, step, layer, head, and the causal scores that were measured.
    """

    role: Role
    heads: Heads
    criterion: dict[str, object]
    held: pl.DataFrame
    scores: tuple[str, ...]
    causal_scores: pl.DataFrame

    @property
    def level(self) -> float | None:
        level = self.criterion.get("level")
        return None if level is None else float(level)  # type: ignore[arg-type]

    @property
    def runs(self) -> pl.DataFrame:
        return self.heads.runs

    @cached_property
    def groups(self) -> Ints:
        """The number of each run's size: (runs,)."""
        place = numbered(self.runs["model"].to_list())
        return np.array([place[model] for model in self.runs["model"]])

    @cached_property
    def final(self) -> pl.DataFrame:
        """The heads that hold the role at the last step of their run: run, layer, head."""
        return self.held.filter(_LAST, pl.col("holds")).select("run", pl.col("layer", "head").cast(pl.Int32))

    @cached_property
    def all_final(self) -> pl.DataFrame:
        """All heads that were measured at the last step of their run: run, layer, head."""
        return self.held.filter(_LAST).select("run", pl.col("layer", "head").cast(pl.Int32))

    @cached_property
    def firsts(self) -> pl.DataFrame:
        """The onset of the role in each run; see `onsets.firsts`."""
        return onsets.firsts(self.held)

    @property
    def causal(self) -> list[str]:
        """The causal scores that some head has."""
        return [name for name in self.causal_scores.columns if name in SCORES]

    def causal_values(self, run: str, score: str) -> pl.DataFrame:
        """A causal score at the last step of a run that has it: layer, head, value."""
        own = self.causal_scores.filter(pl.col("run") == run, pl.col(score).is_finite())
        return own.filter(pl.col("step") == pl.col("step").max()).select("layer", "head", value=score)

    def steps(self, run: str) -> list[int]:
        """The measured steps of a run."""
        return self.heads.frame.filter(run=run)["step"].unique().sort().to_list()


_LAST = pl.col("step") == pl.col("step").max().over("run")


def claims(table: pl.DataFrame, roles: Sequence[Role]) -> list[Claim]:
    """The claims whose score is in a heads table, in the order of `roles`."""
    found = []
    causal = [name for name, score in SCORES.items() if score.kind == "causal" and name in table.columns]
    there = [name for name in causal if table[name].is_finite().any()]
    causes = table.select("run", "step", pl.col("layer", "head").cast(pl.Int32), *there)
    for role in roles:
        if role.score not in table.columns or not table[role.score].is_finite().any():
            continue
        heads = read_heads(table, role.score)
        frame = heads.frame.rename({"value": role.score})
        criteria = levels(frame, [role])
        criterion = criteria.row(0, named=True) if criteria.height else {}
        holding = held(frame, criteria) if criterion.get("level") is not None else _nothing()
        found.append(Claim(role, heads, criterion, holding, tuple(score_columns(table)), causes))
    return found


def _nothing() -> pl.DataFrame:
    strings = dict.fromkeys(("run", "size", "seed", "role"), pl.String())
    numbers = dict.fromkeys(("step", "layer", "head"), pl.Int64())
    return pl.DataFrame(schema={**strings, **numbers, "value": pl.Float64(), "holds": pl.Boolean()})
