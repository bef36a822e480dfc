"""Cheap signs that a checkpoint's files are still those that they were: nothing is read or downloaded for them.

Where two revisions are equal, so are the files; where they differ, only `identity_of` can tell.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from headway.errors import CheckpointError
from headway.suites import hub
from headway.suites.checkpoint import Checkpoint, FolderSource, HubSource
from headway.suites.files import forget_listings
from headway.suites.hub_http import Unreachable
from headway.suites.selection import TOKENIZER_FILES

_AT_ONCE = 8  # questions to the Hub
_OF_A_CHECKPOINT = (".safetensors", ".bin", ".json", ".txt", ".model")


@dataclass(frozen=True)
class Revisions:
    """Revisions by the checkpoints' keys; `out_of_reach` says of the others why they have none now.

    A checkpoint is in neither where the Hub lists no such revision. `commits` are those of the revisions on the Hub.
    """

    known: Mapping[str, str]
    out_of_reach: Mapping[str, str]
    commits: Mapping[str, str]


def revisions(checkpoints: Iterable[Checkpoint], need: Collection[str]) -> Revisions:
    """The revisions of `checkpoints` as they are now: the commits that the Hub names for the revisions, in one question
    for a repository; in folders, sizes and times.

    Args:
        need: what is read of each, as in `files`.
    """
    checkpoints = list(checkpoints)
    forget_listings()  # what is read from now on must be no older than its stamp
    commits = _commits(_repositories(checkpoints, need))
    known: dict[str, str] = {}
    out_of_reach: dict[str, str] = {}
    of_revisions: dict[str, str] = {}
    for checkpoint in checkpoints:
        try:
            source = checkpoint.source
            stamp = _of_hub(source, need, commits) if isinstance(source, HubSource) else _of_folder(source, need)
        except CheckpointError as error:
            out_of_reach[checkpoint.key] = str(error)
        else:
            if stamp:
                known[checkpoint.key] = stamp
            if stamp and isinstance(source, HubSource):
                of_revisions[checkpoint.key] = stamp.partition(" ")[0]
    return Revisions(known, out_of_reach, of_revisions)


# --- on the Hub -----------------------------------------------------------------------------------------------------


def _places(source: HubSource, need: Collection[str]) -> list[tuple[str, str]]:
    """Every repository and revision that files may come from."""
    places = [(source.repo, source.revision)]
    if "tokenizer" in need:
        places += [(repo, "main") for repo in (source.repo, source.tokenizer_repo) if repo]
    return places


def _repositories(checkpoints: Iterable[Checkpoint], need: Collection[str]) -> list[str]:
    sources = [checkpoint.source for checkpoint in checkpoints if isinstance(checkpoint.source, HubSource)]
    return list(dict.fromkeys(repo for source in sources for repo, _ in _places(source, need)))


def _commits(repositories: list[str]) -> dict[str, Mapping[str, str] | CheckpointError]:
    """Each repository's revisions with their commits, or why they are not known."""
    away: list[CheckpointError] = []

    def ask(repo: str) -> Mapping[str, str] | CheckpointError:
        if away:  # one long wait for a Hub that does not answer is enough
            return away[0]
        try:
            return hub.commits(repo)
        except Unreachable as error:
            away.append(error)
            return error
        except CheckpointError as error:
            return error

    with ThreadPoolExecutor(_AT_ONCE) as threads:
        return dict(zip(repositories, threads.map(ask, repositories), strict=True))


def _of_hub(
    source: HubSource, need: Collection[str], commits: Mapping[str, Mapping[str, str] | CheckpointError]
) -> str:
    named = []
    for repo, revision in _places(source, need):
        there = commits[repo]
        if isinstance(there, CheckpointError):
            raise there
        named.append(there.get(revision, ""))
    return " ".join(named) if named[0] else ""


# --- in a folder ----------------------------------------------------------------------------------------------------


def _of_folder(source: FolderSource, need: Collection[str]) -> str:
    facts = _facts(source.path, _OF_A_CHECKPOINT)
    if "tokenizer" in need:
        for folder in source.fallbacks:
            facts += _facts(folder, TOKENIZER_FILES)
    return hashlib.sha256(repr(facts).encode()).hexdigest()


def _facts(folder: Path, endings: tuple[str, ...]) -> list[tuple[str, int, int]]:
    try:
        seen = [(path.name, path.stat()) for path in sorted(folder.iterdir()) if path.name.endswith(endings)]
    except OSError as error:
        raise CheckpointError(f"{folder} cannot be read: {error.strerror or error}") from error
    return [(name, facts.st_size, facts.st_mtime_ns) for name, facts in seen]
