"""A suite: its runs, their steps, and the selection of checkpoints."""

from __future__ import annotations

import html
import re
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from headway.errors import SelectionError
from headway.progress import Progress
from headway.suites.checkpoint import Axes, Checkpoint, FolderSource, HubSource, Source
from headway.suites.names import PLAIN, level_order, natural_order, parse_revision, size_order
from headway.suites.where import Where, parse_where
from headway.text import count

# Revisions by stage of training and step. The first stage is selected unless another is named.
Stages = Mapping[str, Mapping[int, str]]


class Revisions(Protocol):
    """Lists the revisions of a run by stage and step. Calling it may send a request to the Hub; `describe()` does not."""

    def __call__(self) -> Stages: ...

    def describe(self) -> str: ...

    def tokens(self, revision: str) -> int | None:
        """How many tokens a revision has seen since the start of its stage, as its name says; None if it does not."""


@dataclass(frozen=True)
class Run:
    """One training run.

    Attributes:
        location: its Hub repository or its folder.
        axes: its value on each axis that the suite has beside size and seed, by name.
        tokens_per_step: tokens in one step, the same at all steps; None if it is unknown or changes.
        later_stage: whether its revisions count from the end of another stage.
        listed: whether its revisions are written REPOSITORY@REVISION, because its steps lie in several repositories;
            `location` is a common name for these.
    """

    name: str
    model: str
    size: str
    seed: str
    location: str | Path
    revisions: Revisions
    tokenizer_repo: str = ""
    axes: Axes = ()
    tokens_per_step: int | None = None
    later_stage: bool = False
    listed: bool = False

    def of_stage(self, stage: str) -> Run:
        """The same run in a later training stage, whose steps start from 0 again."""
        return replace(
            self, name=f"{self.name}-{stage}", model=f"{self.model}-{stage}", tokens_per_step=None, later_stage=True
        )

    def tokens(self, step: int, revision: str) -> int | None:
        """How many tokens the run has seen at a step: exact if its steps are all alike, or else as the name rounds it."""
        if self.tokens_per_step is not None:
            return step * self.tokens_per_step
        # Names of a later stage count only the tokens of that stage.
        return None if self.later_stage else self.revisions.tokens(revision)

    def source(self, revision: str) -> Source:
        if isinstance(self.location, Path):
            return FolderSource(self.location / revision, fallbacks=(self.location, self.location.parent))
        if self.listed:
            repo, _, name = revision.partition("@")
            return HubSource(repo, name, self.tokenizer_repo, run_location=self.location)
        return HubSource(self.location, revision, self.tokenizer_repo)


@dataclass(frozen=True)
class Fact:
    """Something that is known of a suite.

    Attributes:
        verified: whether its makers state it; or else it is only likely.
    """

    name: str
    text: str
    verified: bool = True

    def __str__(self) -> str:
        return self.text if self.verified else f"{self.text} (unverified)"


@dataclass(frozen=True)
class SuiteInfo:
    """A description of a suite, made without fetching anything. `str()` of it is written for people."""

    name: str
    about: str
    origin: str
    sizes: tuple[str, ...]
    seeds: tuple[str, ...]
    n_runs: int
    steps: str
    notes: tuple[str, ...]
    axes: tuple[tuple[str, tuple[str, ...]], ...] = ()
    facts: tuple[Fact, ...] = ()
    sources: tuple[str, ...] = ()
    unlisted: str = ""

    def __str__(self) -> str:
        unverified = {fact.name for fact in self.facts if not fact.verified}
        said = {
            "runs": f"{self.n_runs}, from {self.origin}",
            "sizes": ", ".join(self.sizes),
            "seeds": ", ".join(self.seeds),
            **{name: ", ".join(values) for name, values in self.axes},
            "steps": self.unlisted or self.steps,
            **{fact.name: fact.text for fact in self.facts if fact.text},
        }
        lines = [f"  {name:<13} {text}{' (unverified)' if name in unverified else ''}" for name, text in said.items()]
        lines += [f"  note          {note}" for note in self.notes]
        lines += [f"  source        {source}" for source in self.sources]
        return "\n".join([f"{self.name}: {self.about}", *lines])


class Suite:
    """A family of training runs.

    Attributes:
        name: the suite's name in tables.
        runs: ordered by size, then axes, then seed.
        corpus: the default corpus for measurements, or None.
        facts: what is known beside runs, sizes, seeds and steps, or doubtful about these: licence, tokens and so on.
        sources: where this is stated.
        unlisted: why the steps of the runs cannot be listed, and what to do; empty if they can.
        make: given names of runs, makes those that are not there yet, and tells of it; None if all runs are there.
    """

    def __init__(
        self,
        name: str,
        runs: Iterable[Run],
        *,
        about: str,
        origin: str,
        notes: Sequence[str] = (),
        corpus: str | None = None,
        facts: Sequence[Fact] = (),
        sources: Sequence[str] = (),
        unlisted: str = "",
        make: Callable[[Collection[str], Progress | None], object] | None = None,
    ) -> None:
        self.facts, self.sources, self.unlisted, self.make = tuple(facts), tuple(sources), unlisted, make
        self.name, self.about, self.origin, self.notes, self.corpus = name, about, origin, tuple(notes), corpus
        self.runs = tuple(sorted(runs, key=_place))

    def __repr__(self) -> str:
        return f"<Suite {self.name}: {count(len(self.runs), 'run')}>"

    def _repr_html_(self) -> str:
        """What is known of the suite, for a notebook."""
        return f"<pre>{html.escape(str(self.describe()))}</pre>"

    @property
    def axes(self) -> dict[str, tuple[str, ...]]:
        """The values of each axis that the suite has beside size and seed, by name, in order."""
        names = _distinct(name for run in self.runs for name, _ in run.axes)
        return {
            name: tuple(sorted({dict(run.axes)[name] for run in self.runs if name in dict(run.axes)}, key=level_order))
            for name in names
        }

    def describe(self) -> SuiteInfo:
        """Describe name, sizes, seeds and steps. Nothing is fetched."""
        return SuiteInfo(
            name=self.name,
            about=self.about,
            origin=self.origin,
            sizes=_distinct(run.size for run in self.runs),
            seeds=tuple(sorted({run.seed for run in self.runs}, key=natural_order)),
            n_runs=len(self.runs),
            steps="; ".join(_distinct(run.revisions.describe() for run in self.runs)),
            notes=self.notes,
            axes=tuple(self.axes.items()),
            facts=self.facts,
            sources=self.sources,
            unlisted=self.unlisted,
        )

    def checkpoints(self, where: str = "", progress: Progress | None = None) -> list[Checkpoint]:
        """Return the selected checkpoints, ordered by size, seed and step.

        Only the revisions of selected runs are listed. A step that only some runs have is selected in those runs.
        `first` and `last` mean the first and last step of each run. Runs that the suite makes on this machine, as nano
        does, are made first.

        Args:
            where: such as `size=14m,70m seed=1..3 step=0,512,last`; all checkpoints if empty.
            progress: where to show how far the making of runs is.

        Raises:
            SelectionError: the selection cannot be parsed, or names an unknown size, seed, step or run.
            CheckpointError: the Hub does not answer a request for a run's revisions.
            HeadwayError: a run cannot be made.
        """
        found = self.listed(where)
        if self.make is not None:
            self.make({one.run for one in found}, progress)
        return found

    def listed(self, where: str = "") -> list[Checkpoint]:
        """The same as `checkpoints`, but nothing is made: the files of some may not be there yet."""
        if self.unlisted:
            raise SelectionError(f"the checkpoints of the suite {self.name!r} cannot be listed: {self.unlisted}")
        asked = parse_where(where, tuple(self.axes))
        runs = {run.name: (run, steps) for one in self._choose_runs(asked) for run, steps in self._stages(one, asked)}
        revisions = {name: dict(sorted(steps.items())) for name, (_, steps) in runs.items()}
        chosen = self._choose_steps(asked, revisions)
        found = [
            self._checkpoint(run, step, revision)
            for name, (run, _) in runs.items()
            for step, revision in revisions[name].items()
            if step in chosen[name]
        ]
        return self._choose_tokens(asked, found)

    def _choose_tokens(self, where: Where, checkpoints: list[Checkpoint]) -> list[Checkpoint]:
        """Those of the `checkpoints` that have seen the selected numbers of tokens.

        Raises:
            SelectionError: the tokens of all checkpoints are unknown, or none is selected.
        """
        if "tokens" not in where.items or not checkpoints:
            return checkpoints
        known = sorted({one.tokens for one in checkpoints if one.tokens is not None})
        owner = f"the suite {self.name!r}"
        if not known:
            raise SelectionError(
                f"{owner} does not say how many tokens the selected checkpoints have seen: select by step instead, or "
                "state tokens_per_step in a suite file"
            )
        if silent := {one.run for one in checkpoints if one.tokens is None}:
            warnings.warn(
                f"{count(len(silent), 'run')} of {owner}, such as {min(silent)}, are left out: their tokens are unknown",
                stacklevel=5,
            )
        chosen = {int(number) for number in where.choose("tokens", [str(number) for number in known], owner)}
        return [one for one in checkpoints if one.tokens in chosen]

    def _stages(self, run: Run, where: Where) -> list[tuple[Run, Mapping[int, str]]]:
        """The selected stages of `run`. Each stage but the first becomes a separate run, named after the stage."""
        stages = run.revisions()
        default, *others = stages
        if others and "stage" not in where.items:
            described = ", ".join(f"{name} ({count(len(steps), 'step')})" for name, steps in stages.items())
            warnings.warn(
                f"the revisions of {run.name} belong to several stages: {described}. Using {default}. Select others with "
                f'--where "stage={others[0]}"',
                stacklevel=5,
            )
            return [(run, stages[default])]
        asked = where.choose("stage", list(stages), run.name)
        return [(run if name == default else run.of_stage(name), stages[name]) for name in stages if name in asked]

    def _choose_runs(self, where: Where) -> list[Run]:
        owner = f"the suite {self.name!r}"
        sizes = where.choose("size", _distinct(run.size for run in self.runs), owner)
        names = where.choose("run", [run.name for run in self.runs], owner)
        left = [run for run in self.runs if run.size in sizes and run.name in names]
        for axis, values in self.axes.items():
            if axis in where.items:
                chosen = where.choose(axis, values, owner)
                left = [run for run in left if dict(run.axes).get(axis) in chosen]
        # Seeds are matched within the selected sizes, because data-seed1 exists only for 160m.
        known = sorted({run.seed for run in left}, key=natural_order)
        narrowed = f"{owner} ({', '.join(_distinct(run.size for run in left))})" if "size" in where.items else owner
        seeds = where.choose("seed", known, narrowed)
        return [run for run in left if run.seed in seeds]

    def _choose_steps(self, where: Where, revisions: Mapping[str, Mapping[int, str]]) -> dict[str, set[int]]:
        items = where.items.get("step")
        if items is None:
            return {run: set(steps) for run, steps in revisions.items()}
        owner = f"the suite {self.name!r}"
        known = [str(step) for step in sorted({step for steps in revisions.values() for step in steps})]
        shared = where.choose("step", known, owner, asked=[item for item in items if item not in ("first", "last")])
        ends = [item for item in items if item in ("first", "last")]
        return {
            run: {int(step) for step in shared | where.choose("step", [str(s) for s in steps], run, asked=ends)}
            for run, steps in revisions.items()
        }

    def _checkpoint(self, run: Run, step: int, revision: str) -> Checkpoint:
        source, tokens = run.source(revision), run.tokens(step, revision)
        return Checkpoint(self.name, run.name, run.model, run.size, run.seed, step, revision, source, run.axes, tokens)


def _place(run: Run) -> tuple[Any, ...]:
    """Sort key of runs."""
    axes = tuple(level_order(value) for _, value in run.axes)
    return (size_order(run.size), axes, natural_order(run.seed), run.name)


_FIRST_STAGE = re.compile(r"pre-?train|(?:stage|phase)-?1(?!\d)", re.IGNORECASE)


def by_stage(names: Iterable[str], location: str) -> Stages:
    """Group the revisions whose names state a step by stage. Names of one stage differ only by their numbers.

    The first stage is the one called pretraining or stage 1, or else the one with most steps. Names that state only a
    step fill the steps that the first stage lacks.

    Raises:
        SelectionError: two revisions of one stage state the same step.
    """
    found: dict[str, list[tuple[int, str]]] = {PLAIN: []}
    for name in names:
        if stated := parse_revision(name):
            found.setdefault(stated.stage, []).append((stated.step, name))
    stages = {stage: by_step(steps, location) for stage, steps in found.items()}
    ordered = sorted(stages, key=stage_order(stages))
    first = ordered[0]
    plain = stages[PLAIN]
    stages[PLAIN] = {step: name for step, name in plain.items() if first == PLAIN or step in stages[first]}
    stages[first] = {**plain, **stages[first]}
    return {stage: stages[stage] for stage in ordered if stage == first or stages[stage]}


def stage_order(stages: Stages) -> Callable[[str], Any]:
    """Sort key of the names of stages: the one called pretraining or stage 1 first, then the one with most steps."""
    return lambda stage: (not _FIRST_STAGE.search(stage), -len(stages[stage]), stage)


def by_step(steps: Iterable[tuple[int | None, str]], location: str) -> dict[int, str]:
    """Revisions by step. Revisions without a step (None) are left out.

    Raises:
        SelectionError: two revisions state the same step.
    """
    found: dict[int, str] = {}
    for step, revision in steps:
        if step is None:
            continue
        if found.setdefault(step, revision) != revision:
            raise SelectionError(
                f"{location} has two revisions of step {step}, {found[step]!r} and {revision!r}: "
                "rename or remove one of them"
            )
    return found


def _distinct(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(values))
