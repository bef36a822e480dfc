"""The attention viewer: what it is given, and how it answers a reader in a browser."""

import base64
import gzip
import json

import numpy as np
import polars as pl
import pytest

from headway import tables
from headway.reporting import write
from headway.reporting.viewer import viewer
from headway.store import TableRecord
from support_report import heads_frame, opened, run_directory, studied

TOKENS = ["The", " cat", " <b>sat", " on", "\n"]


def patterns(runs=("a-seed1", "a-seed2"), steps=(0, 64), tokens=TOKENS):
    """Head h attends from token i to token max(0, i - h), by 0.75, and else to itself."""
    n, rows = len(tokens), []
    lower = np.tril_indices(n)
    for run in runs:
        for step in steps:
            for layer, head in np.ndindex(2, 3):
                matrix = 0.25 * np.eye(n)
                matrix[range(n), [max(0, i - head) for i in range(n)]] += 0.75
                of_checkpoint = {"suite": "made", "run": run, "model": "a", "size": "a", "seed": run[-1], "step": step}
                shape = {"n_params": 10, "n_layers": 2, "n_heads": 3, "layer": layer, "head": head}
                text = {"text": 0, "title": "The <i>cat", "tokens": tokens, "attention": matrix[lower].tolist()}
                rows.append(of_checkpoint | shape | text)
    return pl.DataFrame(rows, schema=tables.schema(tables.PATTERNS_COLUMNS))


def with_patterns(path, frame):
    directory = run_directory(path, studied(heads_frame(sizes=("1m",), seeds=("1", "2")), bootstraps=0))
    with directory.changing_manifest() as manifest:
        manifest.tables["patterns"] = TableRecord(identity={"suite": "made"}, checkpoints=[])
    for (run, step), rows in frame.group_by("run", "step", maintain_order=True):
        directory.write_partition("patterns", run, step, rows, {"job": directory.claimed("patterns")})
    return directory


def values(found):
    return np.frombuffer(gzip.decompress(base64.b64decode(found.values)), dtype=np.uint8)


def test_the_page_gets_every_value_to_a_255th(tmp_path):
    frame = patterns()
    found = viewer(with_patterns(tmp_path / "run", frame))
    index = json.loads(found.index)
    assert index["texts"][0]["tokens"] == TOKENS
    order = frame.sort("run", "step", "text", "layer", "head")
    assert index["patterns"]["head"] == order["head"].to_list()
    expected = order["attention"].explode().to_numpy()
    assert np.abs(values(found) / 255 - expected).max() <= 0.5 / 255 + 1e-6  # rounding to bytes, of float32
    assert found.sentence == "24 patterns of 4 checkpoints."


def test_what_would_make_the_page_too_large_is_left_out_and_said(tmp_path):
    found = viewer(with_patterns(tmp_path / "run", patterns()), most=6 * 15 + 7)
    assert len(values(found)) == 6 * 15  # the first checkpoint
    assert found.sentence.startswith("6 patterns of 1 checkpoint. 18 further patterns would make the page too large")


def test_a_directory_without_patterns_has_no_viewer(tmp_path):
    directory = run_directory(tmp_path / "run", studied(heads_frame(sizes=("1m",), seeds=("1", "2")), bootstraps=0))
    assert viewer(directory) is None
    assert "headway-viewer" not in write(directory, figures=False).read_text()


@pytest.mark.browser
def test_a_reader_points_at_tokens_and_saves_the_picture(tmp_path):
    report = write(with_patterns(tmp_path / "run", patterns()), figures=False)
    with opened(report) as page:
        page.wait_for_selector("#headway-viewer[data-ready=yes]")
        part = lambda name: page.locator(f'[data-part="{name}"]')  # noqa: E731
        assert page.get_attribute("#headway-viewer", "data-shows") == "a-seed1@64 L0H0"
        assert part("tokens").locator("span").all_inner_texts() == ["The", "·cat", "·<b>sat", "·on", "⏎"]
        part("heads").locator("button").nth(1).click()
        part("tokens").locator("span").nth(2).hover()
        assert part("said").inner_text() == "“·<b>sat” (2) attends to “·cat” (1) 0.75, “·<b>sat” (2) 0.25"
        share = "spans => spans.map(one => one.style.getPropertyValue('--share'))"
        assert part("tokens").locator("span").evaluate_all(share) == ["0%", "75%", "25%", "0%", "0%"]
        part("towards").check()
        part("tokens").locator("span").nth(2).hover()
        assert "is attended to by “·on” (3) 0.75" in part("said").inner_text()
        part("towards").uncheck()
        part("step").press("Home")
        part("layer").select_option("1")
        part("run").select_option(label="a-seed2")
        assert page.get_attribute("#headway-viewer", "data-shows") == "a-seed2@0 L1H1"
        with page.expect_download() as download:
            part("svg").click()
        assert download.value.suggested_filename == "attention-a-seed2@0-L1H1.svg"
        with open(download.value.path(), encoding="utf-8") as file:
            picture = file.read()
        assert picture.startswith("<svg")
        assert picture.count('fill-opacity="0.749"') == 4  # 191 of 255, from each token but the first
        assert "<b>" not in picture
        assert page.locator("b").count() == 0  # tokens are text, never HTML
        assert page.evaluate("document.documentElement.scrollWidth") <= 1280
        assert [said for said in page.heard if not said.startswith("warning: WARN Infinite extent")] == []
