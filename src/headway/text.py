"""Format numbers and lists for people."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def count(n: int, one: str, many: str = "") -> str:
    """Format a count: 1 checkpoint, 1,000 checkpoints. Give `many` for other plurals: 1 text was, 2 texts were."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def listed(words: Sequence[str]) -> str:
    """Join as a, b and c."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}" if words else ""


def unicode_name(path: Path) -> str:
    """Name of a file as text, the same in every locale. Bytes that are not UTF-8 are escaped."""
    return os.fsencode(path.name).decode("utf-8", "backslashreplace")


def plain(value: Any) -> str:
    """Format a JSON value without brackets. Files and corpora are shown by name and shortened hash."""
    if isinstance(value, Mapping) and "name" in value:
        return f"{value['name']}" + (f" (sha256 {str(value['sha256'])[:12]}…)" if value.get("sha256") else "")
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {plain(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        nested = any(isinstance(item, list | tuple) for item in value)
        return ("; " if nested else ", ").join(map(plain, value))
    return str(value)
