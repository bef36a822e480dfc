"""A checkpoint: one training run at one step, and where its files come from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class HubSource:
    """A revision of a Hub repository.

    Where it holds no tokenizer, the repository's `main` is asked, then `tokenizer_repo`, if one is known to share it.
    """

    repo: str
    revision: str
    tokenizer_repo: str = ""

    @property
    def location(self) -> str:
        """What holds the whole run."""
        return self.repo

    def __str__(self) -> str:
        return f"{self.repo} at {self.revision}"


@dataclass(frozen=True)
class FolderSource:
    """A folder with files as on the Hub; what it lacks of a tokenizer is looked for in `fallbacks`, in order."""

    path: Path
    fallbacks: tuple[Path, ...] = ()

    @property
    def location(self) -> str:
        """What holds the whole run."""
        return str(self.path.parent)

    def __str__(self) -> str:
        return str(self.path)


Source = HubSource | FolderSource


@dataclass(frozen=True)
class Checkpoint:
    """One run at one step. Small, hashable and picklable: it travels to workers."""

    suite: str
    run: str
    model: str
    size: str
    seed: str
    step: int
    revision: str
    source: Source

    @property
    def key(self) -> str:
        """RUN@STEP, which names its part."""
        return f"{self.run}@{self.step}"
