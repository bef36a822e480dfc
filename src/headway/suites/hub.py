"""Revisions and files on the Hub, with their hashes, and the Hub's local cache.

The environment sets the endpoint and the cache (`HF_ENDPOINT`, `HF_HUB_CACHE`, `HF_HOME`, `HF_HUB_OFFLINE`). It is read at
each call. The cache has the layout of huggingface_hub and is shared with it.
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
from headway.suites.hub_http import Damaged, Unreachable, ask, cache_dir, endpoint, persistently, transfer

_NOT_ASKED = "HF_HUB_OFFLINE is set, so the Hub is not asked"
_REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)


def is_repo(name: str) -> bool:
    """Whether `name` has the form of a repository name: OWNER/NAME."""
    return bool(_REPO.fullmatch(name))


def offline() -> bool:
    """Whether the environment forbids requests to the Hub."""
    from huggingface_hub import constants

    asked = os.environ.get("HF_HUB_OFFLINE", "").lower() in {"1", "true", "yes", "on"}
    return asked or constants.is_offline_mode()


def repo_folder(repo: str) -> Path:
    """The cache folder of `repo`.

    Raises:
        CheckpointError: `repo` is not a valid repository name. Such a name could lead out of the cache.
    """
    if not is_repo(repo):
        raise CheckpointError(f"{repo!r} does not name a repository of the Hub: write OWNER/NAME")
    return cache_dir() / f"models--{repo.replace('/', '--')}"


def list_revisions(repo: str) -> tuple[str, ...]:
    """Names of the branches and tags of `repo`. Offline, only those in the cache.

    Raises:
        Unreachable: the Hub does not answer.
        CheckpointError: the repository does not exist, or access is denied.
    """
    if offline():
        return cached_revisions(repo)
    return _list_revisions(repo, endpoint())


@lru_cache(maxsize=256)
def _list_revisions(repo: str, endpoint: str) -> tuple[str, ...]:
    names = tuple(commits(repo))
    with suppress(StorageError):  # the saved listing only helps later, if the Hub cannot be reached
        write_whole(_listing_file(repo), to_json({"repo": repo, "names": names}))
    return names


def remembered_revisions(repo: str) -> tuple[str, ...]:
    """Names of the branches and tags of `repo` in the Hub's last saved answer; empty if there is none."""
    try:
        listing = json.loads(_listing_file(repo).read_text(encoding="utf-8"))
        return tuple(name for name in listing["names"] if listing["repo"] == repo and is_plain(name))
    except (OSError, ValueError, KeyError, TypeError):
        return ()


def _listing_file(repo: str) -> Path:
    return own_cache() / "revisions" / f"{hashlib.sha256(repo.encode()).hexdigest()[:24]}.json"


def cached_revisions(repo: str) -> tuple[str, ...]:
    """Names of the branches and tags of `repo` in the cache."""
    refs = repo_folder(repo) / "refs"
    return tuple(sorted(ref.relative_to(refs).as_posix() for ref in refs.rglob("*") if ref.is_file()))


def commits(repo: str) -> Mapping[str, str]:
    """The branches and tags of `repo`, each with its current commit, in one request.

    Raises:
        Unreachable: the Hub does not answer, or the environment forbids requests.
        CheckpointError: the repository does not exist, or access is denied.
    """
    what = f"the revisions of {repo}"
    if offline():
        raise Unreachable(f"{what}: {_NOT_ASKED}")
    return read_revisions(ask(f"/api/models/{quote(repo)}/refs", what), repo)


def list_files(repo: str, revision: str) -> Listing:
    """Files of a revision with sizes and hashes, in one request. The cache is used if the Hub cannot be reached.

    Raises:
        CheckpointError: the repository or revision does not exist, access is denied, or there is no answer and the
            revision is not in the cache.
    """
    if offline():
        return _cached_listing(repo, revision, _NOT_ASKED)
    try:
        return ask_for_files(repo, revision)
    except Unreachable as error:
        return _cached_listing(repo, revision, str(error))


def ask_for_files(repo: str, revision: str) -> Listing:
    """Files of a revision as the Hub lists them now.

    Raises:
        Unreachable: the Hub does not answer.
        CheckpointError: the repository or revision does not exist, or access is denied.
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
    """The cache file that holds the commit of `revision`.

    Raises:
        CheckpointError: `revision` is not a valid name. Such a name could lead out of the cache.
    """
    if not is_plain(revision):
        raise CheckpointError(f"{repo} has no revision {revision!r}: this is not a valid name of a revision")
    return repo_folder(repo) / "refs" / revision


def _digest(cached: Path) -> str:
    """Digest of a cached file. The cache names contents by their digest and links to them. Copies must be hashed."""
    name = os.path.basename(os.readlink(cached)) if cached.is_symlink() else ""
    return digest_of_blob(name) or f"sha256:{sha256_of(cached)}"


def fetch(repo: str, revision: str, listing: Listing, name: str, *, into: Path | None = None) -> Path:
    """Return one file of a revision, from the cache or downloaded and compared with its stated size and hash.

    Args:
        into: a folder to download into instead of the cache.

    Raises:
        CheckpointError: the download fails, or its content differs from the Hub's listing after several tries.
        StorageError: the disk is full, or the cache cannot be written to.
    """
    cached = in_cache(repo, listing, name)
    if cached is not None:
        return cached
    if not listing.complete:
        raise CheckpointError(
            f"{repo} at {revision}: {name} in the cache {cache_dir()} is damaged, and the Hub is offline"
        )
    download = _Download(repo, revision, listing, name)
    work = download.into_cache if into is None else lambda: download.to(into / name)
    try:
        return persistently(work, download.what)
    finally:
        download.discard()


def in_cache(repo: str, listing: Listing, name: str) -> Path | None:
    """The file in the cache, or None if it is missing or has another size than the listing states."""
    path = repo_folder(repo) / "snapshots" / listing.commit / name
    return path if _is_whole(path, listing.files[name]) else None


def _is_whole(path: Path, facts: FileFacts) -> bool:
    return path.is_file() and path.stat().st_size == facts.size


class _Download:
    """A download of one file. After a broken connection it continues with the bytes that have arrived."""

    def __init__(self, repo: str, revision: str, listing: Listing, name: str) -> None:
        self.repo, self.revision, self.commit, self.name = repo, revision, listing.commit, name
        self.facts = listing.files[name]
        self.what = f"{repo} at {revision}: {name}"
        # Unique in each process, because file locks do not work on every file system of a cluster.
        self._ending = f".{uuid.uuid4().hex[:8]}.incomplete"
        self._partial: Path | None = None

    def into_cache(self) -> Path:
        """Download to the cache's `blobs`, and link to it from its `snapshots`."""
        from huggingface_hub.utils import WeakFileLock

        folder = repo_folder(self.repo)
        blob, link = folder / "blobs" / self.facts.blob, folder / "snapshots" / self.commit / self.name
        lock = cache_dir() / ".locks" / folder.name / f"{self.facts.blob}.lock"
        for path in (blob, link, lock):
            path.parent.mkdir(parents=True, exist_ok=True)
        with WeakFileLock(lock):  # so that threads and processes do not download it twice
            if not _is_whole(blob, self.facts):
                self.to(blob)
            _link(link, blob, self.facts)
        _note_commit(self.repo, self.revision, self.commit)
        return link

    def to(self, target: Path) -> Path:
        """Download the file of this commit and move it to `target` if its size and hash are right."""
        self._partial = target.with_name(target.name + self._ending)
        path = f"/{quote(self.repo)}/resolve/{self.commit}/{quote(self.name)}"
        try:
            transfer(path, self._partial, self.facts.size, self.what)
            _require_stated(self._partial, self.facts, self.what)
        except Damaged:
            self.discard()  # the next try must start from the beginning
            raise
        os.replace(self._partial, target)
        return target

    def discard(self) -> None:
        if self._partial is not None:
            self._partial.unlink(missing_ok=True)


def _link(link: Path, blob: Path, facts: FileFacts) -> None:
    """Link `link` to `blob`. File systems without links get a copy."""
    if _is_whole(link, facts):
        return
    link.unlink(missing_ok=True)
    try:
        link.symlink_to(os.path.relpath(blob, link.parent))
    except OSError:
        shutil.copyfile(blob, link)


def _note_commit(repo: str, revision: str, commit: str) -> None:
    """Write the commit of `revision` to the cache, so that it is found if the Hub cannot be reached later."""
    ref = _ref(repo, revision)
    if revision == commit or (ref.is_file() and ref.read_text(errors="replace") == commit):
        return
    ref.parent.mkdir(parents=True, exist_ok=True)
    temporary = ref.with_name(f"{ref.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        temporary.write_text(commit)
        os.replace(temporary, ref)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _require_stated(path: Path, facts: FileFacts, what: str) -> None:
    size = path.stat().st_size
    if size != facts.size:
        raise Damaged(f"{what} arrived with {size} bytes, but the Hub states {facts.size}")
    found = sha256_of(path) if facts.digest.startswith("sha256:") else git_hash_of(path)
    if found != facts.blob:
        raise Damaged(f"{what} arrived with the hash {found[:12]}…, but the Hub states {facts.blob[:12]}…")


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def git_hash_of(path: Path) -> str:
    """Git's hash of a file's content. The Hub states it for files that are not in large-file storage."""
    data = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
