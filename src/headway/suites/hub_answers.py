"""Parses the Hub's answers. Hashes, commits and names reach the file system only after they were checked here.

A server may be hostile, or may be no Hub at all. A hash such as `../../victim` must never become part of a path.
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
    """Size and digest of a file. `digest` is `sha256:...` of the content, or `git:...`, git's hash of a blob."""

    size: int
    digest: str

    @property
    def blob(self) -> str:
        """The name of the content in the Hub's cache."""
        return self.digest.partition(":")[2]


@dataclass(frozen=True)
class Listing:
    """The files of one commit by name. `complete` is false where only the cache is known."""

    commit: str
    files: Mapping[str, FileFacts]
    complete: bool = True


def is_plain(name: object) -> bool:
    """Whether `name` is a relative path that stays below the folder it is joined to, on any system."""
    return (
        isinstance(name, str)
        and "\\" not in name
        and not _DRIVE.match(name)
        and not any(unicodedata.category(character).startswith("C") for character in name)
        and all(part not in ("", ".", "..") for part in name.split("/"))
    )


def read_listing(told: Any, repo: str, revision: str) -> Listing:
    """Parses the answer to `/api/models/REPO/revision/REVISION?blobs=true`.

    Raises:
        CheckpointError: it has another shape, or a name, hash or size that is none.
    """
    what = f"{repo} at {revision}"
    siblings = _member(told, "siblings", list, what) if _is_dict(told) and told.get("siblings") is not None else []
    files = {_name(_member(file, "rfilename", str, what), what): _facts(file, what) for file in siblings}
    return Listing(read_commit(_member(told, "sha", str, what), what), files)


def read_revisions(told: Any, repo: str) -> dict[str, str]:
    """Parses the answer to `/api/models/REPO/refs`: branches and tags, with the commit that each names.

    A name may be both a branch's and a tag's: it then has the two commits, one after the other.

    Raises:
        CheckpointError: as for `read_listing`.
    """
    what = f"the revisions of {repo}"
    found = dict[str, str]()
    for kind in ("branches", "tags"):
        for ref in _member(told, kind, list, what) if _is_dict(told) and kind in told else ():
            name = _name(_member(ref, "name", str, what), what)
            found[name] = found.get(name, "") + read_commit(_member(ref, "targetCommit", str, what), what)
    if not _is_dict(told):
        raise _no_hub(what, told)
    return found


def read_commit(told: str, what: str) -> str:
    """`told`, if it is a commit's hash.

    Raises:
        CheckpointError: it is none.
    """
    if not _SHA1.fullmatch(told):
        raise CheckpointError(f"{what}: {_short(told)} is stated as the commit, which is no hash of 40 hex digits")
    return told


def digest_of_blob(name: str) -> str | None:
    """The digest that a file's name in the cache's `blobs` stands for, or None."""
    if _SHA256.fullmatch(name):
        return f"sha256:{name}"
    return f"git:{name}" if _SHA1.fullmatch(name) else None


def _facts(file: Any, what: str) -> FileFacts:
    what = f"{what}: {file['rfilename']}"
    large = file.get("lfs")
    size = _member(file, "size", int, what)
    if size < 0:
        raise CheckpointError(f"{what}: {size} is stated as the size of the file")
    if large:
        return FileFacts(size, f"sha256:{_hash(_member(large, 'sha256', str, what), _SHA256, what)}")
    return FileFacts(size, f"git:{_hash(_member(file, 'blobId', str, what), _SHA1, what)}")


def _hash(told: str, form: re.Pattern[str], what: str) -> str:
    if not form.fullmatch(told):
        digits = 64 if form is _SHA256 else 40
        raise CheckpointError(f"{what}: {_short(told)} is stated as the hash, which is not {digits} hex digits")
    return told


def _name(told: str, what: str) -> str:
    if not is_plain(told):
        raise CheckpointError(f"{what}: {_short(told)} is stated as a name, which is not a plain relative one")
    return told


def _member(told: Any, name: str, kind: type, what: str) -> Any:
    value = told.get(name) if _is_dict(told) else None
    if not isinstance(value, kind):
        raise _no_hub(what, told)
    return value


def _no_hub(what: str, told: Any) -> CheckpointError:
    return CheckpointError(f"{what}: the server did not answer as the Hub does; it said {_short(told)}")


def _is_dict(told: Any) -> bool:
    return isinstance(told, dict)


def _short(told: Any) -> str:
    said = ascii(told)  # escapes what a terminal would act on
    return said if len(said) <= 100 else f"{said[:99]}…"
