"""Colours that keep their order without hue, and stand out from the paper that they are drawn on."""

from collections.abc import Sequence
from itertools import pairwise

import pytest

from headway.reporting.charts.theme import MAKO, along, between, config, size_colours


def contrast(first: str, second: str) -> float:
    """WCAG's contrast ratio of two colours: 1 for equals, 21 for black on white."""
    light, dark = sorted((_luminance(first), _luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def is_ordered(colours: Sequence[str]) -> bool:
    """Whether lightness goes one way along `colours`: they keep their order in grey and for the colour-blind."""
    lightness = [_luminance(colour) for colour in colours]
    return all(a > b for a, b in pairwise(lightness)) or all(a < b for a, b in pairwise(lightness))


def test_contrast_is_the_one_that_wcag_defines():
    # The two values that WCAG 2.1 states: black on white, and a colour on itself.
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#3497a9", "#3497a9") == 1
    # Computed by hand from the definition: (0.2126 + 0.05) / (0 + 0.05)
    assert contrast("#ff0000", "#000000") == pytest.approx(5.252)


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("n", range(2, 12))
def test_sizes_are_told_apart_by_lightness_alone(n, dark):
    colours = size_colours(n, dark=dark)
    assert len(set(colours)) == n
    assert is_ordered(colours)


@pytest.mark.parametrize(("dark", "paper"), [(False, "#ffffff"), (True, "#1c1f24")])
def test_every_size_stands_out_from_the_paper(dark, paper):
    for colour in size_colours(6, dark=dark):
        assert contrast(colour, paper) > 1.8  # lines are thick and labelled; 3 is WCAG's bar for a lone sign


@pytest.mark.parametrize("dark", [False, True])
def test_sequential_scales_go_one_way_and_texts_can_be_read(dark):
    look = config(4, dark=dark)
    assert is_ordered(look["range"]["heatmap"])
    assert is_ordered(look["range"]["ramp"])
    paper = "#1c1f24" if dark else "#ffffff"
    for part in ("labelColor", "titleColor"):
        assert contrast(look["axis"][part], paper) > 4.5  # WCAG AA for text


def test_colours_between():
    assert between(("#000000", "#ffffff"), 0.5) == "#808080"
    assert along(MAKO, 0, 1, 6) == list(MAKO)
    assert size_colours(1) == [between(MAKO, (0.78 + 0.14) / 2)]
