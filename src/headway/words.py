"""Numbers and lists as people write them."""

from __future__ import annotations

from collections.abc import Sequence


def count(n: int, one: str, many: str = "") -> str:
    """1 checkpoint, 2 checkpoints, 1,000 checkpoints; `many` where an s does not do, as in 1 text was, 2 texts were."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def listed(words: Sequence[str]) -> str:
    """a, b and c."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}" if words else ""
