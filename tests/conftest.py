"""What every room's tests may use."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import support_disk
import support_models
from hub_server import HubServer, serving

REFERENCE = Path(os.environ.get("HEADWAY_REFERENCE", Path(__file__).parents[2] / "shared" / "reference"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", default="cpu", help="where the tests' random models run: cpu or cuda")


def pytest_configure(config: pytest.Config) -> None:
    support_models.DEVICE = config.getoption("--device")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first: then no worker starts one of them when the others are about to end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session")
def reference() -> Path:
    """The published per-head table of Pythia and what its study prints: public data, not ours."""
    if not (REFERENCE / "pythia_1back" / "pythia_heads.csv.gz").exists():
        pytest.skip(f"the published reference data are not at {REFERENCE} (set HEADWAY_REFERENCE)")
    return REFERENCE / "pythia_1back"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubServer]:
    with serving(monkeypatch, tmp_path) as server:
        yield server


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with support_disk.small_disk(tmp_path / "disk") as disk:
        yield disk
