"""A checkpoint: one training run at one step, and the source of its files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headway.tables import TOKENS_SEEN, axis_column

# Names of axes with their values, in the suite's order, such as (("repeated", "0.5"), ("window", "none")).
Axes = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class HubSource:
    """A revision of a Hub repository.

    If the revision holds no tokenizer, the repository's `main` is tried, then `tokenizer_repo`.

    Attributes:
        run_location: a name for the run's repositories, if each of its steps has a repository of its own.
    """

    repo: str
    revision: str
    tokenizer_repo: str = ""
    run_location: str = ""

    @property
    def location(self) -> str:
        """The repository that holds the whole run, or the common name of the run's repositories."""
        return self.run_location or self.repo

    def __str__(self) -> str:
        return f"{self.repo} at {self.revision}"


@dataclass(frozen=True)
class FolderSource:
    """A folder laid out like a Hub revision. If it holds no tokenizer, `fallbacks` are tried in order."""

    path: Path
    fallbacks: tuple[Path, ...] = ()

    @property
    def location(self) -> str:
        """The folder that holds the whole run."""
        return str(self.path.parent)

    def __str__(self) -> str:
        return str(self.path)


Source = HubSource | FolderSource


@dataclass(frozen=True)
class Checkpoint:
    """One run at one step. It is small, hashable and picklable, so it can be sent to workers.

    Attributes:
        axes: in what else the runs of the suite differ, by name: such as one cause of a laboratory, or the training data.
        tokens: how many tokens the run has seen; None if unknown. Numbers that come from a revision's name are rounded.
    """

    suite: str
    run: str
    model: str
    size: str
    seed: str
    step: int
    revision: str
    source: Source
    axes: Axes = ()
    tokens: int | None = None

    @property
    def columns(self) -> dict[str, Any]:
        """The columns that identify the checkpoint in a table, by name; those of its axes are the last."""
        named = {name: getattr(self, name) for name in ("suite", "run", "model", "size", "seed", "step")}
        named[TOKENS_SEEN.name] = self.tokens
        return named | {axis_column(name): value for name, value in self.axes}

    @property
    def key(self) -> str:
        """RUN@STEP, which names the checkpoint's partition."""
        return f"{self.run}@{self.step}"
