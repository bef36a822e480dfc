"""Files that do not belong: a lost manifest, renamed and copied parts, a directory that is deleted while it is written."""

import errno
import json
import os
import shutil
import threading
import time

import fsspec
import polars as pl
import pytest

from headway import sweep
from headway.errors import RunDirectoryError, StorageError
from headway.store import RunDirectory, TableRecord
from support_sweep import Squares, expected, found, grid

ROW = pl.DataFrame({"x": [1.0]})


@pytest.fixture
def directory(tmp_path):
    return RunDirectory(tmp_path / "out")


@pytest.fixture
def done(directory):
    """A directory with the finished sweep of `Squares()`."""
    sweep.run(Squares(), grid(), directory)
    return directory


def files(directory):
    return {path: path.read_bytes() for path in directory.path.rglob("*") if path.is_file()}


# --- a lost manifest ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("manifest", [None, {}, {"tables": {}}])
def test_partitions_of_another_job_are_never_overwritten_without_a_manifest(done, manifest):
    done.manifest_path.unlink()
    if manifest is not None:
        done.manifest_path.write_text(json.dumps(manifest))
    before = files(done)
    with pytest.raises(RunDirectoryError, match=r"10 of 10 partitions in .*heads were computed from another .*--force"):
        sweep.run(Squares(factor=2), grid(), done)
    assert files(done) == before
    assert sweep.run(Squares(factor=2), grid(), done, force=True).done == 10


def test_partitions_of_the_same_job_are_reused_without_a_manifest(done):
    done.manifest_path.unlink()
    with pytest.raises(RunDirectoryError, match=r"holds heads but no manifest\.json.*reuse finished partitions"):
        done.require()
    assert (sweep.run(Squares(), grid(), done).reused, done.manifest().tables["heads"].identity["factor"]) == (
        10,
        1,
    )


def test_partitions_of_two_jobs_are_never_read_together(done, tmp_path):
    other = RunDirectory(tmp_path / "other")
    sweep.run(Squares(factor=2), grid(), other)
    name = "toy-1m-seed2@40.parquet"
    shutil.copy(other.path / "heads" / name, done.path / "heads" / name)
    done.manifest_path.write_text('{"tables": {}}')
    with pytest.raises(RunDirectoryError, match=f"1 of 10 partitions .* such as {name}"):
        done.read("heads")


def test_a_copied_partition_of_another_job_refuses_the_sweep(done, tmp_path):
    other = RunDirectory(tmp_path / "other")
    sweep.run(Squares(factor=2), grid(), other)
    name = "toy-1m-seed2@40.parquet"
    shutil.copy(other.path / "heads" / name, done.path / "heads" / name)
    with pytest.raises(RunDirectoryError, match=f"such as {name}"):
        sweep.run(Squares(), grid(), done)
    assert sweep.run(Squares(), grid(), done, force=True).reused == 9
    assert found(done.read("heads")) == expected(grid())


# --- parts under other names ----------------------------------------------------------------------------------------


def test_a_renamed_partition_stands_for_no_checkpoint(done):
    heads = done.path / "heads"
    (heads / "toy-1m-seed1@0.parquet").rename(heads / "toy-1m-seed2@0.parquet")
    (state,) = sweep.status(done)
    assert (state.done, list(state.damaged)) == (8, ["toy-1m-seed2@0.parquet"])
    with pytest.raises(StorageError, match="holds toy-1m-seed1@0, not toy-1m-seed2@0: the file was renamed or copied"):
        done.read("heads")
    assert sweep.run(Squares(), grid(), done).done == 2
    assert found(done.read("heads")) == expected(grid())


def test_copies_of_a_file_sync_are_no_partitions(done):
    heads = done.path / "heads"
    for name in ("toy-1m-seed1@0 (1).parquet", "toy-1m-seed1@0.sync-conflict.parquet"):
        shutil.copy(heads / "toy-1m-seed1@0.parquet", heads / name)
    (state,) = sweep.status(done)
    assert (state.done, len(state.damaged)) == (10, 2)
    assert found(done.read("heads")) == expected(grid())
    assert sweep.run(Squares(), grid(), done).reused == 10


def test_a_pipe_in_place_of_a_partition_is_no_partition(done):
    part = done.partition_path("heads", "toy-1m-seed1", 0)
    part.unlink()
    os.mkfifo(part)  # reading it would wait for ever
    (state,) = sweep.status(done)
    assert "named pipe" in state.damaged[part.name]
    with pytest.raises(StorageError, match="named pipe"):
        done.read("heads")
    assert sweep.run(Squares(), grid(), done).done == 1
    assert found(done.read("heads")) == expected(grid())


@pytest.mark.parametrize("name", ["manifest.json", "failures.jsonl"])
def test_a_pipe_in_place_of_another_file_is_not_waited_for(done, name):
    (done.path / name).unlink(missing_ok=True)
    os.mkfifo(done.path / name)
    if name == "failures.jsonl":
        assert done.failures("heads") == {}
    else:
        with pytest.raises(StorageError, match="named pipe"):
            done.manifest()


# --- files of another shape -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line", ["3", "[]", "null", '{"table": "heads"}', '{"table": 1, "checkpoint": [], "error": {}}', "[" * 100_000]
)
def test_a_failure_of_another_shape_is_passed_over(done, line):
    own = {"table": "heads", "checkpoint": "toy-1m-seed3@0", "error": "it is gone"}
    done.failures_path.write_text(f"{line}\n{json.dumps(own)}\n{line}")
    done.add_failure({**own, "checkpoint": "toy-1m-seed3@10"})
    assert list(done.failures("heads")) == ["toy-1m-seed3@0", "toy-1m-seed3@10"]


def in_table(**changes):
    return {"tables": {"heads": {"identity": {}, "checkpoints": [], **changes}}}


@pytest.mark.parametrize(
    "manifest",
    [
        [],
        {"tables": []},
        {"tables": {"heads": 1}},
        in_table(identity=None),
        in_table(checkpoints=[1]),
        in_table(versions={"torch": "2"}),
        in_table(versions=["2"]),
        in_table(sources={"a": 1}),
        in_table(commits=[]),
        in_table(begun=7),
    ],
)
def test_a_manifest_of_another_shape_is_named(done, manifest):
    done.manifest_path.write_text(json.dumps(manifest))
    for use in (done.manifest, lambda: sweep.status(done), lambda: sweep.run(Squares(), grid(), done)):
        with pytest.raises(StorageError, match=r"manifest\.json is not as headway writes it: .*Restore a copy"):
            use()


# --- a directory that goes away -------------------------------------------------------------------------------------


@pytest.mark.parametrize("gone", ["", "heads", "manifest.json"])
@pytest.mark.parametrize("faults", [{}, {"toy-1m-seed2@40": "missing"}], ids=["all well", "one fails"])
def test_a_sweep_whose_directory_is_deleted_does_not_end_well(directory, gone, faults):
    def delete():
        while len(directory.partitions("heads")) < 3:
            time.sleep(0.005)
        place = directory.path / gone
        shutil.rmtree(place) if place.is_dir() else place.unlink()

    deleting = threading.Thread(target=delete)
    deleting.start()
    with pytest.raises(StorageError, match=r"was deleted or moved|are no longer there"):
        sweep.run(Squares(seconds=0.05, faults=faults), grid(), directory)
    deleting.join()
    if not gone:
        assert not directory.path.exists(), "it does not come back half full"


def test_workers_that_do_not_share_the_place_do_not_end_well():
    fsspec.filesystem("memory").rm("/alone", recursive=True) if fsspec.filesystem("memory").exists("/alone") else None
    with pytest.raises(StorageError, match=r"was deleted or moved|do not share this place"):
        sweep.run(Squares(), grid(1, 2), RunDirectory("memory://alone"), executor=sweep.Processes(1))


# --- a file system without locks ------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_warned_of(directory, monkeypatch, number):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.warns(UserWarning, match="has no file locks. Run one command at a time"):
        assert sweep.run(Squares(), grid(), directory).done == 10
    assert found(directory.read("heads")) == expected(grid())


# --- cost -----------------------------------------------------------------------------------------------------------


def test_writing_a_partition_reads_the_manifest_once_however_many_there_are(directory, monkeypatch):
    reads = []
    manifest = RunDirectory.manifest
    sweep.run(Squares(), grid(1, 1), directory)
    job = directory.claimed("heads")
    fresh = RunDirectory(directory.path)
    monkeypatch.setattr(RunDirectory, "manifest", lambda self: reads.append(1) or manifest(self))
    for step in range(100):
        fresh.write_partition("heads", "toy-1m-seed1", step, ROW, {"job": job})
    assert len(reads) == 1
    with fresh.changing_manifest() as changed:
        changed.tables["heads"] = TableRecord({"factor": 3}, [])
    with pytest.raises(RunDirectoryError, match="another command replaced the table"):
        fresh.write_partition("heads", "toy-1m-seed1", 0, ROW, {"job": job})


def test_failures_are_appended(done):
    for number in range(3):
        before = done.failures_path.stat().st_ino if number else None
        done.add_failure({"table": "heads", "checkpoint": f"toy-1m-seed3@{number}", "error": "it is gone"})
        assert before in (None, done.failures_path.stat().st_ino), "the file was written anew"
    assert len(done.failures("heads")) == 3
    assert done.failures_path.read_text().count("\n") == 3


def test_a_table_that_is_stored_again_is_left_alone(directory):
    frame = pl.DataFrame({"run": ["a", "a", "b"], "step": [0, 1, 1], "x": [1.0, 2, 3]})
    sweep.store(frame, "heads", directory, identity={"file": 1})
    assert sweep.stored_rows("heads", directory, {"file": 1}) == 3
    assert sweep.stored_rows("heads", directory, {"file": 2}) is None
    directory.partition_path("heads", "b", 1).write_bytes(b"PAR1")
    assert sweep.stored_rows("heads", directory, {"file": 1}) is None
    sweep.store(frame, "heads", directory, identity={"file": 1})
    assert directory.read("heads")["x"].to_list() == [1, 2, 3]


# --- settings that differ between the steps of a run ----------------------------------------------------------------


def with_settings(directory, settings):
    for (run, step), own in settings.items():
        directory.write_partition("heads", run, step, ROW, {"settings": json.dumps(own)})
    return sweep.differing_settings(directory, "heads")


def test_settings_that_differ_are_named_with_their_steps(directory):
    early, late = {"rope_theta": 1e4, "tokenizer": "a" * 64}, {"rope_theta": 5e5, "tokenizer": "a" * 64}
    (said,) = with_settings(directory, {("r1", 0): early, ("r1", 8): early, ("r1", 16): late, ("r2", 0): late})
    assert said == (
        "r1: rope_theta differs between steps (10000.0 at 2 steps (0, 8); 500000.0 at 1 step (16)), so these steps are "
        "not comparable. Leave some out with --where"
    )


def test_equal_settings_are_not_named(directory):
    same = {"a": [1, {"b": None}]}
    assert with_settings(directory, {("r1", 0): same, ("r1", 8): same, ("r2", 0): {"a": 2}}) == []
    directory.partition_path("heads", "r1", 8).write_bytes(b"PAR1")
    assert sweep.differing_settings(directory, "heads") == []
