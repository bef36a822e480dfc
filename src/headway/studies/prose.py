"""Format numbers for findings."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from headway.text import count

LEVEL = 0.05  # p at or below which a finding says that something differs


def p_text(p: float | None) -> str:
    """Format a p value as papers do."""
    if p is None:
        return "p not defined"
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


def digits(value: float) -> str:
    """Format a number with three significant digits; from 1,000 on as a whole number with commas."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def percent(share: float) -> str:
    return f"{share:.0%}"


def ends(by_name: Iterable[tuple[str, float]], form: Callable[[float], str] = digits) -> tuple[str, str]:
    """The smallest and the largest value with their names, such as `2.72 (14m)` and `5.57 (160m)`.

    If all values look the same, both are that value without a name.
    """
    ordered = sorted(by_name, key=lambda pair: pair[1])
    (low_name, low), (high_name, high) = ordered[0], ordered[-1]
    if len(ordered) > 1 and form(low) == form(high):
        return form(low), form(high)
    return f"{form(low)} ({low_name})", f"{form(high)} ({high_name})"


def between(by_name: Iterable[tuple[str, float]], form: Callable[[float], str] = digits) -> str:
    """`between 2.72 (14m) and 5.57 (160m)`, or `at 2.72 (14m)` if there is no range."""
    low, high = ends(by_name, form)
    return f"at {low}" if low == high else f"between {low} and {high}"


def from_to(by_name: Iterable[tuple[str, float]], form: Callable[[float], str] = digits) -> str:
    """`2.72 (14m) to 5.57 (160m)`, or `2.72 (14m)` if there is no range."""
    low, high = ends(by_name, form)
    return low if low == high else f"{low} to {high}"


def share_of(n: int, total: int, one: str) -> str:
    """`none of 4 sizes`, `3 of 4 sizes`, `all 4 sizes`, `both sizes` or `the one size`."""
    if n == total:
        return {1: f"the one {one}", 2: f"both {one}s"}.get(total, f"all {count(total, one)}")
    return f"{n or 'none'} of {count(total, one)}"


def capital(text: str) -> str:
    """`text` with its first letter as a capital."""
    return text[:1].upper() + text[1:]


def sentences(*parts: str | None) -> str:
    """Join the parts that are not empty."""
    return " ".join(part for part in parts if part)
