"""Reuse saved results: a study of the same tables with the same options and the same code need not be run again."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from headway import __version__
from headway.errors import HeadwayError
from headway.store.directory import RunDirectory
from headway.studies.result import Result, as_json
from headway.studies.stacks import subject_of

_PACKAGE = Path(__file__).parents[1]
_DECISIVE = ("numpy", "polars", "scipy")


def making(options: Mapping[str, Any]) -> dict[str, Any]:
    """What decides a study's numbers besides its tables: the options, headway's code, and the packages that compute."""
    return {
        "options": as_json(dict(options)),
        "code": code(_PACKAGE),
        "versions": {"headway": __version__} | {package: version(package) for package in _DECISIVE},
    }


@lru_cache(maxsize=8)
def code(package: Path) -> str:
    """A hash of the Python files in a folder. A version alone does not change while someone edits headway."""
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(f"{path.relative_to(package).as_posix()}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def saved(rundir: RunDirectory, study: str, sources: Mapping[str, str], made: Mapping[str, Any]) -> Result | None:
    """The saved result of `study` on the same tables, made in the same way; None if there is none that is whole.

    Args:
        sources: a hash of each table's content, by name.
        made: of `making`.
    """
    score = made["options"].get("score")
    wanted = None if score is None else subject_of(score, made["options"].get("stack"))
    for subject in Result.saved(rundir, study):
        if wanted is not None and subject != wanted:
            continue
        try:
            result = Result.load(rundir, study, subject)
        except HeadwayError:
            continue  # a damaged result is computed again
        if result.sources == sources and result.made == made:
            return result
    return None
