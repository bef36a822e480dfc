"""Cheap checks for changed checkpoint files. Nothing is read or downloaded.

Equal revisions mean equal files. If revisions differ, only `identity_of` can tell whether the files do.
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

_PARALLEL_REQUESTS = 8  # requests to the Hub at the same time
_CHECKPOINT_ENDINGS = (".safetensors", ".bin", ".json", ".txt", ".model")


@dataclass(frozen=True)
class Revisions:
    """Current revisions of checkpoints, by their keys.

    A checkpoint is in neither `known` nor `out_of_reach` if the Hub lists no such revision.

    Attributes:
        known: the revision: commits for the Hub, a hash of file sizes and times for folders.
        out_of_reach: why the revision could not be determined.
        commits: the commit of each checkpoint on the Hub.
    """

    known: Mapping[str, str]
    out_of_reach: Mapping[str, str]
    commits: Mapping[str, str]


def revisions(checkpoints: Iterable[Checkpoint], need: Collection[str]) -> Revisions:
    """Return the current revisions of `checkpoints`.

    On the Hub these are commits, with one request per repository. In folders these are file sizes and times.

    Args:
        need: the files that are read of each checkpoint, as in `files`.
    """
    checkpoints = list(checkpoints)
    forget_listings()  # files that are read from now on must not be older than the revisions determined here
    commits = _commits(_repositories(checkpoints, need))
    known: dict[str, str] = {}
    out_of_reach: dict[str, str] = {}
    commit_of: dict[str, str] = {}
    for checkpoint in checkpoints:
        try:
            source = checkpoint.source
            revision = _of_hub(source, need, commits) if isinstance(source, HubSource) else _of_folder(source, need)
        except CheckpointError as error:
            out_of_reach[checkpoint.key] = str(error)
        else:
            if revision:
                known[checkpoint.key] = revision
            if revision and isinstance(source, HubSource):
                commit_of[checkpoint.key] = revision.partition(" ")[0]
    return Revisions(known, out_of_reach, commit_of)


# --- on the Hub -----------------------------------------------------------------------------------------------------


def _origins(source: HubSource, need: Collection[str]) -> list[tuple[str, str]]:
    """All repositories and revisions that the files may come from."""
    origins = [(source.repo, source.revision)]
    if "tokenizer" in need:
        origins += [(repo, "main") for repo in (source.repo, source.tokenizer_repo) if repo]
    return origins


def _repositories(checkpoints: Iterable[Checkpoint], need: Collection[str]) -> list[str]:
    sources = [checkpoint.source for checkpoint in checkpoints if isinstance(checkpoint.source, HubSource)]
    return list(dict.fromkeys(repo for source in sources for repo, _ in _origins(source, need)))


def _commits(repositories: list[str]) -> dict[str, Mapping[str, str] | CheckpointError]:
    """The commits of each repository's revisions, or the error that prevented the request."""
    unreachable: list[CheckpointError] = []

    def ask(repo: str) -> Mapping[str, str] | CheckpointError:
        if unreachable:  # one long wait for a Hub that does not answer is enough
            return unreachable[0]
        try:
            return hub.commits(repo)
        except Unreachable as error:
            unreachable.append(error)
            return error
        except CheckpointError as error:
            return error

    with ThreadPoolExecutor(_PARALLEL_REQUESTS) as threads:
        return dict(zip(repositories, threads.map(ask, repositories), strict=True))


def _of_hub(
    source: HubSource, need: Collection[str], commits: Mapping[str, Mapping[str, str] | CheckpointError]
) -> str:
    named = []
    for repo, revision in _origins(source, need):
        found = commits[repo]
        if isinstance(found, CheckpointError):
            raise found
        named.append(found.get(revision, ""))
    return " ".join(named) if named[0] else ""


# --- in a folder ----------------------------------------------------------------------------------------------------


def _of_folder(source: FolderSource, need: Collection[str]) -> str:
    facts = _facts(source.path, _CHECKPOINT_ENDINGS)
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
