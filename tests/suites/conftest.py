from collections.abc import Iterator
from pathlib import Path

import pytest

from hub_server import HubServer, serving


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubServer]:
    with serving(monkeypatch, tmp_path) as server:
        yield server
