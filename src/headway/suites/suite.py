"""A suite: its runs, their steps, and the selection of checkpoints."""

from __future__ import annotations

import html
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from headway.errors import SelectionError
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


@dataclass(frozen=True)
class Run:
    """One training run.

    Attributes:
        location: its Hub repository or its folder.
        axes: its value on each axis that the suite has beside size and seed, by name.
    """

    name: str
    model: str
    size: str
    seed: str
    location: str | Path
    revisions: Revisions
    tokenizer_repo: str = ""
    axes: Axes = ()

    def of_stage(self, stage: str) -> Run:
        """The same run in a later training stage, whose steps start from 0 again."""
        return replace(self, name=f"{self.name}-{stage}", model=f"{self.model}-{stage}")

    def source(self, revision: str) -> Source:
        if isinstance(self.location, Path):
            return FolderSource(self.location / revision, fallbacks=(self.location, self.location.parent))
        return HubSource(self.location, revision, self.tokenizer_repo)


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

    def __str__(self) -> str:
        lines = [
            f"{self.name}: {self.about}",
            f"  runs   {self.n_runs}, from {self.origin}",
            f"  sizes  {', '.join(self.sizes)}",
            f"  seeds  {', '.join(self.seeds)}",
            *(f"  {name}  {', '.join(values)}" for name, values in self.axes),
            f"  steps  {self.steps}",
            *(f"  note   {note}" for note in self.notes),
        ]
        return "\n".join(lines)


class Suite:
    """A family of training runs.

    Attributes:
        name: the suite's name in tables.
        runs: ordered by size, then axes, then seed.
        corpus: the default corpus for measurements, or None.
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
    ) -> None:
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
        )

    def checkpoints(self, where: str = "") -> list[Checkpoint]:
        """Return the selected checkpoints, ordered by size, seed and step.

        Only the revisions of selected runs are listed. A step that only some runs have is selected in those runs.
        `first` and `last` mean the first and last step of each run.

        Args:
            where: such as `size=14m,70m seed=1..3 step=0,512,last`; all checkpoints if empty.

        Raises:
            SelectionError: the selection cannot be parsed, or names an unknown size, seed, step or run.
            CheckpointError: the Hub does not answer a request for a run's revisions.
        """
        asked = parse_where(where, tuple(self.axes))
        runs = {run.name: (run, steps) for one in self._choose_runs(asked) for run, steps in self._stages(one, asked)}
        revisions = {name: dict(sorted(steps.items())) for name, (_, steps) in runs.items()}
        chosen = self._choose_steps(asked, revisions)
        return [
            self._checkpoint(run, step, revision)
            for name, (run, _) in runs.items()
            for step, revision in revisions[name].items()
            if step in chosen[name]
        ]

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
        return Checkpoint(
            self.name, run.name, run.model, run.size, run.seed, step, revision, run.source(revision), run.axes
        )


def _place(run: Run) -> tuple[Any, ...]:
    """Sort key of runs."""
    axes = tuple(level_order(value) for _, value in run.axes)
    return (size_order(run.size), axes, natural_order(run.seed), run.name)


_FIRST_STAGE = re.compile(r"pre-?train|stage-?1(?!\d)", re.IGNORECASE)


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
    ordered = sorted(stages, key=lambda stage: (not _FIRST_STAGE.search(stage), -len(stages[stage]), stage))
    first = ordered[0]
    plain = stages[PLAIN]
    stages[PLAIN] = {step: name for step, name in plain.items() if first == PLAIN or step in stages[first]}
    stages[first] = {**plain, **stages[first]}
    return {stage: stages[stage] for stage in ordered if stage == first or stages[stage]}


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
