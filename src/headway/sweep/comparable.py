"""Whether the tables of several suites in one directory can be compared: they must have been computed in the same way."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from typing import Any

from headway.errors import RunDirectoryError
from headway.store.directory import RunDirectory
from headway.store.suite_folders import others_than
from headway.text import plain

# The settings that must be equal, with what to do. Others may differ, such as the list of scores or the clustered layers.
_MUST_BE_EQUAL = {
    "corpus": "Give the same --corpus",
    "spans": "Give the same --spans",
    "add_bos": "Give --add-bos to both or to none",
    "repeated": "Give the same options of repeated tokens",
    "n_texts": "Give the same --n-texts",
    "layout": "Give the same --layout",
    "formulas": "Register the same formulas",
    "definitions": "Recompute the other suite with this version of headway, with --force",
}


def conflicts(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Names of the settings that differ between two suites' identities of a table, and must not.

    A setting that one of them does not have is no conflict: imported rows state no corpus, and without scores on repeated tokens
    their length decides nothing.
    """
    return [name for name in _MUST_BE_EQUAL if _differ(name, one.get(name), other.get(name))]


def _differ(name: str, one: Any, other: Any) -> bool:
    if one is None or other is None:
        return False
    if name == "formulas":  # only the scores that both have
        return any(one[score] != other[score] for score in one.keys() & other.keys())
    return bool(_compared(one) != _compared(other))


def _compared(value: Any) -> Any:
    """A corpus or a file of spans is compared by its contents, whatever its file is called."""
    content = value.get("sha256", value) if isinstance(value, Mapping) else value
    return json.loads(json.dumps(content))


def require_comparable(table: str, directory: RunDirectory, identity: Mapping[str, Any], *, force: bool) -> None:
    """Check that `table` of one suite was computed as the same table of the other suites is.

    Raises:
        RunDirectoryError: it was not, and `force` is not given. The message names the suite, the setting and the way out.
    """
    for suite, other in others_than(directory).items():
        record = other.manifest().tables.get(table)
        if record is None or not other.partitions(table):
            continue
        for name in conflicts(identity, record.identity):
            there, now = (_short(of.get(name)) for of in (record.identity, identity))
            said = (
                f"{other.path} holds {table!r} of the suite {suite} with another setting, so the suites could not be compared: "
                f"{name} is {there} there and {now} now"
            )
            if not force:
                raise RunDirectoryError(
                    f"{said}. {_MUST_BE_EQUAL[name]}, choose another --out, or keep both with --force: they are then not compared"
                )
            warnings.warn(f"{said}. The suites will not be compared by this table", stacklevel=4)


def _short(value: Any) -> str:
    words = plain(value)
    return words if len(words) <= 80 else words[:79] + "…"
