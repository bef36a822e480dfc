"""What the Hub says and sends: revisions, the files of a revision with their hashes, and the files themselves.

Everything goes through huggingface_hub. The endpoint and the cache are those of the environment (`HF_ENDPOINT`,
`HF_HUB_CACHE`, `HF_HOME`, `HF_HUB_OFFLINE`) at the time of the call. What may pass (429, 5xx, timeouts, connections
that break, files that arrive damaged) is tried again; what will not is one CheckpointError.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from headway.errors import CheckpointError, HeadwayError, StorageError

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoSibling

T = TypeVar("T")

PAUSES = (1.0, 2.0, 4.0, 8.0)  # seconds before the second, third ... try, where the Hub does not say how long
_LONGEST_PAUSE = 300.0
_PASSING = frozenset({408, 429, 500, 502, 503, 504})
_SECONDS = 30.0  # for a question to be answered
_NOT_ASKED = "the Hub is not asked, since HF_HUB_OFFLINE is set"


@dataclass(frozen=True)
class FileFacts:
    """A file as its source states it. `digest` is `sha256:...` of the content, or `git:...`, git's hash of a blob."""

    size: int
    digest: str


@dataclass(frozen=True)
class Listing:
    """The files of one commit by name. `complete` is false where only the cache is known."""

    commit: str
    files: Mapping[str, FileFacts]
    complete: bool = True


class Damaged(OSError):
    """A file arrived that is not the one that the Hub states."""


def endpoint() -> str:
    from huggingface_hub import constants

    return os.environ.get("HF_ENDPOINT", constants.ENDPOINT).rstrip("/")


def cache_dir() -> Path:
    """The Hub's cache, as the environment has it now."""
    from huggingface_hub import constants

    if cache := os.environ.get("HF_HUB_CACHE"):
        return Path(cache).expanduser()
    if home := os.environ.get("HF_HOME"):
        return Path(home).expanduser() / "hub"
    return Path(constants.HF_HUB_CACHE)


def offline() -> bool:
    from huggingface_hub import constants

    asked = os.environ.get("HF_HUB_OFFLINE", "").lower() in {"1", "true", "yes", "on"}
    return asked or constants.is_offline_mode()


def repo_folder(repo: str) -> Path:
    """Where the cache keeps `repo`."""
    return cache_dir() / f"models--{repo.replace('/', '--')}"


def list_revisions(repo: str) -> tuple[str, ...]:
    """The names of the branches and tags of `repo`; offline, of those that the cache has.

    Raises:
        CheckpointError: there is no such repository, or the Hub does not answer.
    """
    if offline():
        refs = repo_folder(repo) / "refs"
        return tuple(sorted(str(ref.relative_to(refs)) for ref in refs.rglob("*") if ref.is_file()))
    return _list_revisions(repo, endpoint())


@lru_cache(maxsize=256)
def _list_revisions(repo: str, endpoint: str) -> tuple[str, ...]:
    return tuple(commits(repo))


def commits(repo: str) -> Mapping[str, str]:
    """The branches and tags of `repo` with the commit that each names now, in one question.

    Raises:
        Unreachable: there is no answer, or the Hub is not to be asked.
        CheckpointError: there is no such repository, or no right to it.
    """
    from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

    if offline():
        raise Unreachable(f"the revisions of {repo}: {_NOT_ASKED}")

    def ask() -> Mapping[str, str]:
        # HfApi.list_repo_refs would wait forever for an answer that does not come.
        url = f"{endpoint()}/api/models/{repo}/refs"
        response = get_session().get(url, headers=build_hf_headers(), timeout=_SECONDS)
        hf_raise_for_status(response)
        told, found = response.json(), dict[str, str]()
        for ref in (ref for kind in ("branches", "tags") for ref in told.get(kind, ())):
            found[ref["name"]] = (
                found.get(ref["name"], "") + ref["targetCommit"]
            )  # a name may be a branch's and a tag's
        return found

    return persistently(ask, f"the revisions of {repo}")


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
    from huggingface_hub import HfApi

    def ask() -> Listing:
        info = HfApi(endpoint=endpoint()).model_info(repo, revision=revision, files_metadata=True, timeout=_SECONDS)
        return Listing(str(info.sha), {file.rfilename: _facts(file) for file in info.siblings or ()})

    return persistently(ask, f"{repo} at {revision}")


def _facts(file: RepoSibling) -> FileFacts:
    return FileFacts(file.size or 0, f"sha256:{file.lfs.sha256}" if file.lfs else f"git:{file.blob_id}")


def _cached_listing(repo: str, revision: str, why: str) -> Listing:
    folder = repo_folder(repo)
    try:
        commit = (folder / "refs" / revision).read_text().strip()
        paths = [path for path in (folder / "snapshots" / commit).iterdir() if path.is_file()]
    except OSError:
        raise CheckpointError(f"{repo} at {revision} is not in the cache {cache_dir()}, and {why}") from None
    return Listing(commit, {path.name: FileFacts(path.stat().st_size, _digest(path)) for path in paths}, complete=False)


def _digest(cached: Path) -> str:
    """A cached file's digest: the cache names contents by it, and links to them; copies are read."""
    name = os.path.basename(os.readlink(cached)) if cached.is_symlink() else ""
    if re.fullmatch(r"[0-9a-f]{64}", name):
        return f"sha256:{name}"
    return f"git:{name}" if re.fullmatch(r"[0-9a-f]{40}", name) else f"sha256:{sha256_of(cached)}"


def fetch(repo: str, revision: str, listing: Listing, name: str, *, into: Path | None = None) -> Path:
    """One file of a revision: from the cache if it is whole there, else downloaded and compared with what is stated.

    Args:
        into: a folder of its own to download into, leaving the cache as it is.

    Raises:
        CheckpointError: it cannot be had, or what arrives is not what the Hub states, also when asked again.
        StorageError: the disk is full, or the cache cannot be written to.
    """
    facts = listing.files[name]
    cached = in_cache(repo, listing, name)
    if cached is not None:
        return cached
    if not listing.complete:
        raise CheckpointError(f"{repo} at {revision}: {name} in the cache {cache_dir()} is damaged, and it is offline")
    _discard_damaged(repo, listing, name)

    def download() -> Path:
        path = _download(repo, revision, listing, name, into)
        _compare(path, facts, f"{repo} at {revision}: {name}")
        return path

    return persistently(download, f"{name} of {repo} at {revision}")


def in_cache(repo: str, listing: Listing, name: str) -> Path | None:
    """The file in the cache, if it is there and of the size that is stated."""
    path = repo_folder(repo) / "snapshots" / listing.commit / name
    return path if path.is_file() and path.stat().st_size == listing.files[name].size else None


def _discard_damaged(repo: str, listing: Listing, name: str) -> None:
    """Removes a file of the wrong size from the cache, where it would be taken for the true one."""
    folder, facts = repo_folder(repo), listing.files[name]
    for path in (folder / "blobs" / facts.digest.partition(":")[2], folder / "snapshots" / listing.commit / name):
        if os.path.lexists(path) and not (path.is_file() and path.stat().st_size == facts.size):
            path.unlink(missing_ok=True)


def _download(repo: str, revision: str, listing: Listing, name: str, into: Path | None) -> Path:
    from huggingface_hub import hf_hub_download

    path = hf_hub_download(
        repo,
        name,
        # By name, the cache notes which commit it is, and finds it when offline; by commit, no other can come.
        revision=revision if into is None else listing.commit,
        cache_dir=cache_dir(),
        local_dir=into,
        endpoint=endpoint(),
        tqdm_class=_silent_bar(),
    )
    return Path(path)


@lru_cache(maxsize=1)
def _silent_bar() -> type:
    from huggingface_hub.utils import tqdm

    class Silent(tqdm):
        def __init__(self, *args: object, **options: object) -> None:
            super().__init__(*args, **{**options, "disable": True})

    return Silent


def _compare(path: Path, facts: FileFacts, what: str) -> None:
    size = path.stat().st_size
    kind, _, stated = facts.digest.partition(":")
    found = "" if size != facts.size else sha256_of(path) if kind == "sha256" else git_hash_of(path)
    if found == stated:
        return
    # Left in the cache it would be taken for the true one.
    path.resolve().unlink(missing_ok=True)
    path.unlink(missing_ok=True)
    if size != facts.size:
        raise Damaged(f"{what} arrived with {size} bytes where the Hub states {facts.size}")
    raise Damaged(f"{what} arrived with the hash {found[:12]}… where the Hub states {stated[:12]}…")


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def git_hash_of(path: Path) -> str:
    """The name that git gives a file's content: what the Hub states of files that are not in large-file storage."""
    data = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


# --- trying again, and saying what went wrong -----------------------------------------------------------------------


class Unreachable(CheckpointError):
    """The Hub did not answer, though asked several times."""


def persistently(call: Callable[[], T], what: str) -> T:
    """`call()`, tried again after a pause where what went wrong may pass.

    Raises:
        Unreachable: there was no answer to the last try.
        CheckpointError: it went wrong for good.
        StorageError: what came cannot be stored.
    """
    for pause in (*PAUSES, None):
        try:
            return call()
        except HeadwayError:
            raise
        except Exception as error:
            cause = _root(error)
            if pause is None or not _may_pass(cause):
                raise _explained(cause, what) from error
            time.sleep(_asked_pause(cause) or pause)
    raise AssertionError("the last try returns or raises")


def _root(error: Exception) -> Exception:
    """The error that huggingface_hub wrapped into "nothing in the cache either", if it did."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    cause = error.__cause__
    return cause if isinstance(error, LocalEntryNotFoundError) and isinstance(cause, Exception) else error


def _status(error: Exception) -> int | None:
    return getattr(getattr(error, "response", None), "status_code", None)


def _is_transport(error: Exception) -> bool:
    from huggingface_hub import errors

    # `HTTPError` is that of the HTTP library that huggingface_hub uses: timeouts and broken connections are of it too.
    return isinstance(error, errors.HTTPError) and _status(error) is None


def _may_pass(error: Exception) -> bool:
    damaged = isinstance(error, Damaged) or (isinstance(error, OSError) and "Consistency check failed" in str(error))
    return _status(error) in _PASSING or _is_transport(error) or damaged


def _asked_pause(error: Exception) -> float | None:
    """How long the Hub asks to wait: `Retry-After`, or `RateLimit: "api";r=0;t=55`."""
    headers = getattr(getattr(error, "response", None), "headers", {})
    after, limit = headers.get("retry-after", ""), re.search(r"r=0;\s*t=(\d+)", headers.get("ratelimit", ""))
    if after.strip().isdigit():
        return min(float(after), _LONGEST_PAUSE)
    return min(float(limit[1]) + 1, _LONGEST_PAUSE) if limit else None


def _explained(error: Exception, what: str) -> HeadwayError:
    from huggingface_hub import errors

    reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
    if isinstance(error, errors.GatedRepoError):
        return CheckpointError(
            f"{what}: the repository is gated. Accept its terms on the Hub, then sign in (`hf auth login`, or HF_TOKEN)"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return CheckpointError(f"{what}: the repository has no such revision")
    if isinstance(error, errors.RepositoryNotFoundError):
        return CheckpointError(
            f"{what}: the Hub has no such repository, or it is private; sign in if it is (`hf auth login`, or HF_TOKEN)"
        )
    if isinstance(error, errors.EntryNotFoundError):
        return CheckpointError(f"{what}: the Hub lists the file but does not serve it")
    if _status(error) is not None:
        return CheckpointError(f"{what}: the Hub answers {_status(error)} ({reason}); try again later")
    if _is_transport(error):
        return Unreachable(f"{what}: {endpoint()} does not answer ({type(error).__name__}: {reason}); try again later")
    if isinstance(error, Damaged) or "Consistency check failed" in reason:
        return CheckpointError(f"{reason}, {len(PAUSES) + 1} times; the file on the Hub seems to be damaged")
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
        return StorageError(
            f"{what} cannot be stored in {cache_dir()}: {error.strerror}; free space, or set HF_HUB_CACHE"
        )
    return CheckpointError(f"{what}: {type(error).__name__}: {reason}")
