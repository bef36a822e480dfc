"""The page in headless Chromium: nothing asked of the network, nothing in the console, every chart drawn and alive."""

import json

import pytest

from headway.reporting import write
from support_report import DRAWN, heads_frame, opened, run_directory, studied

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    directory = run_directory(tmp_path_factory.mktemp("runs") / "made", studied(heads_frame()))
    return write(directory, figures=False)


def opacities(page, name):
    """The opacities of the curves of a figure."""
    script = "box => [...box.querySelectorAll('.mark-line path')].map(path => path.getAttribute('opacity') ?? '1')"
    return page.eval_on_selector(f'[data-chart="{name}"]', script)


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, False), (390, True), (820, True)])
def test_every_chart_is_drawn_within_its_room(report, width, dark):
    with opened(report, width=width, dark=dark) as page:
        charts = page.evaluate(DRAWN)
        assert len(charts) > 20
        for chart in charts:
            assert chart["marks"] > 1, chart
            assert 0 < chart["width"] <= chart["room"], chart
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.heard == []


def test_a_size_singled_out_by_its_button_fades_the_others_everywhere(report):
    with opened(report) as page:
        before = opacities(page, "development-prev_self_ratio-trajectories")
        page.click('#development-prev_self_ratio-final-by-layer [data-size="5m"]')
        page.wait_for_function("document.body.classList.contains('focused')")
        page.wait_for_timeout(300)
        after = opacities(page, "development-prev_self_ratio-trajectories")
        faded = sum(float(b) < float(a) for a, b in zip(before, after, strict=True))
        kept = sum(float(b) == float(a) for a, b in zip(before, after, strict=True))
        assert faded >= 2 * 3  # the seeds of two of three sizes
        assert kept >= 3
        assert page.input_value('[data-focus="size"]') == "5m"
        page.click("[data-focus-clear]")
        page.wait_for_timeout(300)
        assert opacities(page, "development-prev_self_ratio-trajectories") == before
        assert page.heard == []


def test_a_click_on_a_dot_singles_out_its_run(report):
    with opened(report) as page:
        page.locator("#development-prev_self_ratio-peak-by-size").scroll_into_view_if_needed()
        page.locator('[data-chart="development-prev_self_ratio-peak-by-size"] .mark-symbol path').first.click(
            force=True
        )
        page.wait_for_function("document.body.classList.contains('focused')")
        assert page.input_value('[data-focus="size"]') != ""
        assert page.input_value('[data-focus="seed"]') != ""
        assert page.heard == []


def test_the_layer_can_be_picked_and_the_step_moved(report):
    with opened(report) as page:
        figure = "development-prev_self_ratio-heads-of-a-layer"
        size, layer = (page.locator(f"#{figure} select").nth(n) for n in (0, 1))
        assert layer.locator("option").all_inner_texts() == ["0", "1"]
        size.select_option("31m")
        assert layer.locator("option").all_inner_texts() == ["0", "1", "2", "3", "4"]
        layer.select_option("4")
        page.wait_for_function(f"document.querySelector('[data-chart={figure}]').dataset.shows")
        shows = page.eval_on_selector(f"[data-chart={figure}]", "box => box.dataset.shows")
        assert json.loads(shows) == {"size": "31m", "layer": 4}
        curves = page.locator(f'[data-chart="{figure}"] .mark-line path').count()
        assert curves == 2 * 3  # two heads in a layer of 31m, three seeds

        figure = "development-prev_self_ratio-heads-at-a-step"
        colours = "box => [...box.querySelectorAll('.mark-rect path')].map(path => path.getAttribute('fill')).join()"
        last = page.eval_on_selector(f'[data-chart="{figure}"]', colours)
        page.locator(f"#{figure} input[type=range]").press("Home")
        page.wait_for_function(f"document.querySelector('[data-chart={figure}]').dataset.shows")
        assert page.locator(f"#{figure} output").inner_text() == "0"
        assert page.eval_on_selector(f'[data-chart="{figure}"]', colours) != last
        assert page.heard == []


def test_hovering_a_curve_tells_run_layer_head_and_value(report):
    with opened(report) as page:
        page.locator("#development-prev_self_ratio-trajectories").scroll_into_view_if_needed()
        page.locator('[data-chart="development-prev_self_ratio-trajectories"] .mark-symbol path').last.hover(force=True)
        page.wait_for_selector("#vg-tooltip-element.visible")
        told = page.locator("#vg-tooltip-element").inner_text()
        for word in ("run", "step", "Previous/self attention ratio", "layer of the largest head", "its head"):
            assert word in told
        assert page.heard == []


def test_a_figure_can_be_saved(report):
    with opened(report) as page:
        for kind, begins in (("svg", b"<svg"), ("png", b"\x89PNG"), ("csv", b"run,size,seed")):
            with page.expect_download() as download:
                page.click(f"#development-prev_self_ratio-peak-by-size [data-save={kind}]")
            with open(download.value.path(), "rb") as file:
                assert file.read().startswith(begins), kind


def test_names_with_html_run_nothing(tmp_path):
    evil = '<img src=x onerror="alert(1)">'
    frame = heads_frame(sizes=("1m", "5m"), seeds=("1", "2"), names=lambda name: f"{name}{evil}</script><!--")
    with opened(write(run_directory(tmp_path / "evil", studied(frame, bootstraps=0)), figures=False)) as page:
        page.locator('[data-chart="development-prev_self_ratio-peak-by-size"] .mark-symbol path').first.hover(
            force=True
        )
        page.wait_for_selector("#vg-tooltip-element.visible")
        assert evil in page.locator("#vg-tooltip-element").inner_text()
        assert page.locator("img").count() == 0
        # without resampling some intervals are absent, which Vega remarks upon
        assert [said for said in page.heard if not said.startswith("warning: WARN Infinite extent")] == []
