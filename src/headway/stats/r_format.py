"""Format numbers as R does: significant digits shared by a column, and p-values with stars."""

from __future__ import annotations

import math
from collections.abc import Sequence

SMALLEST_P = 2.220446049250313e-16
LEGEND = "Signif. codes:  0 '***' 0.001 '**' 0.01 '*' 0.05 '.' 0.1 ' ' 1"


def signif(values: Sequence[float], digits: int) -> list[str]:
    """Format `values` in one notation, with as many decimals as any of them needs for `digits` significant digits.

    The notation is scientific if that is shorter, as in R's `format`.
    """
    finite = [value for value in values if math.isfinite(value)]
    parts = [_significand(value, digits) for value in finite]
    decimals = max((max(0, n - 1 - exponent) for n, exponent in parts), default=0)
    places = max((n - 1 for n, _ in parts), default=0)
    fixed, scientific = f".{decimals}f", f".{places}e"
    width = {notation: max((len(format(v, notation)) for v in finite), default=0) for notation in (fixed, scientific)}
    notation = fixed if width[fixed] <= width[scientific] else scientific
    return [format(value, notation) if math.isfinite(value) else _not_finite(value) for value in values]


def _not_finite(value: float) -> str:
    return "NaN" if math.isnan(value) else ("Inf" if value > 0 else "-Inf")


def _significand(value: float, digits: int) -> tuple[int, int]:
    """Number of significant digits, at most `digits`, without trailing zeros, and the power of ten."""
    mantissa, exponent = f"{abs(value):.{digits - 1}e}".split("e")
    if value == 0:
        return 1, 0
    return len(mantissa.replace(".", "").rstrip("0")), int(exponent)


def p_values(values: Sequence[float], digits: int = 3) -> list[str]:
    """Format p-values: from 0.0001 up with equal decimals, smaller ones each by itself, the smallest as "<2e-16"."""
    plain = [p for p in values if p >= 1e-4]
    joint = dict(zip(plain, signif(plain, digits), strict=True))
    shown = [joint.get(p) or (None if p < SMALLEST_P else signif([p], digits)[0]) for p in values]
    widest = max((len(text) for text in shown if text), default=0)
    space = "" if digits <= 3 and widest <= 6 else " "
    below = f"<{space}{SMALLEST_P:.{max(digits - 3, 0)}e}"
    return [text or below for text in shown]


def stars(p: float) -> str:
    """R's mark for a p-value."""
    marks = ((0.001, "***"), (0.01, "**"), (0.05, "*"), (0.1, "."))
    return next((mark for limit, mark in marks if p <= limit), " ")


def coefficient_columns(columns: Sequence[Sequence[float]], digits: int = 4) -> list[list[str]]:
    """Format estimates, standard errors (and df): round them jointly, then use one notation."""
    flat = [value for column in columns for value in column]
    sizes = [math.floor(math.log10(abs(value))) for value in flat if value and math.isfinite(value)]
    decimals = max(1, digits - 1 - min(sizes, default=0))
    texts = signif([round(value, decimals) for value in flat], digits)
    # Values that are not 0 must not be shown as 0.
    texts = [
        signif([value], digits - 1)[0] if value and math.isfinite(value) and float(text) == 0 else text
        for value, text in zip(flat, texts, strict=True)
    ]
    n = len(columns[0])
    return [texts[start : start + n] for start in range(0, len(texts), n)]


def table(
    names: Sequence[str], columns: Sequence[tuple[str, Sequence[str]]], left: int = 1, corner: str = ""
) -> list[str]:
    """Lines of a table with right-aligned columns. The row names and the next `left` - 1 columns are left-aligned."""
    cells = [(corner, list(names)), *((head, list(column)) for head, column in columns)]
    widths = [max(map(len, [head, *column]), default=0) for head, column in cells]

    def line(row: list[str]) -> str:
        pairs = enumerate(zip(row, widths, strict=True))
        return " ".join(text.ljust(w) if i < left else text.rjust(w) for i, (text, w) in pairs).rstrip()

    rows = [list(row) for row in zip(*(column for _, column in cells), strict=True)]
    return [line([head for head, _ in cells]), *map(line, rows)]


def coefficient_table(
    names: Sequence[str],
    joint: Sequence[tuple[str, Sequence[float]]],
    t: tuple[str, Sequence[float]],
    p: tuple[str, Sequence[float]],
) -> list[str]:
    """Lines of a table of coefficients, with stars and their legend."""
    shown = coefficient_columns([values for _, values in joint])
    columns = [(head, texts) for (head, _), texts in zip(joint, shown, strict=True)]
    columns.append((t[0], signif([round(value, 3) for value in t[1]], 4)))
    columns.append((p[0], p_values(p[1])))
    columns.append(("   ", [stars(value).ljust(3) for value in p[1]]))
    return [*table(names, columns), "---", LEGEND]


def abbreviate(name: str, length: int) -> str:
    """Shorten `name`: remove lower-case vowels from its end, then lower-case letters, until it is short enough."""
    for droppable in ("aeiou", "abcdefghijklmnopqrstuvwxyz"):
        for at in range(len(name) - 1, 0, -1):
            if len(name) <= length:
                return name
            if name[at] in droppable:
                name = name[:at] + name[at + 1 :]
    return name
