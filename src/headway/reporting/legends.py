"""What the colours of small figures mean: their charts have no legends of their own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple


class Swatch(NamedTuple):
    """A name and its colour on a light and on a dark page."""

    name: str
    light: str
    dark: str


def legend(specification: Any, sizes: Mapping[str, Swatch]) -> tuple[Swatch, ...]:
    """The named colours of a Vega-Lite specification. An axis that bears the same names needs no legend.

    Args:
        sizes: the colours of sizes, by name; none if there is one size.
    """
    found: dict[str, Swatch] = {}
    for encoding in _encodings(specification):
        placed = {encoding[axis].get("field") for axis in ("x", "y", "row") if isinstance(encoding.get(axis), dict)}
        for channel in ("color", "fill"):
            colour = encoding.get(channel)
            if isinstance(colour, dict) and colour.get("field") not in {None, *placed}:
                found |= sizes if colour["field"] == "size" else _named(colour.get("scale") or {})
    return tuple(found.values())


def _named(scale: Mapping[str, Any]) -> dict[str, Swatch]:
    """The colours of a scale that gives each name its own; none of another scale."""
    names, colours = scale.get("domain"), scale.get("range")
    if not (isinstance(names, list) and isinstance(colours, list) and len(names) == len(colours)):
        return {}
    return {str(name): Swatch(str(name), colour, colour) for name, colour in zip(names, colours, strict=True)}


def _encodings(part: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(part, list):
        for item in part:
            yield from _encodings(item)
    elif isinstance(part, dict):
        if isinstance(part.get("encoding"), dict):
            yield part["encoding"]
        for value in part.values():
            yield from _encodings(value)
