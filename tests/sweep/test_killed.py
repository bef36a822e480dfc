"""`headway measure` killed with SIGKILL at twelve random moments and resumed each time, or a worker of it: nothing is
lost, nothing differs.
"""

import multiprocessing
import random
import signal
import threading
import time
from pathlib import Path

import pytest
from polars.testing import assert_frame_equal

from headway import api, sweep
from headway.store.directory import RunDirectory
from support_models import saved_suite
from support_sweep import measure_command

pytestmark = pytest.mark.slow
KILLS, CHECKPOINTS = 12, 48
TABLES = ("heads", "abilities")  # both from one reading of a checkpoint
OPTIONS = {"scores": ("prev", "self", "first", "induction"), "loss": True}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("killed")
    saved_suite(place, CHECKPOINTS)
    return place


@pytest.fixture(scope="module")
def whole(place):
    """The tables of a sweep that nothing befell."""
    assert measured(place, "whole").done == CHECKPOINTS
    return {table: RunDirectory(place / "whole").read(table) for table in TABLES}


def assert_same(directory, whole):
    for table in TABLES:
        assert_frame_equal(directory.read(table), whole[table], check_exact=True)


def measured(place: Path, out: str, **options) -> sweep.Summary:
    return api.measure(place / "suite", corpus=str(place / "texts.txt"), out=place / out, **OPTIONS, **options)


def files(directory: RunDirectory, pattern: str) -> set[Path]:
    return set((directory.path / TABLES[-1]).glob(pattern))


def test_killed_at_twelve_random_moments(place, whole):
    # A server that has torch imported forks each attempt: twelve starts of Python would be most of the test.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["headway.api", "headway.attention", "headway.models", "transformers.models.auto"])

    def start(out: Path):
        options = ("--scores", ",".join(OPTIONS["scores"]), "--loss")
        words = (place / "suite", "--corpus", place / "texts.txt", "--out", out, *options)
        process = context.Process(target=measure_command, args=words)
        process.start()
        return process

    moments = random.Random(7)
    resumed = RunDirectory(place / "resumed")
    in_work = half_written = 0
    for kill in range(KILLS):
        done, abandoned = len(files(resumed, "*.parquet")), files(resumed, ".*.tmp")
        process = start(resumed.path)
        more = moments.randint(0, 2)  # so many checkpoints are finished first, then any moment of the next
        while process.is_alive() and len(files(resumed, "*.parquet")) < done + more:
            time.sleep(0.002)
        if kill % 4 == 3:  # some while a part is being written, which is over in a moment
            while process.is_alive() and not files(resumed, ".*.tmp") - abandoned:
                pass
        else:
            time.sleep(moments.uniform(0, 0.15 if more else 1.5))
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        in_work += len(files(resumed, "*.parquet")) < CHECKPOINTS
        half_written += len(files(resumed, ".*.tmp")) > 0
    assert in_work == KILLS  # every one of them hit an unfinished sweep
    assert len(resumed.partitions(TABLES[-1])) > 0  # and what earlier ones finished was kept
    assert half_written > 0  # what such kills leave is removed by the sweeps that follow: see below

    last = start(resumed.path)
    last.join()
    assert last.exitcode == 0
    assert_same(resumed, whole)
    assert [one.damaged for one in sweep.status(resumed, verify=True)] == [{}, {}]
    assert not list(resumed.path.rglob("*.tmp"))


def test_a_worker_is_killed(place, whole):
    directory = RunDirectory(place / "worker")
    killed = []

    def kill_one():
        while len(files(directory, "*.parquet")) < 6:
            time.sleep(0.01)
        killed.append(multiprocessing.active_children()[0])
        killed[0].kill()

    killing = threading.Thread(target=kill_one)
    killing.start()
    summary = measured(place, "worker", executor=sweep.Processes(2))
    killing.join()
    assert killed[0].exitcode == -signal.SIGKILL
    assert (summary.done, summary.failed) == (CHECKPOINTS, [])
    assert_same(directory, whole)
