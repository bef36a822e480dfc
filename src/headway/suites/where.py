"""Parse `--where`: `size=14m,70m seed=1..3 step=0,512,last`.

    where := clause*            all clauses must hold
    clause := axis=item,item    axis is size, seed, step, run, stage (if a run has several training stages), tokens
                                (seen so far: tokens=1B..10B), or an axis of the suite's own, such as its training data
    item := value | a..b | a.. | ..b | first | last

A range selects the known values between its ends. The ends themselves may be unknown.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from math import inf
from typing import Any

from headway.errors import SelectionError
from headway.suites.names import level_order, natural_order, parse_number, size_order

AXES = ("size", "seed", "step", "run", "stage", "tokens")
_CLAUSE = re.compile(r"([^\s=]+)\s*=")
_EXAMPLE = 'write it like "size=14m,70m seed=1..3 step=0,512,last"'
_MOST_LISTED = 40


@dataclass(frozen=True)
class Where:
    """The selected items of each axis. An axis without items is not restricted."""

    items: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def choose(self, axis: str, known: Sequence[str], owner: str, *, asked: Sequence[str] | None = None) -> set[str]:
        """Return the selected values among `known`, which are in order.

        Args:
            owner: the suite or run that has these values, as named in errors.
            asked: items to use instead of all items of the axis.

        Raises:
            SelectionError: an item is unknown, or a range contains no known value.
        """
        items = self.items.get(axis) if asked is None else asked
        if items is None:
            return set(known)
        chosen: set[str] = set()
        for item in items:
            found = _members(axis, item, known)
            if not found:
                raise SelectionError(_unknown(axis, item, known, owner))
            chosen |= found
        return chosen


def parse_where(text: str, axes: Sequence[str] = ()) -> Where:
    """Parse a selection. The empty selection selects everything.

    Args:
        axes: names of the axes that the suite has beside `AXES`.

    Raises:
        SelectionError: the selection cannot be parsed, names an unknown axis, or names an axis twice.
    """
    clauses = list(_CLAUSE.finditer(text))
    before = text[: clauses[0].start()] if clauses else text
    if before.strip():
        raise SelectionError(f"cannot parse the selection {text!r} at {before.strip()!r}: {_EXAMPLE}")
    items: dict[str, tuple[str, ...]] = {}
    ends = [clause.start() for clause in clauses[1:]] + [len(text)]
    for clause, end in zip(clauses, ends, strict=False):  # without clauses there is one end too many
        axis = clause[1].lower()
        known = (*AXES, *axes)
        if axis not in known:
            near = get_close_matches(axis, known, n=1)
            meant = f", did you mean {near[0]!r}?" if near else ":"
            raise SelectionError(
                f"checkpoints have no axis {clause[1]!r}{meant} select by {', '.join(known)}; {_EXAMPLE}"
            )
        if axis in items:
            raise SelectionError(f"the selection {text!r} names {axis} twice: join the values with commas")
        items[axis] = _items(axis, text[clause.end() : end], text)
    return Where(items)


def _items(axis: str, values: str, text: str) -> tuple[str, ...]:
    items = tuple(item.strip() for item in values.split(","))
    if not all(items) or any(re.search(r"\s", item) for item in items):
        raise SelectionError(f"cannot parse the selection {text!r} at '{axis}={values.strip()}': {_EXAMPLE}")
    return tuple(item.lower() for item in items) if axis == "size" else items


def _members(axis: str, item: str, known: Sequence[str]) -> set[str]:
    if item in known:
        return {item}
    if item in ("first", "last"):
        return {known[0] if item == "first" else known[-1]} if known else set()
    if axis == "tokens" and (number := parse_number(item)) is not None:
        return {str(number)} & set(known)
    if ".." in item:
        low, _, high = item.partition("..")
        return _between(_order_of(axis), low, high, known)
    return set()


def _between(order: Callable[[str], Any], low: str, high: str, known: Sequence[str]) -> set[str]:
    kind = order(low or high)[0] if low or high else None
    ends = [order(end) for end in (low, high) if end]
    if any(end[0] != kind for end in ends):
        return set()
    return {
        value
        for value in known
        if order(value)[0] == kind
        and (not low or order(low) <= order(value))
        and (not high or order(value) <= order(high))
    }


def _step_order(step: str) -> tuple[bool, int]:
    return (True, int(step)) if step.isascii() and step.isdigit() else (False, 0)


def _tokens_order(tokens: str) -> tuple[bool, int]:
    number = parse_number(tokens)
    return (False, 0) if number is None else (True, number)


_ORDER: dict[str, Callable[[str], Any]] = {
    "size": size_order,
    "seed": natural_order,
    "step": _step_order,
    "run": natural_order,
    "stage": natural_order,
    "tokens": _tokens_order,
}


def _order_of(axis: str) -> Callable[[str], Any]:
    return _ORDER.get(axis, level_order)


def _unknown(axis: str, item: str, known: Sequence[str], owner: str) -> str:
    message = f"{owner} has no {axis} {item!r}"
    if ".." in item:
        message = f"{owner} has no {axis} in the range {item!r}"
    if not known:
        return f"{message}: it has none at all"
    close = _close(axis, item, known)
    rest = [value for value in known if value not in close]
    if len(known) <= _MOST_LISTED:
        return f"{message}; known: {', '.join(close + rest)}"
    near = f"; close: {', '.join(close)}" if close else ""
    return f"{message}{near}; known: {len(known)} from {known[0]} to {known[-1]}"


def _close(axis: str, item: str, known: Sequence[str]) -> list[str]:
    """Near matches for an unknown value: the nearest numbers of the same kind, else the most similar words."""
    low, _, high = item.partition("..")
    order = _order_of(axis)
    kind, number = order(low or high)[:2]
    alike = [value for value in known if order(value)[0] == kind]
    if alike and number not in (0, inf):
        return sorted(alike, key=lambda value: abs(order(value)[1] - number))[:3]
    return get_close_matches(item, known, n=3, cutoff=0.4)
