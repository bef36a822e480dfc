"""Small results to report on, and a browser that records whatever a page does."""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

from headway.store import RunDirectory, TableRecord
from headway.studies import STUDIES, Result
from headway.tables import CHECKPOINT_COLUMNS, HEAD_COLUMNS, schema

SHAPES = {"1m": (10**6, 2, 3), "5m": (5 * 10**6, 3, 5), "31m": (31 * 10**6, 5, 2)}  # parameters, layers, heads
STEPS = (0, 1, 8, 64, 512, 4000)

# Of each chart: its name, how much is drawn, and whether it fits.
DRAWN = """() => [...document.querySelectorAll('[data-chart]')].filter(
    box => !box.closest('details.folded:not([open])')
).map(box => {
    const canvas = box.querySelector('canvas');
    const seen = canvas && new Set(canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data).size;
    const drawn = box.querySelector('svg, canvas');
    return {
        name: box.dataset.chart,
        marks: canvas ? seen : box.querySelectorAll('svg .mark-group path, svg .mark-rule line').length,
        room: box.clientWidth,
        width: drawn ? drawn.getBoundingClientRect().width : 0,
    };
})"""  # fmt: skip


def heads_frame(sizes=("1m", "5m", "31m"), seeds=("1", "2", "3"), steps=STEPS, names=str) -> pl.DataFrame:
    """A heads table in which one head of every run rises, earlier and higher in larger sizes; step 1 equals step 0.

    `names` is applied to what a suite names freely: models, sizes and seeds.
    """
    rng = np.random.default_rng(7)
    rows = []
    for size in sizes:
        n_params, n_layers, n_heads = SHAPES[size]
        for seed in seeds:
            riser = (int(rng.integers(n_layers)), int(rng.integers(n_heads)))
            start = rng.uniform(0.7, 0.9, (n_layers, n_heads))
            middle, height = 500 / n_params**0.1 * rng.uniform(0.7, 1.4), np.log10(n_params) - 3 + rng.uniform(0, 1)
            for step in steps:
                for layer in range(n_layers):
                    for head in range(n_heads):
                        drift = 0 if step < 2 else rng.normal(0, 0.02)
                        rise = height / (1 + (middle / max(step, 1)) ** 2) if (layer, head) == riser and step > 1 else 0
                        rows.append(
                            ("made", f"{names(size)}-{names(seed)}", names(size), names(size), names(seed), step,
                             None, n_params, n_layers, n_heads, layer, head, start[layer, head] + drift + rise)
                        )  # fmt: skip
    return pl.DataFrame(
        rows, schema={**schema(CHECKPOINT_COLUMNS + HEAD_COLUMNS), "prev_self_ratio": pl.Float64}, orient="row"
    )


def studied(frame: pl.DataFrame, bootstraps: int = 20, score: str = "prev_self_ratio") -> Result:
    """The study's result on a heads table that need not lie in files."""
    holder = SimpleNamespace(read=lambda table: frame)
    return STUDIES["development"](holder, bootstraps=bootstraps, score=score)


def run_directory(path, result: Result | None) -> RunDirectory:
    """A run directory whose manifest says what a measurement of the result's suite would."""
    directory = RunDirectory(path)
    with directory.changing_manifest() as manifest:
        manifest.headway = "0.1.0"
        manifest.tables["heads"] = TableRecord(
            identity={"suite": "made", "corpus": {"name": "texts", "sha256": "c0ffee"}, "scores": ["prev", "self"]},
            asked={"suite": "models/made", "where": "step=0..4000", "corpus": "/data/texts.txt"},
            checkpoints=["a@0", "a@1"],
            continued="2025-01-02T03:04:05Z",
            versions=[{"python": "3.12"}],
        )
    if result is not None:
        result.save(directory)
    return directory


def chromium() -> str:
    """Chromium's path; the test is skipped where there is none."""
    asked = os.environ.get("CHROMIUM")
    found = asked or next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if not found:
        pytest.skip("no Chromium on the PATH (set CHROMIUM)")
    return found


@contextmanager
def opened(path, *, width=1280, height=900, dark=False):
    """A page of the report in Chromium, every figure drawn; `page.heard` is what it said, asked for or popped up."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as api:
        browser = api.chromium.launch(
            executable_path=chromium(),
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"],
        )
        try:
            page = browser.new_page(
                viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light"
            )
            heard: list[str] = []
            page.on("console", lambda message: heard.append(f"{message.type}: {message.text}"))
            page.on("pageerror", lambda error: heard.append(f"error: {error}"))
            page.on("dialog", lambda dialog: (heard.append(f"dialog: {dialog.message}"), dialog.dismiss()))

            def judge(route):
                if route.request.url == path.as_uri():
                    return route.continue_()
                heard.append(f"request: {route.request.url}")
                return route.abort()

            page.route("**/*", judge)
            page.goto(path.as_uri())
            page.wait_for_selector("body[data-ready=yes]", timeout=60_000)
            page.heard = heard
            yield page
        finally:
            browser.close()
