"""The published rows of Pythia: a page of bearable size with every figure of the study."""

import pytest

from headway.published import read_published
from headway.reporting import write
from support_report import opened, run_directory, studied

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def test_the_published_rows_make_a_page_that_draws(reference, tmp_path):
    result = studied(read_published([reference / "pythia_heads.csv.gz"]), bootstraps=20)
    path = write(run_directory(tmp_path / "published", result), figures=False)
    assert path.stat().st_size < 15e6  # asked of 36 runs x 600 heads x 16 steps, and these are they
    with opened(path, width=390) as page:
        sizes, layers = (page.locator("#development-prev_self_ratio-heads-of-a-layer select").nth(n) for n in (0, 1))
        sizes.select_option("410m")
        assert layers.locator("option").count() == 24
        drawn = "[...document.querySelectorAll('[data-chart]')].map(box => [box.dataset.drawn, !!box.closest('details.folded')])"
        assert {state for state, folded in page.evaluate(drawn) if not folded} == {"yes"}
        assert page.heard == []
