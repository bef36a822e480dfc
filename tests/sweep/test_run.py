"""A sweep is done wholly, once, whatever happens to single checkpoints, workers, files or the sweep itself."""

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from importlib import import_module
from pathlib import Path

import pytest
import torch

from headway import sweep
from headway.errors import RunDirectoryError, SelectionError, StorageError, UsageError
from headway.models import require_dtype
from headway.store.directory import RunDirectory
from support_disk import leave_free
from support_sweep import Allotted, Squares, Threads, expected, found, grid


@pytest.fixture
def directory(tmp_path):
    return RunDirectory(tmp_path / "out")


def executors():
    return [pytest.param(sweep.InProcess(), id="in-process"), pytest.param(sweep.Processes(2), id="processes")]


@pytest.mark.parametrize("executor", executors())
def test_every_checkpoint_has_its_partition(directory, executor):
    summary = sweep.run(Squares(), grid(), directory, executor=executor)
    assert (summary.done, summary.reused, summary.failed) == (10, 0, [])
    assert found(directory.read("heads")) == expected(grid())
    assert directory.manifest().tables["heads"].checkpoints == sorted(c.key for c in grid())


def test_an_object_store_does_for_a_directory():
    directory = RunDirectory("memory://sweep/out")
    sweep.run(Squares(), grid(), directory)
    assert sweep.run(Squares(), grid(), directory).reused == 10
    assert [(state.done, state.damaged) for state in sweep.status(directory)] == [(10, {})]
    sweep.run(Squares(factor=2), grid()[:3], directory, force=True)
    assert found(directory.read("heads")) == expected(grid()[:3], factor=2)


@pytest.mark.parametrize("executor", executors())
def test_a_failed_checkpoint_never_stops_the_others(directory, executor):
    faults = {"toy-1m-seed1@10": "missing", "toy-1m-seed2@40": "bug"}
    summary = sweep.run(Squares(faults=faults), grid(), directory, executor=executor)
    assert summary.done == 8
    assert {o.checkpoint.key: o.kind for o in summary.failed} == {
        "toy-1m-seed1@10": "CheckpointError",
        "toy-1m-seed2@40": "unexpected",
    }
    failures = directory.failures("heads")
    assert failures["toy-1m-seed1@10"]["error"] == "toy-1m-seed1@10: no such revision"
    assert "ZeroDivisionError: a defect" in failures["toy-1m-seed2@40"]["trace"]

    again = sweep.run(Squares(), grid(), directory, executor=executor)
    assert (again.done, again.reused) == (2, 8)
    assert directory.failures("heads") == {}
    assert found(directory.read("heads")) == expected(grid())


def test_finished_partitions_are_not_computed_again(directory):
    sweep.run(Squares(), grid()[:6], directory)
    before = {part.name: part.stat().st_mtime_ns for part in directory.partitions("heads")}
    summary = sweep.run(Squares(), grid(), directory)
    assert (summary.done, summary.reused) == (4, 6)
    assert {name: (directory.path / "heads" / name).stat().st_mtime_ns for name in before} == before


def test_a_sweep_that_computes_nothing_leaves_the_manifest_as_it_is(directory, monkeypatch):
    running = import_module("headway.sweep.run")
    monkeypatch.setattr(running, "now", lambda: "2026-01-01T00:00:00+00:00")
    sweep.run(Squares(), grid()[:6], directory)
    before = directory.manifest_path.read_bytes()
    monkeypatch.setattr(running, "now", lambda: "2026-02-02T00:00:00+00:00")
    monkeypatch.setattr(running, "versions", lambda: {"headway": "a later one"})
    sweep.run(Squares(), grid()[:6], directory)
    assert directory.manifest_path.read_bytes() == before
    sweep.run(Squares(), grid(), directory)
    record = directory.manifest().tables["heads"]
    assert (record.begun[:10], record.continued[:10]) == ("2026-01-01", "2026-02-02")
    assert {"headway": "a later one"} in record.versions


@pytest.mark.parametrize(
    "damage", [lambda data: data[: len(data) // 2], lambda data: data[:80] + bytes([data[80] ^ 255]) + data[81:]]
)
def test_a_damaged_partition_is_found_and_computed_again(directory, damage):
    sweep.run(Squares(), grid(), directory)
    part = directory.partitions("heads")[3]
    part.write_bytes(damage(part.read_bytes()))
    with pytest.raises(StorageError, match="is damaged"):
        directory.read("heads")
    [state] = sweep.status(directory, verify=True)
    assert list(state.damaged) == [part.name]
    assert (state.done, state.left) == (9, 1)
    assert sweep.run(Squares(), grid(), directory).done == 1
    assert found(directory.read("heads")) == expected(grid())


def test_another_job_is_refused_unless_forced(directory):
    sweep.run(Squares(), grid(), directory)
    with pytest.raises(RunDirectoryError, match=r"factor: 1 there, 2 now.*--force"):
        sweep.run(Squares(factor=2), grid()[:2], directory)
    assert found(directory.read("heads")) == expected(grid())
    sweep.run(Squares(factor=2), grid()[:2], directory, force=True)
    # What the first job left must not stand beside the second's.
    assert found(directory.read("heads")) == expected(grid()[:2], factor=2)


def test_no_checkpoints_is_an_error(directory):
    with pytest.raises(SelectionError, match="no checkpoint"):
        sweep.run(Squares(), [], directory)
    assert not directory.path.exists()


def test_names_cannot_leave_the_directory(directory):
    checkpoint = grid()[0]
    for name in ("../evil", "a/b", ".hidden", ""):
        bad = type(checkpoint)(**{**vars(checkpoint), "run": name})
        with pytest.raises(RunDirectoryError, match="cannot be part of a file name"):
            sweep.run(Squares(), [bad], directory)
    assert not directory.path.exists()


def test_a_worker_that_dies_is_replaced(directory, tmp_path):
    job = Squares(faults={"toy-1m-seed1@20": "dies once"}, marks=str(tmp_path))
    summary = sweep.run(job, grid(), directory, executor=sweep.Processes(2))
    assert (summary.done, summary.failed) == (10, [])
    assert found(directory.read("heads")) == expected(grid())


def test_a_checkpoint_that_kills_its_workers_is_given_up(directory, tmp_path):
    job = Squares(faults={"toy-1m-seed1@20": "dies always"}, marks=str(tmp_path))
    summary = sweep.run(job, grid(), directory, executor=sweep.Processes(1))
    # Its neighbour in the same worker's hands may go down with it; every other checkpoint is done.
    assert "toy-1m-seed1@20" in {o.checkpoint.key for o in summary.failed}
    assert len(summary.failed) <= 2
    assert summary.done == 10 - len(summary.failed)
    assert "died 3 times (signal 9)" in directory.failures("heads")["toy-1m-seed1@20"]["error"]


def test_workers_keep_to_the_gpus_that_were_allotted(directory, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5, GPU-8a4c")
    sweep.run(Allotted(seconds=0.2), grid(), directory, executor=sweep.Processes(2, gpus=2))
    assert set(directory.read("heads")["CUDA_VISIBLE_DEVICES"]) == {"5", "GPU-8a4c"}


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity") or os.cpu_count() == 1, reason="there is nothing to allot")
def test_workers_keep_to_the_cores_that_were_allotted(directory):
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        sweep.run(Allotted(), grid()[:1], directory, executor=sweep.Processes(1))
    finally:
        os.sched_setaffinity(0, cores)
    assert set(directory.read("heads")["OMP_NUM_THREADS"]) == {"1"}


@pytest.fixture
def two_threads():
    """torch computes with two threads, even where the tests have one each."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_one_thread_computes_on_all_cores_and_those_that_read_take_one(directory, two_threads):
    job = Threads()
    sweep.run(job, grid(), directory)
    assert len({thread for thread, _ in job.computed}) == 1
    assert {cores for _, cores in job.computed} == {torch.get_num_threads()}
    reading = [cores for thread, cores in job.read_by if thread != job.computed[0][0]]
    assert len(reading) == 9, "the first is read where it is computed, while torch is imported"
    assert set(reading) == {1}


SWEEP = """
import sys
sys.path.insert(0, sys.argv[2])
from support_disk import leave_free
from support_sweep import Allotted, Squares, grid
from headway import sweep
from headway.store.directory import RunDirectory
sweep.run(Squares(seconds=float(sys.argv[3])), grid(4, 10), RunDirectory(sys.argv[1]))
"""


def start(directory: RunDirectory, seconds: float, **options) -> subprocess.Popen:
    words = [sys.executable, "-c", SWEEP, str(directory.path), str(Path(__file__).parents[1]), str(seconds)]
    return subprocess.Popen(words, **options)


def test_two_sweeps_into_one_directory(directory):
    both = [start(directory, 0.01), start(directory, 0.01)]
    assert [process.wait() for process in both] == [0, 0]
    assert found(directory.read("heads")) == expected(grid(4, 10))
    assert not list(directory.path.rglob("*.tmp"))


def test_a_sweep_stops_where_another_takes_its_table(directory):
    process = start(directory, 0.02, stderr=subprocess.PIPE)
    while len(directory.partitions("heads")) < 3:
        time.sleep(0.01)
    sweep.run(Squares(factor=2), grid(4, 10)[:7], directory, force=True)
    _, said = process.communicate()
    assert process.returncode != 0
    assert "RunDirectoryError: another command replaced the table 'heads'" in said.decode()
    assert found(directory.read("heads")) == expected(grid(4, 10)[:7], factor=2)
    [state] = sweep.status(directory)
    assert (state.done, state.planned, state.damaged) == (7, 7, {})


@pytest.mark.parametrize("executor", executors())
def test_every_executor_stops_where_another_takes_its_table(directory, executor):
    faults = {"toy-1m-seed1@20": "taken"}
    with pytest.raises(RunDirectoryError, match="another command replaced the table"):
        sweep.run(Squares(faults=faults, marks=str(directory.path)), grid(), directory, executor=executor)
    assert not directory.partitions("heads")


def test_failures_of_another_job_are_not_this_one_s(directory):
    sweep.run(Squares(faults={"toy-1m-seed1@10": "missing"}), grid(), directory)
    sweep.run(Squares(factor=2), grid()[:1], directory, force=True)
    assert directory.failures("heads") == {}


def test_ctrl_c_finishes_what_is_in_hand_and_can_be_resumed(directory):
    process = start(directory, 0.05)
    while not directory.partitions("heads"):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    assert process.wait() != 0
    done = directory.read("heads")
    assert 0 < len(found(done)) < 40
    sweep.run(Squares(), grid(4, 10), directory)
    assert found(directory.read("heads")) == expected(grid(4, 10))


@pytest.mark.parametrize("executor", executors())
def test_a_full_disk_stops_the_sweep_and_loses_nothing(small_disk, executor):
    directory = RunDirectory(small_disk / "out")
    ballast = leave_free(small_disk, 60 * 1024)
    with pytest.raises(StorageError, match="No space left on device"):
        sweep.run(Squares(), grid(4, 10), directory, executor=executor)
    done = found(directory.read("heads"))
    assert 0 < len(done) < 40
    assert done.items() <= expected(grid(4, 10)).items()
    assert not list(directory.path.rglob("*.tmp"))
    ballast.unlink()
    assert sweep.run(Squares(), grid(4, 10), directory, executor=executor).reused == len(done)
    assert found(directory.read("heads")) == expected(grid(4, 10))


def test_a_read_only_place_is_an_error_that_names_it(small_disk):
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(StorageError, match=r"out.*cannot be written to.*--out"):
        sweep.run(Squares(), grid(), RunDirectory(small_disk / "out"))


def redate(parts: list[Path], seconds: float) -> None:
    for part in parts:
        os.utime(part, (time.time() + seconds, time.time() + seconds))


def test_a_clock_that_jumps_does_not_disturb(directory):
    """No rate is above that of the work itself: a part took 50 ms of a clock that does not jump."""
    sweep.run(Squares(seconds=0.05), grid()[:5], directory)
    day = 24 * 3600
    parts = directory.partitions("heads")
    for jumped, n_told in [(parts[:0], 5), (parts[:4], 1), (parts, 0)]:
        for jump in (day, -day):
            redate(parts, 0)
            redate(jumped, jump)
            [state] = sweep.status(directory)
            assert state.done == 5
            assert (state.rate > 0) == (n_told > 0)
            assert state.rate <= n_told / 0.05
    assert sweep.run(Squares(), grid(), directory).reused == 5


def test_status_counts_what_is_left(directory):
    sweep.run(Squares(faults={"toy-1m-seed1@10": "missing"}), grid(), directory)
    directory.partitions("heads")[0].unlink()
    [state] = sweep.status(directory)
    assert (state.planned, state.done, len(state.failed), state.left) == (10, 8, 1, 1)


def test_failures_that_were_cut_short_are_read_as_far_as_they_are_whole(directory):
    faults = {"toy-1m-seed1@10": "missing", "toy-1m-seed2@20": "missing"}
    sweep.run(Squares(faults=faults), grid(), directory)
    path = directory.failures_path
    path.write_bytes(path.read_bytes()[:-9])
    [state] = sweep.status(directory)
    assert list(state.failed) == ["toy-1m-seed1@10"]
    assert state.left == 1
    sweep.run(Squares(faults=faults), grid(), directory)
    assert sorted(directory.failures("heads")) == sorted(faults)


def test_status_of_something_else_is_an_error(tmp_path):
    with pytest.raises(RunDirectoryError, match=r"is not a run directory"):
        sweep.status(RunDirectory(tmp_path))
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(StorageError, match="cannot be read as JSON"):
        sweep.status(RunDirectory(tmp_path))
    (tmp_path / "manifest.json").write_text(json.dumps({"name": "another tool's"}))
    with pytest.raises(RunDirectoryError, match="was not written by headway"):
        sweep.status(RunDirectory(tmp_path))


MANIFESTS = {
    "[]": "it holds no JSON object but \\[\\]",
    '{"tables": ["heads"]}': "its `tables` are no object",
    '{"tables": {"heads": "ours"}}': "the table 'heads' lacks its `identity`",
    '{"tables": {"heads": {"checkpoints": []}}}': "the table 'heads' lacks its `identity`",
    '{"tables": {"heads": {"identity": {}}}}': "the table 'heads' lacks its `checkpoints`",
}


@pytest.mark.parametrize("text", MANIFESTS)
def test_a_manifest_that_is_no_manifest_is_named_and_what_was_made_is_kept_without_it(tmp_path, text):
    directory = RunDirectory(tmp_path)
    sweep.run(Squares(), grid(), directory)
    directory.manifest_path.write_text(text)
    words = f"manifest.json is not as headway writes it: {MANIFESTS[text]}.*Restore a copy of it, or rename it and run"
    for use in (directory.manifest, lambda: sweep.status(directory), lambda: sweep.run(Squares(), grid(), directory)):
        with pytest.raises(StorageError, match=words):
            use()
    assert directory.manifest_path.read_text() == text
    directory.manifest_path.unlink()
    assert sweep.run(Squares(), grid(), directory).reused == len(grid())


def test_a_kept_worker_is_asked(tmp_path):
    with sweep.Processes(2) as workers:
        pids = [worker.process.pid for worker in workers._kept.values()]
        assert sweep.ask(workers, os.getpid) == pids[0]
        # It has imported what takes seconds before there is work.
        assert sweep.ask(workers, partial(eval, "'transformers.modeling_utils' in __import__('sys').modules"))
        with pytest.raises(UsageError, match="unknown dtype 'int8'"):
            sweep.ask(workers, partial(require_dtype, "int8"))
        with pytest.raises(RuntimeError, match="ZeroDivisionError"):
            sweep.ask(workers, partial(divmod, 1, 0))
        assert sweep.run(Squares(), grid(), RunDirectory(tmp_path), executor=workers).done == len(grid())
        workers._kept[0].process.kill()
        workers._kept[0].process.join()
        assert sweep.ask(workers, os.getpid) == os.getpid()
    for executor in (None, sweep.InProcess(), sweep.Processes(2)):
        assert sweep.ask(executor, os.getpid) == os.getpid()


def test_nobody_waits_for_workers_that_hold_nothing():
    """They import torch and transformers for seconds, which is not waited for."""
    with sweep.Processes(2) as workers:
        processes = [worker.process for worker in workers._kept.values()]
    assert [process.exitcode for process in processes] == [-signal.SIGTERM] * 2


def test_kept_workers_do_one_sweep_after_another(tmp_path):
    """And a worker that dies is replaced also in a later one."""
    with sweep.Processes(2) as workers:
        before = {worker.process.pid for worker in workers._kept.values()}
        for name in ("one", "two"):
            summary = sweep.run(Squares(), grid(), RunDirectory(tmp_path / name), executor=workers)
            assert (summary.done, summary.failed) == (len(grid()), [])
        assert {worker.process.pid for worker in workers._kept.values()} == before
        next(iter(workers._kept.values())).process.kill()
        assert sweep.run(Squares(), grid(), RunDirectory(tmp_path / "three"), executor=workers).done == len(grid())
        after = {worker.process for worker in workers._kept.values()}
        assert len(after) == 2
    assert not any(process.is_alive() for process in after)
