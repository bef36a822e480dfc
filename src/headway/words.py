"""Numbers and lists as people write them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def count(n: int, one: str, many: str = "") -> str:
    """1 checkpoint, 2 checkpoints, 1,000 checkpoints; `many` where an s does not do, as in 1 text was, 2 texts were."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def listed(words: Sequence[str]) -> str:
    """a, b and c."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}" if words else ""


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
