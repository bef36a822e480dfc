"""Which heads are ablated at each checkpoint: the highest by a score, those of a role, or those of a file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import polars as pl

from headway.errors import UsageError
from headway.interventions.groups import Heads

CLUSTERS = "clusters"
_TOP = re.compile(r"top\s+(\d{1,4})\s+by\s+(\w+)(?:\s+at\s+(each|last|\d{1,12}))?", re.IGNORECASE)
_ROLE = re.compile(r"role\s*=\s*([\w-]+)(?:\s+at\s+(each|last|\d{1,12}))?", re.IGNORECASE)


@dataclass(frozen=True)
class HeadChoice:
    """Heads chosen by a score, and the step at which it is looked at.

    Attributes:
        words: as the user wrote them.
        score: the score whose highest heads are taken, or that defines the role.
        n: how many heads; None takes all that pass `role`'s level.
        role: the role; empty for the highest by score.
        at: `each` step's own heads, those of the `last` step, or of a step; followed back and forth through training.
    """

    words: str
    score: str
    n: int | None = None
    role: str = ""
    at: str = "each"

    def of(self, heads: pl.DataFrame, level: float | None = None) -> dict[tuple[str, int], Heads]:
        """The heads of each checkpoint (run, step) in a heads table, the highest first; checkpoints without any are left out.

        Args:
            heads: with run, step, layer, head and the score.
            level: what a head's score must exceed to hold the role.
        """
        looked = heads.filter(pl.col(self.score).is_finite()).sort(self.score, descending=True, maintain_order=True)
        chosen = looked.filter(pl.col(self.score) > level) if level is not None else looked
        by_checkpoint = {key: _pairs(frame) for key, frame in _each(chosen)}
        return {
            key: own[: self.n]
            for key in dict.fromkeys(looked.select("run", "step").sort("run", "step").iter_rows())
            if (own := by_checkpoint.get((key[0], self._looked_at(key, looked)), ()))
        }

    def _looked_at(self, key: tuple[str, int], heads: pl.DataFrame) -> int:
        run, step = key
        if self.at == "each":
            return step
        if self.at == "last":
            last: int = heads.filter(pl.col("run") == run)["step"].max()  # type: ignore[assignment]
            return last
        return int(self.at)


def _each(frame: pl.DataFrame) -> list[tuple[tuple[str, int], pl.DataFrame]]:
    return [((run, step), part) for (run, step), part in frame.group_by("run", "step", maintain_order=True)]


def _pairs(frame: pl.DataFrame) -> Heads:
    return tuple(frame.select("layer", "head").iter_rows())


def parse_heads(words: str, roles: dict[str, str], scores: Sequence[str], option: str = "--heads") -> HeadChoice:
    """Read `top N by SCORE` or `role=NAME`, each with `at each`, `at last` or `at STEP` if the user wishes.

    Args:
        roles: the score of each role, by name.
        scores: the scores of the heads table.
        option: where the user wrote it, for messages.

    Raises:
        UsageError: it is written otherwise, N is 0, or the score or the role is unknown.
    """
    if found := _TOP.fullmatch(words.strip()):
        number, score, at = found.groups()
        if not int(number):
            raise UsageError(f"{option} {words!r} takes no head: ask for 1 or more")
        _require_known("score", score, scores, f"{option} {words!r}")
        return HeadChoice(words, score, int(number), at=(at or "each").lower())
    if found := _ROLE.fullmatch(words.strip()):
        role, at = found.groups()
        _require_known("role", role, list(roles), f"{option} {words!r}")
        _require_known("score", roles[role], scores, f"{option} {words!r}")
        return HeadChoice(words, roles[role], role=role, at=(at or "each").lower())
    clusters = "clusters, " if option == "--heads" else ""
    raise UsageError(
        f"{option} takes {clusters}'top N by SCORE' or 'role=NAME', each with 'at each', 'at last' or 'at STEP' behind it: {words!r} "
        "is none of these"
    )


def _require_known(what: str, name: str, known: Sequence[str], place: str) -> None:
    if name not in known:
        near = get_close_matches(name, known, 1)
        meant = f", perhaps {near[0]!r} was meant" if near else ""
        raise UsageError(f"{place}: the heads table has no {what} {name!r}{meant}; it has {', '.join(known)}")
