"""Numbers and lists as people write them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def count(n: int, one: str, many: str = "") -> str:
    """1 checkpoint, 2 checkpoints, 1,000 checkpoints; `many` where an s does not do, as in 1 text was, 2 texts were."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def listed(words: Sequence[str]) -> str:
    """a, b and c."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}" if words else ""


def unicode_name(path: Path) -> str:
    """The name of a file as text, the same in every locale; bytes that are not UTF-8 become escapes."""
    return os.fsencode(path.name).decode("utf-8", "backslashreplace")


def plain(value: Any) -> str:
    """A JSON value without its brackets; what has a name and a hash, as a file or a corpus, by both, the hash cut."""
    if isinstance(value, Mapping) and "name" in value:
        return f"{value['name']}" + (f" (sha256 {str(value['sha256'])[:12]}…)" if value.get("sha256") else "")
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {plain(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        nested = any(isinstance(item, list | tuple) for item in value)
        return ("; " if nested else ", ").join(map(plain, value))
    return str(value)
