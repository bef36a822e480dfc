"""Commands as they are documented, with options that make them quick."""

from __future__ import annotations

from collections.abc import Sequence


def with_options(words: Sequence[str], options: Sequence[object]) -> list[str]:
    """A command's words with `options`, such as ("--seeds", 2), in the place of its own of these names."""
    names = {str(name) for name in options[::2]}
    pairs = zip(["", *words], words, strict=False)
    kept = [word for before, word in pairs if word not in names and before not in names]
    return [*kept, *map(str, options)]
