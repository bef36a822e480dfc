"""Fonts, lines and colours of all charts, on light and on dark backgrounds. Colour-blind readers can tell the colours apart.

Sizes are ordered, so their colours are ordered, too: they run from light to dark in even steps of lightness (mako). Only
values with a sign are drawn in two hues.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', 'Liberation Sans', Arial, sans-serif"
STATIC_FONT = "'Liberation Sans', Arial, sans-serif"  # vl-convert measures text with it wherever it runs

MAKO = ("#0b0405", "#382a54", "#395d9c", "#3497a9", "#60ceac", "#def5e5")
_VIRIDIS = ("#440154", "#414487", "#2a788e", "#22a884", "#7ad151", "#fde725")


def between(colours: Sequence[str], place: float) -> str:
    """The colour at `place` (0 to 1) along `colours`, in straight lines through RGB."""
    at = min(max(place, 0.0), 1.0) * (len(colours) - 1)
    low = min(int(at), len(colours) - 2)
    first, second = (tuple(int(c[i : i + 2], 16) for i in (1, 3, 5)) for c in colours[low : low + 2])
    mixed = (round(a + (at - low) * (b - a)) for a, b in zip(first, second, strict=True))
    return "#" + "".join(f"{channel:02x}" for channel in mixed)


def along(colours: Sequence[str], start: float, stop: float, n: int) -> list[str]:
    """`n` colours evenly spaced from `start` to `stop`."""
    if n == 1:
        return [between(colours, (start + stop) / 2)]
    return [between(colours, start + (stop - start) * i / (n - 1)) for i in range(n)]


def size_colours(n: int, *, dark: bool = False) -> list[str]:
    """One colour per size. Larger sizes have more contrast with the background."""
    return along(MAKO, 0.4, 0.97, n) if dark else along(MAKO, 0.78, 0.14, n)


def config(n_sizes: int, *, dark: bool = False, font: str = FONT) -> dict[str, Any]:
    """Vega-Lite's `config`, with `n_sizes` colours in its ordinal range."""
    ink, soft, line = ("#e8e6e1", "#a8a59e", "#3a3d42") if dark else ("#23252a", "#5f636b", "#e4e2dd")
    sequential = along(MAKO, 0.06, 1.0, 7) if dark else along(MAKO, 1.0, 0.04, 7)
    middle = "#26282d" if dark else "#f5f4f1"
    ends = ("#7fb6ef", "#f3a15f") if dark else ("#2c5aa0", "#b3560b")
    diverging = [ends[0], middle, ends[1]]
    axis = {
        "labelColor": soft,
        "titleColor": ink,
        "gridColor": line,
        "domainColor": soft,
        "tickColor": soft,
        "labelFontSize": 11,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "titlePadding": 8,
        "gridWidth": 0.7,
        "domainWidth": 0.7,
        "tickSize": 4,
        "labelFlush": False,
        "labelOverlap": True,
    }
    return {
        "background": "transparent",
        "font": font,
        "padding": {"left": 2, "right": 8, "top": 4, "bottom": 2},
        "view": {"stroke": None, "continuousHeight": 260},
        "axis": axis,
        "axisX": {"grid": False, "labelSeparation": 8},
        "axisY": {"domain": False, "ticks": False},
        "header": {
            "labelColor": ink,
            "labelFontSize": 12,
            "labelFontWeight": "bold",
            "titleColor": soft,
            "titleFontWeight": "normal",
            "labelPadding": 6,
        },
        "legend": {
            "labelColor": soft,
            "titleColor": ink,
            "titleFontWeight": "normal",
            "orient": "top",
            "gradientLength": 160,
            "gradientThickness": 9,
            "labelFontSize": 11,
            "titleFontSize": 12,
            "titleLimit": 320,
            "direction": "horizontal",
        },
        "range": {
            "ordinal": size_colours(n_sizes, dark=dark),
            "ramp": along(_VIRIDIS, 0.2, 1.0, 6) if dark else along(_VIRIDIS, 0.0, 0.85, 6),
            "heatmap": sequential,
            "diverging": diverging,
        },
        "mark": {"aria": False},  # the chart's own description speaks for its marks
        "style": {
            "ink": {"color": ink},
            "soft": {"color": soft},
            "accent": {"color": "#ff8f6b" if dark else "#c2410c"},
            "band": {"opacity": 0.18},
        },
        "text": {"color": soft, "fontSize": 11},
        "line": {"strokeJoin": "round", "strokeCap": "round"},
    }
