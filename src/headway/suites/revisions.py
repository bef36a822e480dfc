"""Which revision of a Hub repository holds which step, read from the names of its branches and tags."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from headway.suites import hub
from headway.suites.names import parse_step
from headway.suites.suite import by_step

_OLMO = re.compile(r"(?:stage1|stage2-ingredient(\d+))-step(\d+)-tokens\d+B")


def named_steps(names: Sequence[str], repo: str) -> dict[int, str]:
    """Every revision whose name states a step: checkpoint-1000, step1000."""
    return by_step([(parse_step(name), name) for name in names], repo)


def olmo_stage1(names: Sequence[str], repo: str) -> dict[int, str]:
    """`stage1-step10000-tokens21B`: the first stage of pretraining."""
    return by_step([(step, name) for name, ingredient, step in _olmo(names) if ingredient is None], repo)


@dataclass(frozen=True)
class OlmoStage2:
    """`stage2-ingredient2-step1000-tokens3B`: one order of the second stage's data, whose names count from 0 again.

    Its steps go on from the last of the first stage, which it starts from.
    """

    ingredient: int

    def __call__(self, names: Sequence[str], repo: str) -> dict[int, str]:
        start = max(olmo_stage1(names, repo), default=0)
        own = [(start + step, name) for name, ingredient, step in _olmo(names) if ingredient == self.ingredient]
        return by_step(own, repo)


def _olmo(names: Sequence[str]) -> list[tuple[str, int | None, int]]:
    found = ((name, _OLMO.fullmatch(name)) for name in names)
    return [(name, int(said[1]) if said[1] else None, int(said[2])) for name, said in found if said]


@dataclass(frozen=True)
class HubRevisions:
    """The revisions of `repo`, listed when they are asked for; `read` gives the step of each."""

    repo: str
    read: Callable[[Sequence[str], str], dict[int, str]] = named_steps

    def __call__(self) -> dict[int, str]:
        return self.read(hub.list_revisions(self.repo), self.repo)

    def describe(self) -> str:
        return "listed from the Hub when used"
