"""The Hub's revisions and files, with their hashes, and its cache.

The endpoint and the cache are those of the environment (`HF_ENDPOINT`, `HF_HUB_CACHE`, `HF_HOME`, `HF_HUB_OFFLINE`) at
the time of the call. The cache is laid out as huggingface_hub lays it out, and shared with it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from urllib.parse import quote

from headway.errors import CheckpointError, StorageError
from headway.store.cache import own_cache
from headway.store.files import to_json, write_whole
from headway.suites.hub_answers import (
    FileFacts,
    Listing,
    digest_of_blob,
    is_plain,
    read_commit,
    read_listing,
    read_revisions,
)
from headway.suites.hub_http import Damaged, Unreachable, ask, endpoint, persistently, transfer

_NOT_ASKED = "the Hub is not asked, since HF_HUB_OFFLINE is set"
_REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)


def is_repo(name: str) -> bool:
    """Whether `name` is written as a repository's: OWNER/NAME."""
    return bool(_REPO.fullmatch(name))


def cache_dir() -> Path:
    """The Hub's cache, as the environment has it now."""
    from huggingface_hub import constants

    if cache := os.environ.get("HF_HUB_CACHE"):
        return Path(cache).expanduser()
    if home := os.environ.get("HF_HOME"):
        return Path(home).expanduser() / "hub"
    return Path(constants.HF_HUB_CACHE)


def offline() -> bool:
    """Whether the environment forbids to ask the Hub."""
    from huggingface_hub import constants

    asked = os.environ.get("HF_HUB_OFFLINE", "").lower() in {"1", "true", "yes", "on"}
    return asked or constants.is_offline_mode()


def repo_folder(repo: str) -> Path:
    """The folder of `repo` in the cache.

    Raises:
        CheckpointError: it is not written as a repository's name, and could lead out of the cache.
    """
    if not is_repo(repo):
        raise CheckpointError(f"{repo!r} does not name a repository of the Hub: write OWNER/NAME")
    return cache_dir() / f"models--{repo.replace('/', '--')}"


def list_revisions(repo: str) -> tuple[str, ...]:
    """The names of the branches and tags of `repo`; of those in the cache where the Hub is not to be asked.

    Raises:
        Unreachable: the Hub does not answer.
        CheckpointError: there is no such repository, or no right to it.
    """
    if offline():
        return cached_revisions(repo)
    return _list_revisions(repo, endpoint())


@lru_cache(maxsize=256)
def _list_revisions(repo: str, endpoint: str) -> tuple[str, ...]:
    names = tuple(commits(repo))
    with suppress(StorageError):  # a convenience for later, when the Hub is out of reach
        write_whole(_listing_file(repo), to_json({"repo": repo, "names": names}))
    return names


def remembered_revisions(repo: str) -> tuple[str, ...]:
    """The names of the branches and tags of `repo` that the Hub listed when it was last asked; none if it was not."""
    try:
        said = json.loads(_listing_file(repo).read_text(encoding="utf-8"))
        return tuple(name for name in said["names"] if said["repo"] == repo and is_plain(name))
    except (OSError, ValueError, KeyError, TypeError):
        return ()


def _listing_file(repo: str) -> Path:
    return own_cache() / "revisions" / f"{hashlib.sha256(repo.encode()).hexdigest()[:24]}.json"


def cached_revisions(repo: str) -> tuple[str, ...]:
    """The names of the branches and tags of `repo` that the cache has."""
    refs = repo_folder(repo) / "refs"
    return tuple(sorted(ref.relative_to(refs).as_posix() for ref in refs.rglob("*") if ref.is_file()))


def commits(repo: str) -> Mapping[str, str]:
    """The branches and tags of `repo` with the commit that each names now, in one question.

    Raises:
        Unreachable: there is no answer, or the Hub is not to be asked.
        CheckpointError: there is no such repository, or no right to it.
    """
    what = f"the revisions of {repo}"
    if offline():
        raise Unreachable(f"{what}: {_NOT_ASKED}")
    return read_revisions(ask(f"/api/models/{quote(repo)}/refs", what), repo)


def list_files(repo: str, revision: str) -> Listing:
    """The files of a revision with sizes and hashes, in one question; from the cache where the Hub is out of reach.

    Raises:
        CheckpointError: no such repository or revision, no right to it, or no answer and nothing in the cache.
    """
    if offline():
        return _cached_listing(repo, revision, _NOT_ASKED)
    try:
        return ask_for_files(repo, revision)
    except Unreachable as error:
        return _cached_listing(repo, revision, str(error))


def ask_for_files(repo: str, revision: str) -> Listing:
    """The files of a revision as the Hub states them now.

    Raises:
        Unreachable: there is no answer.
        CheckpointError: no such repository or revision, or no right to it.
    """
    path = f"/api/models/{quote(repo)}/revision/{quote(revision, safe='')}?blobs=true"
    return read_listing(ask(path, f"{repo} at {revision}"), repo, revision)


def _cached_listing(repo: str, revision: str, why: str) -> Listing:
    folder = repo_folder(repo)
    try:
        commit = read_commit(_ref(repo, revision).read_text().strip(), f"{repo} at {revision} in the cache")
        paths = [path for path in (folder / "snapshots" / commit).iterdir() if path.is_file()]
    except (OSError, UnicodeDecodeError):
        raise CheckpointError(f"{repo} at {revision} is not in the cache {cache_dir()}, and {why}") from None
    return Listing(commit, {path.name: FileFacts(path.stat().st_size, _digest(path)) for path in paths}, complete=False)


def _ref(repo: str, revision: str) -> Path:
    """The file in which the cache notes the commit of `revision`.

    Raises:
        CheckpointError: no revision can have that name, which could lead out of the cache.
    """
    if not is_plain(revision):
        raise CheckpointError(f"{repo} has no revision {revision!r}: revisions are not named so")
    return repo_folder(repo) / "refs" / revision


def _digest(cached: Path) -> str:
    """A cached file's digest: the cache names contents by it, and links to them; copies are read."""
    name = os.path.basename(os.readlink(cached)) if cached.is_symlink() else ""
    return digest_of_blob(name) or f"sha256:{sha256_of(cached)}"


def fetch(repo: str, revision: str, listing: Listing, name: str, *, into: Path | None = None) -> Path:
    """One file of a revision: from the cache if it is whole there, else downloaded and compared with what is stated.

    Args:
        into: a folder of its own to download into, leaving the cache as it is.

    Raises:
        CheckpointError: it cannot be had, or what arrives is not what the Hub states, also when asked again.
        StorageError: the disk is full, or the cache cannot be written to.
    """
    cached = in_cache(repo, listing, name)
    if cached is not None:
        return cached
    if not listing.complete:
        raise CheckpointError(f"{repo} at {revision}: {name} in the cache {cache_dir()} is damaged, and it is offline")
    download = _Download(repo, revision, listing, name)
    work = download.into_cache if into is None else lambda: download.to(into / name)
    try:
        return persistently(work, download.what)
    finally:
        download.discard()


def in_cache(repo: str, listing: Listing, name: str) -> Path | None:
    """The file in the cache, if it is there and of the size that is stated."""
    path = repo_folder(repo) / "snapshots" / listing.commit / name
    return path if _is_whole(path, listing.files[name]) else None


def _is_whole(path: Path, facts: FileFacts) -> bool:
    return path.is_file() and path.stat().st_size == facts.size


class _Download:
    """One file on its way; what arrived of it before a connection broke is not asked for again."""

    def __init__(self, repo: str, revision: str, listing: Listing, name: str) -> None:
        self.repo, self.revision, self.commit, self.name = repo, revision, listing.commit, name
        self.facts = listing.files[name]
        self.what = f"{repo} at {revision}: {name}"
        # Its own in each process: locks do not hold on every file system of a cluster.
        self._ending = f".{uuid.uuid4().hex[:8]}.incomplete"
        self._partial: Path | None = None

    def into_cache(self) -> Path:
        """Downloads to the cache's `blobs`, and links to that from its `snapshots`."""
        from huggingface_hub.utils import WeakFileLock

        folder = repo_folder(self.repo)
        blob, link = folder / "blobs" / self.facts.blob, folder / "snapshots" / self.commit / self.name
        lock = cache_dir() / ".locks" / folder.name / f"{self.facts.blob}.lock"
        for path in (blob, link, lock):
            path.parent.mkdir(parents=True, exist_ok=True)
        with WeakFileLock(lock):  # so that threads and processes do not fetch it twice
            if not _is_whole(blob, self.facts):
                self.to(blob)
            _link(link, blob, self.facts)
        _note(self.repo, self.revision, self.commit)
        return link

    def to(self, target: Path) -> Path:
        """Downloads by the commit, so that nothing else can come, and moves it to `target` if it is what is stated."""
        self._partial = target.with_name(target.name + self._ending)
        path = f"/{quote(self.repo)}/resolve/{self.commit}/{quote(self.name)}"
        try:
            transfer(path, self._partial, self.facts.size, self.what)
            _compare(self._partial, self.facts, self.what)
        except Damaged:
            self.discard()  # the next try must not go on from it
            raise
        os.replace(self._partial, target)
        return target

    def discard(self) -> None:
        if self._partial is not None:
            self._partial.unlink(missing_ok=True)


def _link(link: Path, blob: Path, facts: FileFacts) -> None:
    """Makes `link` stand for `blob`, as a copy on file systems without links."""
    if _is_whole(link, facts):
        return
    link.unlink(missing_ok=True)
    try:
        link.symlink_to(os.path.relpath(blob, link.parent))
    except OSError:
        shutil.copyfile(blob, link)


def _note(repo: str, revision: str, commit: str) -> None:
    """Notes in the cache which commit `revision` is, so that it is found where the Hub is out of reach."""
    ref = _ref(repo, revision)
    if revision == commit or (ref.is_file() and ref.read_text(errors="replace") == commit):
        return
    ref.parent.mkdir(parents=True, exist_ok=True)
    passing = ref.with_name(f"{ref.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        passing.write_text(commit)
        os.replace(passing, ref)
    finally:
        with suppress(OSError):
            passing.unlink(missing_ok=True)


def _compare(path: Path, facts: FileFacts, what: str) -> None:
    size = path.stat().st_size
    if size != facts.size:
        raise Damaged(f"{what} arrived with {size} bytes where the Hub states {facts.size}")
    found = sha256_of(path) if facts.digest.startswith("sha256:") else git_hash_of(path)
    if found != facts.blob:
        raise Damaged(f"{what} arrived with the hash {found[:12]}… where the Hub states {facts.blob[:12]}…")


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def git_hash_of(path: Path) -> str:
    """The name that git gives a file's content: what the Hub states of files that are not in large-file storage."""
    data = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
