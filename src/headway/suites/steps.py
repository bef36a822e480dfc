"""Find the step of each revision of a Hub repository in the names of its branches and tags."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from headway.suites import hub
from headway.suites.hub_http import Unreachable, cache_dir
from headway.suites.names import PLAIN, TOKENS_A_STEP, parse_number, parse_revision, tokens_in
from headway.suites.suite import Stages, by_stage, by_step, stage_order
from headway.text import count

# Some early revisions of the first stage lack its name: step150-tokens1B.
_OLMO = re.compile(r"(?:stage1-|stage2-ingredient(\d+)-)?step(\d+)-tokens\d+B")


def olmo_stage1(names: Sequence[str], repo: str) -> Stages:
    """Revisions of the first stage of pretraining: `stage1-step10000-tokens21B` or `step150-tokens1B`.

    If a step has both names, the one that contains the stage is taken.
    """
    own = [(step, name) for name, ingredient, step in _olmo(names) if ingredient is None]
    named, plain = (
        by_step([(s, name) for s, name in own if name.startswith("stage1") == of], repo) for of in (True, False)
    )
    return {"stage1": plain | named}


@dataclass(frozen=True)
class OlmoStage2:
    """Revisions of the second stage for one order of the data: `stage2-ingredient2-step1000-tokens3B`.

    The second stage starts from the end of the first. Names count steps from 0 again, but the returned steps continue
    from the last step of the first stage.
    """

    ingredient: int

    def __call__(self, names: Sequence[str], repo: str) -> Stages:
        start = max(olmo_stage1(names, repo)["stage1"], default=0)
        own = [(start + step, name) for name, ingredient, step in _olmo(names) if ingredient == self.ingredient]
        return {"stage2": by_step(own, repo)}


def is_olmo(name: str) -> bool:
    """Whether `name` belongs to one of the two stages."""
    return bool(_OLMO.fullmatch(name))


def _olmo(names: Sequence[str]) -> list[tuple[str, int | None, int]]:
    found = ((name, _OLMO.fullmatch(name)) for name in names)
    return [(name, int(said[1]) if said[1] else None, int(said[2])) for name, said in found if said]


@dataclass(frozen=True)
class Pattern:
    """Reads revisions by a regular expression that must match the whole name.

    Attributes:
        pattern: with named groups.
        meanings: what each group means: `step`, `tokens`, `stage`, `seed`, or an axis of the suite.
        wanted: the seed and the values of axes of one run. Revisions with other values belong to other runs.
    """

    pattern: str
    meanings: tuple[tuple[str, str], ...]
    wanted: tuple[tuple[str, str], ...] = ()

    def __call__(self, names: Sequence[str], repo: str) -> Stages:
        found: dict[str, list[tuple[int | None, str]]] = {}
        for name in names:
            said = self._said(name)
            if said is not None and all(said.get(key, value) == value for key, value in self.wanted):
                found.setdefault(said.get("stage", PLAIN), []).append((self._step(said), name))
        stages = {stage: by_step(steps, repo) for stage, steps in found.items()} or {PLAIN: {}}
        return {stage: stages[stage] for stage in sorted(stages, key=stage_order(stages))}

    def understands(self, name: str) -> bool:
        """Whether `name` states a step, of this run or of another."""
        said = self._said(name)
        return said is not None and self._step(said) is not None

    def tokens(self, name: str) -> int | None:
        """The number of tokens that `name` states, or None."""
        said = self._said(name)
        return parse_number(said["tokens"]) if said and said.get("tokens") else None

    def _said(self, name: str) -> dict[str, str] | None:
        found = re.fullmatch(self.pattern, name)
        return {means: found[group] for group, means in self.meanings if found[group]} if found else None

    def _step(self, said: Mapping[str, str]) -> int | None:
        if "step" in said:
            return parse_number(said["step"])
        tokens = parse_number(said.get("tokens", ""))
        return None if tokens is None or tokens % TOKENS_A_STEP else tokens // TOKENS_A_STEP


@dataclass(frozen=True)
class Listed:
    """Steps of one run that lie in several repositories, as REPOSITORY@REVISION.

    Attributes:
        entries: each step with its place and the tokens seen until then, if known.
    """

    entries: tuple[tuple[int, str, int | None], ...]

    def __call__(self) -> Stages:
        return {PLAIN: {step: place for step, place, _ in self.entries}}

    def describe(self) -> str:
        steps = sorted(step for step, _, _ in self.entries)
        shown = ", ".join(f"{step:,}" for step in (steps if len(steps) <= 12 else steps[:9]))
        return (
            f"{len(steps)}: {shown}{'' if len(steps) <= 12 else f', … {steps[-1]:,}'}; each in a repository of its own"
        )

    def tokens(self, revision: str) -> int | None:
        return next((tokens for _, place, tokens in self.entries if place == revision), None)


def _states_step(name: str) -> bool:
    return parse_revision(name) is not None


# Branches of every repository that hold the end of training or another format of it.
_NO_STEP = frozenset({"main", "refs/convert/parquet"})


@dataclass(frozen=True)
class HubRevisions:
    """The revisions of `repo`, listed on demand.

    If the Hub cannot be reached, or is offline and the cache has no step, the last saved listing is used with a warning.
    That is enough for a finished sweep.

    Attributes:
        read: turns names into stages and steps.
        understood: whether a name is valid. A warning lists the other names.
        counted: the number of tokens that a name states, or None.
    """

    repo: str
    read: Callable[[Sequence[str], str], Stages] = by_stage
    understood: Callable[[str], bool] = _states_step
    counted: Callable[[str], int | None] = tokens_in

    def __call__(self) -> Stages:
        try:
            names = hub.list_revisions(self.repo)
            if hub.offline() and not any(self.read(names, self.repo).values()):
                raise Unreachable(
                    f"{self.repo}: HF_HUB_OFFLINE is set, and the cache {cache_dir()} has none of its steps"
                )
        except Unreachable as error:
            names = hub.remembered_revisions(self.repo)
            if not names:
                raise
            warnings.warn(f"{error}. Using the last saved list of revisions of {self.repo}", stacklevel=4)
        self._warn_of_unread(names)
        return self.read(names, self.repo)

    def _warn_of_unread(self, names: Sequence[str]) -> None:
        unread = [name for name in names if name not in _NO_STEP and not self.understood(name)]
        if unread:
            more = f" and {len(unread) - 3} more" if len(unread) > 3 else ""
            warnings.warn(
                f"{self.repo}: {count(len(unread), 'revision')} with unknown names "
                f"{'is' if len(unread) == 1 else 'are'} left out: {', '.join(unread[:3])}{more}",
                stacklevel=5,
            )

    def describe(self) -> str:
        return "listed from the Hub when used"

    def tokens(self, revision: str) -> int | None:
        return self.counted(revision)
