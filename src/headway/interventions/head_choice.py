"""Which heads are ablated at each checkpoint: the highest by a score, those of a role, or those of a file."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import polars as pl

from headway.errors import UsageError
from headway.interventions.groups import Heads
from headway.text import unicode_name

CLUSTERS = "clusters"
_TOP = re.compile(r"top\s+(\d{1,4})\s+by\s+(\w+)(?:\s+at\s+(each|last|\d{1,12}))?", re.IGNORECASE)
_FILES = {".csv": ",", ".tsv": "\t", ".parquet": ""}
_LONGEST_NAME = 60
Place = tuple[str, int]  # run, step
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

    def of(self, heads: pl.DataFrame, level: float | None = None) -> dict[Place, Heads]:
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

    def _looked_at(self, key: Place, heads: pl.DataFrame) -> int:
        run, step = key
        if self.at == "each":
            return step
        if self.at == "last":
            last: int = heads.filter(pl.col("run") == run)["step"].max()  # type: ignore[assignment]
            return last
        return int(self.at)


def _each(frame: pl.DataFrame) -> list[tuple[Place, pl.DataFrame]]:
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
    ablated = option == "--heads"  # which takes more
    clusters, file = ("clusters, ", f", or a file ({', '.join(_FILES)})") if ablated else ("", "")
    raise UsageError(
        f"{option} takes {clusters}'top N by SCORE' or 'role=NAME', each with 'at each', 'at last' or 'at STEP' behind it{file}: {words!r} "
        "is none of these"
    )


def _require_known(what: str, name: str, known: Sequence[str], place: str) -> None:
    if name not in known:
        near = get_close_matches(name, known, 1)
        meant = f", perhaps {near[0]!r} was meant" if near else ""
        raise UsageError(f"{place}: the heads table has no {what} {name!r}{meant}; it has {', '.join(known)}")


@dataclass(frozen=True)
class HeadFile:
    """Groups of heads that a file names.

    Attributes:
        name: of the file, without its folder.
        sha256: of its content.
        rows: group, layer, head, and run and step if the file has them: without these a row holds for all.
    """

    name: str
    sha256: str
    rows: pl.DataFrame

    def of(self, places: Iterable[Place]) -> dict[Place, dict[str, Heads]]:
        """The groups of each checkpoint, heads in the file's order; checkpoints of which it names none are left out."""
        found = {}
        for run, step in places:
            own = self.rows
            if "run" in own.columns:
                own = own.filter(pl.col("run").is_null() | (pl.col("run") == run))
            if "step" in own.columns:
                own = own.filter(pl.col("step").is_null() | (pl.col("step") == step))
            groups = {
                str(group): tuple(dict.fromkeys(_pairs(part)))
                for (group,), part in own.group_by("group", maintain_order=True)
            }
            if groups:
                found[run, step] = groups
        return found


def names_file(words: str) -> bool:
    """Whether `--heads` names a file, by its ending."""
    return Path(words).suffix.lower() in _FILES


def read_heads(path: str) -> HeadFile:
    """Read a file of heads: columns layer and head, counted from 0, and run, step and group if it has them. Others are ignored.

    Raises:
        UsageError: the file cannot be read, lacks a column, or holds something that is no head or no name.
    """
    place = Path(path).expanduser()
    name = unicode_name(place)
    try:
        content = place.read_bytes()
        separator = _FILES[place.suffix.lower()]
        if separator:
            frame = pl.read_csv(io.BytesIO(content), separator=separator, infer_schema=False)
        else:
            frame = pl.read_parquet(io.BytesIO(content))
    except (OSError, pl.exceptions.PolarsError) as error:
        reason = getattr(error, "strerror", None) or str(error).partition("\n")[0] or type(error).__name__
        raise UsageError(f"--heads {name} cannot be read: {reason}") from error
    lacking = [column for column in ("layer", "head") if column not in frame.columns]
    if lacking:
        raise UsageError(
            f"--heads {name} has no column {lacking[0]}: it needs layer and head, counted from 0, and may have run, step and group"
        )
    numbers = [column for column in ("step", "layer", "head") if column in frame.columns]
    words = [column for column in ("run", "group") if column in frame.columns]
    typed = frame.select(
        *(pl.col(column).cast(pl.String).str.strip_chars().replace("", None) for column in words),
        *(pl.col(column).cast(pl.String).cast(pl.Int64, strict=False) for column in numbers),
    )
    wrong = typed.with_row_index("row", 1).filter(
        pl.any_horizontal(~(pl.col(column) >= 0).fill_null(False) for column in ("layer", "head"))
    )
    if wrong.height or not typed.height:
        where = f"row {wrong['row'][0]} " if wrong.height else ""
        raise UsageError(f"--heads {name}: {where}has no layer and head: both are whole numbers, 0 or more")
    if "group" not in typed.columns:
        typed = typed.with_columns(group=pl.lit(None, pl.String))
    rows = typed.with_columns(pl.col("group").fill_null(place.stem))
    for group in rows["group"].unique(maintain_order=True):
        if len(group) > _LONGEST_NAME or not group.isprintable():
            raise UsageError(
                f"--heads {name}: the group {group[:_LONGEST_NAME]!r} needs a printable name of at most {_LONGEST_NAME} letters"
            )
    return HeadFile(name, hashlib.sha256(content).hexdigest(), rows)
