"""Every benchmark runs: a small part of each, without a look at its numbers."""

import importlib
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"
NAMES = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem not in ("all", "table"))


@pytest.fixture(autouse=True)
def from_benchmarks(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    before = dict(sys.modules)
    yield
    for name in set(sys.modules) - set(before):  # `attention` and `stats` must not stay for other tests
        if name in NAMES:
            del sys.modules[name]


@pytest.mark.parametrize("name", NAMES)
def test_a_small_part_of_it_gives_rows(name):
    benchmark = importlib.import_module(name)
    found = list(benchmark.rows(quick=True))
    assert found
    for row in found:
        assert row.work
        assert row.measured or "left out" in row.note, row
        assert not any("|" in cell or "\n" in cell for cell in (row.work, row.measured, row.against, row.aim, row.note))


def test_all_are_in_the_one_table(monkeypatch):
    assert sorted(importlib.import_module("all").BENCHMARKS) == NAMES
