"""A suite: runs, their steps, and the selection of checkpoints among them."""

from __future__ import annotations

import html
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from headway.errors import SelectionError
from headway.suites.checkpoint import Checkpoint, FolderSource, HubSource, Source
from headway.suites.names import PLAIN, natural_order, parse_revision, size_order
from headway.suites.where import Where, parse_where
from headway.text import count

# Of each stage of training, the revision of each step. The first stage is the one that is taken unless another is named.
Stages = Mapping[str, Mapping[int, str]]


class Revisions(Protocol):
    """Which revision holds which step. Asking may ask the Hub; `describe()` does not ask it."""

    def __call__(self) -> Stages: ...

    def describe(self) -> str: ...


@dataclass(frozen=True)
class Run:
    """One training run. `place` is its Hub repository or its folder."""

    name: str
    model: str
    size: str
    seed: str
    place: str | Path
    revisions: Revisions
    tokenizer_repo: str = ""

    def of_stage(self, stage: str) -> Run:
        """The same run in a later stage of training, whose steps count anew."""
        return replace(self, name=f"{self.name}-{stage}", model=f"{self.model}-{stage}")

    def source(self, revision: str) -> Source:
        if isinstance(self.place, Path):
            return FolderSource(self.place / revision, fallbacks=(self.place, self.place.parent))
        return HubSource(self.place, revision, self.tokenizer_repo)


@dataclass(frozen=True)
class SuiteInfo:
    """What is known of a suite without fetching anything; `str()` of it is for people."""

    name: str
    about: str
    origin: str
    sizes: tuple[str, ...]
    seeds: tuple[str, ...]
    n_runs: int
    steps: str
    notes: tuple[str, ...]

    def __str__(self) -> str:
        lines = [
            f"{self.name}: {self.about}",
            f"  runs   {self.n_runs}, from {self.origin}",
            f"  sizes  {', '.join(self.sizes)}",
            f"  seeds  {', '.join(self.seeds)}",
            f"  steps  {self.steps}",
            *(f"  note   {note}" for note in self.notes),
        ]
        return "\n".join(lines)


class Suite:
    """A family of training runs that belong together.

    Attributes:
        name: what it is called in tables.
        runs: ordered by size, then seed.
        corpus: the corpus it is measured on where none is named, if it comes with one.
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
        self.runs = tuple(sorted(runs, key=lambda run: (size_order(run.size), natural_order(run.seed), run.name)))

    def __repr__(self) -> str:
        return f"<Suite {self.name}: {count(len(self.runs), 'run')}>"

    def _repr_html_(self) -> str:
        """What is known of the suite, for a notebook."""
        return f"<pre>{html.escape(str(self.describe()))}</pre>"

    def describe(self) -> SuiteInfo:
        """Name, sizes, seeds and steps; nothing is fetched for it."""
        return SuiteInfo(
            name=self.name,
            about=self.about,
            origin=self.origin,
            sizes=_distinct(run.size for run in self.runs),
            seeds=tuple(sorted({run.seed for run in self.runs}, key=natural_order)),
            n_runs=len(self.runs),
            steps="; ".join(_distinct(run.revisions.describe() for run in self.runs)),
            notes=self.notes,
        )

    def checkpoints(self, where: str = "") -> list[Checkpoint]:
        """The selected checkpoints, ordered by size, seed and step.

        Only the selected runs' revisions are listed. A step that some of them have is taken where it is; `first` and
        `last` are each run's own.

        Args:
            where: such as `size=14m,70m seed=1..3 step=0,512,last`; everything if empty.

        Raises:
            SelectionError: the selection is not understood, or names a size, seed, step or run that is not known.
            CheckpointError: the Hub has to be asked for a run's revisions and does not tell.
        """
        asked = parse_where(where)
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
        """The stages of `run` that are asked for. Each but the first is a run of its own, named after its stage."""
        stages = run.revisions()
        default, *others = stages
        if others and "stage" not in where.items:
            told = ", ".join(f"{name} ({count(len(steps), 'step')})" for name, steps in stages.items())
            warnings.warn(
                f"the revisions of {run.name} are of several stages: {told}. {default} is taken; choose others with "
                f'--where "stage={others[0]}"',
                stacklevel=5,
            )
            return [(run, stages[default])]
        asked = where.choose("stage", list(stages), run.name)
        return [(run if name == default else run.of_stage(name), stages[name]) for name in stages if name in asked]

    def _choose_runs(self, where: Where) -> list[Run]:
        of = f"the suite {self.name!r}"
        sizes = where.choose("size", _distinct(run.size for run in self.runs), of)
        names = where.choose("run", [run.name for run in self.runs], of)
        left = [run for run in self.runs if run.size in sizes and run.name in names]
        # Seeds are looked for among the chosen sizes: data-seed1 exists for 160m alone.
        known = sorted({run.seed for run in left}, key=natural_order)
        narrowed = f"{of} ({', '.join(_distinct(run.size for run in left))})" if "size" in where.items else of
        seeds = where.choose("seed", known, narrowed)
        return [run for run in left if run.seed in seeds]

    def _choose_steps(self, where: Where, revisions: Mapping[str, Mapping[int, str]]) -> dict[str, set[int]]:
        items = where.items.get("step")
        if items is None:
            return {run: set(steps) for run, steps in revisions.items()}
        of = f"the suite {self.name!r}"
        known = [str(step) for step in sorted({step for steps in revisions.values() for step in steps})]
        shared = where.choose("step", known, of, asked=[item for item in items if item not in ("first", "last")])
        ends = [item for item in items if item in ("first", "last")]
        return {
            run: {int(step) for step in shared | where.choose("step", [str(s) for s in steps], run, asked=ends)}
            for run, steps in revisions.items()
        }

    def _checkpoint(self, run: Run, step: int, revision: str) -> Checkpoint:
        return Checkpoint(self.name, run.name, run.model, run.size, run.seed, step, revision, run.source(revision))


_FIRST_STAGE = re.compile(r"pre-?train|stage-?1(?!\d)", re.IGNORECASE)


def by_stage(names: Iterable[str], place: str) -> Stages:
    """The revisions whose names state a step, by stage: names of one stage differ by their numbers alone.

    First comes the stage that is called pretraining or stage 1, else the one with most steps. Names that state nothing
    but a step, beside others that name stages, belong to the first where it lacks their steps.

    Raises:
        SelectionError: two revisions of one stage state the same step.
    """
    found: dict[str, list[tuple[int, str]]] = {PLAIN: []}
    for name in names:
        if stated := parse_revision(name):
            found.setdefault(stated.stage, []).append((stated.step, name))
    stages = {stage: by_step(steps, place) for stage, steps in found.items()}
    ordered = sorted(stages, key=lambda stage: (not _FIRST_STAGE.search(stage), -len(stages[stage]), stage))
    first = ordered[0]
    plain = stages[PLAIN]
    stages[PLAIN] = {step: name for step, name in plain.items() if first == PLAIN or step in stages[first]}
    stages[first] = {**plain, **stages[first]}
    return {stage: stages[stage] for stage in ordered if stage == first or stages[stage]}


def by_step(steps: Iterable[tuple[int | None, str]], place: str) -> dict[int, str]:
    """Revisions by their step; those without one (None) are left out.

    Raises:
        SelectionError: two revisions state the same step, so that neither can be told apart by it.
    """
    found: dict[int, str] = {}
    for step, revision in steps:
        if step is None:
            continue
        if found.setdefault(step, revision) != revision:
            raise SelectionError(
                f"{place} holds step {step} twice, as {found[step]!r} and {revision!r}: "
                "rename or remove one, so that a step is one checkpoint"
            )
    return found


def _distinct(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(values))
