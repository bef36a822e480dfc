"""With `--keep-files no` a sweep never holds more than two checkpoints on disk."""

import os
import threading
import time
from pathlib import Path

import pytest
from polars.testing import assert_frame_equal

from headway import api
from headway.store.directory import RunDirectory
from headway.suites import hub as the_hub
from headway.suites.shelf import Shelf
from hub_server import HubServer
from support_models import saved_suite

STEPS = 5
RUN = "toy-1m-seed1"


def on_disk() -> int:
    """How many checkpoints have weights below the cache that the environment names."""
    found = Path(os.environ["HF_HUB_CACHE"]).rglob("*.safetensors*")
    return len({path.parent for path in found if path.exists()})


@pytest.fixture
def most(hub: HubServer, tmp_path, monkeypatch) -> list[int]:
    """A suite on the local Hub. The list grows by what is on disk after each download, slowed so that threads overlap."""
    saved_suite(tmp_path, STEPS)
    for step in range(STEPS):
        hub.add_folder(f"someone/{RUN}", f"step{step}", tmp_path / "suite" / RUN / f"step{step}")
    hub.add(f"someone/{RUN}", "main", {"tokenizer.json": tmp_path / "suite" / RUN / "tokenizer.json"})
    return counting(monkeypatch)


def counting(monkeypatch) -> list[int]:
    seen: list[int] = []
    fetch = the_hub.fetch

    def fetched(*given, **options):
        path = fetch(*given, **options)
        seen.append(on_disk())
        time.sleep(0.03)
        return path

    monkeypatch.setattr(the_hub, "fetch", fetched)
    return seen


def test_measure_holds_two(hub: HubServer, most, tmp_path):
    texts = str(tmp_path / "texts.txt")
    summary = api.measure(f"hf:someone/{RUN}", corpus=texts, scores=("prev",), out=tmp_path / "out", keep_files=False)
    assert (summary.done, summary.failed) == (STEPS, [])
    assert max(most) == 2  # it does read ahead
    assert on_disk() == 0


def test_cluster_holds_two_though_it_compares_with_the_step_before(hub: HubServer, most, tmp_path):
    options = {"where": "", "features": ("raw",), "methods": ("ward",), "nulls": 0}
    summary = api.cluster(f"hf:someone/{RUN}", out=tmp_path / "out", keep_files=False, **options)
    assert (summary.done, summary.failed) == (STEPS, [])
    assert max(most) == 2
    assert on_disk() == 0
    # Each is needed twice, but for the last. What the next in line needs stays.
    assert hub.sent("model.safetensors") < 2 * STEPS - 1
    api.cluster(tmp_path / "suite", out=tmp_path / "kept", **options)
    read = [RunDirectory(tmp_path / name).read("clusters").drop("suite") for name in ("out", "kept")]
    assert_frame_equal(*read, check_exact=True)


def test_threads_that_ask_for_pairs_neither_exceed_the_room_nor_wait_for_ever(tmp_path):
    shelf, seen, ended = Shelf(), [], []

    def ask(first: int) -> None:
        for step in range(first, first + 8):
            with shelf.reserve({step, step - 1}):
                for key in (step, step - 1):
                    folder = shelf.folder(key, tmp_path, "commit", lambda folder: (folder / "weights").touch())
                    seen.append(len(list(tmp_path.glob("*/weights"))))
                    assert (folder / "weights").exists()
        ended.append(first)

    threads = [threading.Thread(target=ask, args=(first,), daemon=True) for first in (0, 3, 100, 200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert sorted(ended) == [0, 3, 100, 200]
    assert max(seen) == 2
    assert list(tmp_path.iterdir()) == []


def test_a_thread_that_asks_for_more_than_there_is_room_for_does_not_wait_for_itself():
    shelf = Shelf(most=1)
    with shelf.reserve({1}), shelf.reserve({2}), shelf.reserve({3}):
        pass


def test_a_failed_download_leaves_nothing(tmp_path):
    shelf = Shelf()

    def fail(folder: Path) -> None:
        (folder / "half").touch()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), shelf.reserve({1}):
        shelf.folder(1, tmp_path, "commit", fail)
    assert list(tmp_path.iterdir()) == []
