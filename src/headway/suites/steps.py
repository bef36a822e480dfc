"""Which revision of a Hub repository holds which step, read from the names of its branches and tags."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from headway.suites import hub
from headway.suites.hub_http import Unreachable
from headway.suites.names import parse_revision
from headway.suites.suite import Stages, by_stage, by_step
from headway.text import count

# Some early revisions of the first stage lack its name: step150-tokens1B.
_OLMO = re.compile(r"(?:stage1-|stage2-ingredient(\d+)-)?step(\d+)-tokens\d+B")


def olmo_stage1(names: Sequence[str], repo: str) -> Stages:
    """`stage1-step10000-tokens21B`, or `step150-tokens1B`: the first stage of pretraining. Of two names of one step, the
    one that names the stage is taken."""
    own = [(step, name) for name, ingredient, step in _olmo(names) if ingredient is None]
    named, plain = (
        by_step([(s, name) for s, name in own if name.startswith("stage1") == of], repo) for of in (True, False)
    )
    return {"stage1": plain | named}


@dataclass(frozen=True)
class OlmoStage2:
    """`stage2-ingredient2-step1000-tokens3B`: one order of the second stage's data, whose names count from 0 again.

    Its steps go on from the last of the first stage, which it starts from.
    """

    ingredient: int

    def __call__(self, names: Sequence[str], repo: str) -> Stages:
        start = max(olmo_stage1(names, repo)["stage1"], default=0)
        own = [(start + step, name) for name, ingredient, step in _olmo(names) if ingredient == self.ingredient]
        return {"stage2": by_step(own, repo)}


def is_olmo(name: str) -> bool:
    """Whether `name` is of one of the two stages: a third one, say, is of neither suite."""
    return bool(_OLMO.fullmatch(name))


def _olmo(names: Sequence[str]) -> list[tuple[str, int | None, int]]:
    found = ((name, _OLMO.fullmatch(name)) for name in names)
    return [(name, int(said[1]) if said[1] else None, int(said[2])) for name, said in found if said]


def _states_step(name: str) -> bool:
    return parse_revision(name) is not None


# Branches of every repository, which hold the end of training or another format of it.
_NO_STEP = frozenset({"main", "refs/convert/parquet"})


@dataclass(frozen=True)
class HubRevisions:
    """The revisions of `repo`, listed when they are asked for; `read` gives the stage and the step of each,
    and a warning names those that are not `understood`.

    Where the Hub is out of reach, or is not to be asked and nothing of it is in the cache, those of the last listing
    are taken, with a warning: a finished sweep needs no more.
    """

    repo: str
    read: Callable[[Sequence[str], str], Stages] = by_stage
    understood: Callable[[str], bool] = _states_step

    def __call__(self) -> Stages:
        try:
            names = hub.list_revisions(self.repo)
            if hub.offline() and not any(self.read(names, self.repo).values()):
                raise Unreachable(
                    f"{self.repo}: HF_HUB_OFFLINE is set, and the cache {hub.cache_dir()} has no step of it"
                )
        except Unreachable as error:
            names = hub.remembered_revisions(self.repo)
            if not names:
                raise
            warnings.warn(f"{error}. The revisions of {self.repo} are those that it last listed", stacklevel=4)
        self._say_unread(names)
        return self.read(names, self.repo)

    def _say_unread(self, names: Sequence[str]) -> None:
        unread = [name for name in names if name not in _NO_STEP and not self.understood(name)]
        if unread:
            more = f" and {len(unread) - 3} more" if len(unread) > 3 else ""
            warnings.warn(
                f"{self.repo}: {count(len(unread), 'revision')} with names that are not understood "
                f"{'is' if len(unread) == 1 else 'are'} left out: {', '.join(unread[:3])}{more}",
                stacklevel=5,
            )

    def describe(self) -> str:
        return "listed from the Hub when used"
