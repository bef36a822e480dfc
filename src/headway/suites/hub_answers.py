"""Parse the Hub's answers, and check every hash, commit and name before it reaches the file system.

The server may be hostile, or may not be the Hub. A hash such as `../../victim` must never become part of a path.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from headway.errors import CheckpointError

_SHA1 = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_DRIVE = re.compile(r"[A-Za-z]:")


@dataclass(frozen=True)
class FileFacts:
    """Size and digest of a file. `digest` is `sha256:` plus the content's hash, or `git:` plus git's hash of a blob."""

    size: int
    digest: str

    @property
    def blob(self) -> str:
        """Name of the content in the Hub's cache."""
        return self.digest.partition(":")[2]


@dataclass(frozen=True)
class Listing:
    """Files of one commit by name. `complete` is false if they were read from the cache, which may lack some."""

    commit: str
    files: Mapping[str, FileFacts]
    complete: bool = True


def is_plain(name: object) -> bool:
    """Whether `name` is a relative path that stays below the folder it is joined to, on any operating system."""
    return (
        isinstance(name, str)
        and "\\" not in name
        and not _DRIVE.match(name)
        and not any(unicodedata.category(character).startswith("C") for character in name)
        and all(part not in ("", ".", "..") for part in name.split("/"))
    )


def read_listing(answer: Any, repo: str, revision: str) -> Listing:
    """Parse the answer to `/api/models/REPO/revision/REVISION?blobs=true`.

    Raises:
        CheckpointError: the answer has another form, or an invalid name, hash or size.
    """
    what = f"{repo} at {revision}"
    siblings = (
        _member(answer, "siblings", list, what) if _is_dict(answer) and answer.get("siblings") is not None else []
    )
    files = {_name(_member(file, "rfilename", str, what), what): _facts(file, what) for file in siblings}
    return Listing(read_commit(_member(answer, "sha", str, what), what), files)


def read_revisions(answer: Any, repo: str) -> dict[str, str]:
    """Parse the answer to `/api/models/REPO/refs`: branches and tags, each with its commit.

    If a branch and a tag have the same name, its value is the two commits, one after the other.

    Raises:
        CheckpointError: as for `read_listing`.
    """
    what = f"the revisions of {repo}"
    found = dict[str, str]()
    for kind in ("branches", "tags"):
        for ref in _member(answer, kind, list, what) if _is_dict(answer) and kind in answer else ():
            name = _name(_member(ref, "name", str, what), what)
            found[name] = found.get(name, "") + read_commit(_member(ref, "targetCommit", str, what), what)
    if not _is_dict(answer):
        raise _not_the_hub(what, answer)
    return found


def read_commit(answer: str, what: str) -> str:
    """Return `answer` if it is the hash of a commit.

    Raises:
        CheckpointError: it is not.
    """
    if not _SHA1.fullmatch(answer):
        raise CheckpointError(f"{what}: the server states the commit {_short(answer)}, which is not 40 hex digits")
    return answer


def digest_of_blob(name: str) -> str | None:
    """Digest of the file with this name in the cache's `blobs`; None if the name is no hash."""
    if _SHA256.fullmatch(name):
        return f"sha256:{name}"
    return f"git:{name}" if _SHA1.fullmatch(name) else None


def _facts(file: Any, what: str) -> FileFacts:
    what = f"{what}: {file['rfilename']}"
    large = file.get("lfs")
    size = _member(file, "size", int, what)
    if size < 0:
        raise CheckpointError(f"{what}: the server states a file size of {size}")
    if large:
        return FileFacts(size, f"sha256:{_hash(_member(large, 'sha256', str, what), _SHA256, what)}")
    return FileFacts(size, f"git:{_hash(_member(file, 'blobId', str, what), _SHA1, what)}")


def _hash(answer: str, form: re.Pattern[str], what: str) -> str:
    if not form.fullmatch(answer):
        digits = 64 if form is _SHA256 else 40
        raise CheckpointError(f"{what}: the server states the hash {_short(answer)}, which is not {digits} hex digits")
    return answer


def _name(answer: str, what: str) -> str:
    if not is_plain(answer):
        raise CheckpointError(
            f"{what}: the server states the name {_short(answer)}, which is not a plain relative path"
        )
    return answer


def _member(answer: Any, name: str, kind: type, what: str) -> Any:
    value = answer.get(name) if _is_dict(answer) else None
    if not isinstance(value, kind):
        raise _not_the_hub(what, answer)
    return value


def _not_the_hub(what: str, answer: Any) -> CheckpointError:
    return CheckpointError(f"{what}: the server does not answer like the Hub. It sent {_short(answer)}")


def _is_dict(answer: Any) -> bool:
    return isinstance(answer, dict)


def _short(answer: Any) -> str:
    text = ascii(answer)  # escapes control characters, which a terminal would act on
    return text if len(text) <= 100 else f"{text[:99]}…"
