"""Files are whole or absent, and what killed processes left half-written is told from what is being written."""

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import polars as pl
import pytest

from headway.errors import RunDirectoryError, StorageError
from headway.store import RunDirectory, TableRecord, files
from headway.store.directory import fingerprint
from headway.store.files import remove_abandoned, write_whole

WRITER = """
import sys, time
from contextlib import contextmanager
from pathlib import Path
from headway.store.files import write_whole

@contextmanager
def forever():
    print("written", flush=True)
    time.sleep(600)
    yield

write_whole(Path(sys.argv[1]), b"half", under=forever())
"""


def test_leftovers_of_a_killed_process_are_removed_but_not_files_being_written(tmp_path):
    (tmp_path / ".other.tmp").touch()  # of an unknown program, that does not hold it
    (tmp_path / ".hidden").touch()
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, tmp_path / name], stdout=subprocess.PIPE)
        for name in ("killed", "alive")
    ]
    try:
        for writer in writers:
            assert writer.stdout.readline() == b"written\n"
        writers[0].send_signal(signal.SIGKILL)
        writers[0].wait()
        assert sorted(path.name.split(".")[1] for path in tmp_path.glob(".*.tmp")) == ["alive", "killed", "other"]
        remove_abandoned(tmp_path)
        assert [path.name.split(".")[1] for path in tmp_path.iterdir() if path.suffix == ".tmp"] == ["alive"]
        assert (tmp_path / ".hidden").exists()
    finally:
        for writer in writers:
            writer.kill()
            writer.wait()
            writer.stdout.close()
    write_whole(tmp_path / "killed", b"whole")
    remove_abandoned(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".hidden", "killed"]


def test_threads_that_write_leave_the_permissions_of_new_files_as_they_were():
    before, interval = os.umask(0o027), sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # threads change places between any two lines
    try:
        with ThreadPoolExecutor(8) as threads:
            found = set(threads.map(lambda _: files._umask(), range(5_000)))
        assert found == {0o027}
        assert os.umask(0o027) == 0o027
    finally:
        sys.setswitchinterval(interval)
        os.umask(before)


def test_partitions_that_are_written_together_need_the_claim_on_their_table(tmp_path):
    rundir, identity = RunDirectory(tmp_path / "run"), {"imported": "a"}
    parts = {("r-seed1", step): pl.DataFrame({"run": ["r-seed1"], "step": [step]}) for step in range(20)}
    with pytest.raises(StorageError):
        rundir.write_partitions("heads", parts, {"job": fingerprint(identity)})
    with rundir.changing_manifest() as manifest:
        manifest.tables["heads"] = TableRecord(identity, [f"r-seed1@{step}" for step in range(20)])
    with pytest.raises(RunDirectoryError, match="another command replaced the table"):
        rundir.write_partitions("heads", parts, {"job": "of another"})
    assert rundir.partitions("heads") == []
    rundir.write_partitions("heads", parts, {"job": fingerprint(identity)})
    assert rundir.read("heads")["step"].sort().to_list() == list(range(20))
